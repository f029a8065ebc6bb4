import type { Durability } from '../../shared/contracts/decision.ts';
import type { EventType } from '../../shared/contracts/events.ts';

/** An event before it is numbered. */
export interface EventDraft {
  /** A UUIDv7; for a decision, the decision id. */
  readonly id: string;
  readonly type: EventType;
  readonly tenant: string;
  readonly timeMs: number;
  /**
   * The members of `data` after `schema_version`, `nonce`, `tenant` and `emitter`, as JSON text without the
   * braces: `"caller":{…},"input":{…}`. Text, because the policy input was serialised once already.
   */
  readonly members: string;
}

export interface Recorded {
  readonly emitter: string;
  readonly boot: string;
  readonly sequence: string;
  /**
   * Resolves with the level reached, at least the configured one; rejects with `event_not_durable` when it is not
   * reached in time and with `spool_failed` when the write failed.
   */
  readonly durable: Promise<Durability>;
}

/**
 * Takes the next number of the tenant's stream and appends the event. Throws, with no number taken:
 * `spool_full` (spool or tenant quota), `spool_failed` (the boot has ended), `event_too_large` (over 900 kB).
 */
export type RecordEvent = (draft: EventDraft) => Recorded;

/** A request that was turned away before the policy saw it. */
export interface Refusal {
  /** The caller's tenant; the system tenant when the caller is unknown. */
  readonly tenant: string;
  /** The caller's id; `-` when unknown. */
  readonly caller: string;
  readonly code: string;
  readonly status: number;
  readonly bytes: number;
  /** What was read of the body; only its HMAC is kept. */
  readonly body?: Uint8Array;
}

/** Counts a refusal into the refusals event of its caller and second. Never throws. */
export type CountRefusal = (refusal: Refusal) => void;
