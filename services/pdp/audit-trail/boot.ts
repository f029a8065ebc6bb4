import { SYSTEM_TENANT } from '../../shared/contracts/tenant.ts';
import { AppError } from '../../shared/contracts/errors.ts';
import { sha256Hex } from '../../shared/contracts/bytes.ts';
import { LIMITS } from '../../shared/contracts/decision.ts';
import { newUuidV7 } from '../../shared/contracts/uuid.ts';
import type { EventType, RecoveredStream } from '../../shared/contracts/events.ts';
import type { SegmentSummary } from '../../shared/spool/segments.ts';
import type { SpoolWriter } from '../../shared/spool/writer.ts';
import { eventText, signedEventText, type Head, type Position } from './event-text.ts';
import type { Identity } from './slot.ts';

/** One tenant's stream in this boot. */
export interface Stream {
  readonly tenant: string;
  /** The last number that was taken; 0 before the first. */
  sequence: bigint;
  previous: string;
  /** The last event that is not a heartbeat, and the last heartbeat; -Infinity before. */
  lastEventMs: number;
  lastBeatMs: number;
  idle: boolean;
}

/** Where an event came to lie. */
export interface Appended {
  /** Its number in the spool. */
  readonly number: bigint;
  readonly sequence: string;
}

export interface Boot {
  readonly identity: Identity;
  /** Decimal. */
  readonly boot: string;
  readonly writer: SpoolWriter;
  readonly streams: ReadonlyMap<string, Stream>;
  /**
   * Numbers and appends an event of this tenant. Throws `spool_full`, `spool_failed`, `event_too_large`, and then
   * no number was taken.
   */
  readonly append: (tenant: string, head: Head, members: string) => Appended;
  readonly heartbeat: (
    tenant: string,
    state: 'active' | 'idle' | 'final',
    nowMs: number,
    recovered?: readonly RecoveredStream[],
  ) => void;
}

/** Holds one event while it is hashed and copied into the spool; no UTF-16 unit is more than three bytes. */
const scratch = Buffer.allocUnsafeSlow(3 * LIMITS.eventBytes);

const NO_DIGEST = '0'.repeat(64);
const SIGNED: ReadonlySet<EventType> = new Set(['edict.start.v1', 'edict.heartbeat.v1']);
/** Who may use `spool.reserve`. */
const RESERVE: ReadonlySet<EventType> = new Set([
  'edict.start.v1',
  'edict.heartbeat.v1',
  'edict.refusals.v1',
  'edict.lost.v1',
]);

/**
 * One life of an emitter: numbers and previous digests by tenant. `suppressed` holds by tenant how many refusals could
 * not be written; the next event of the tenant names the count and takes it out.
 */
export const createBoot = (options: {
  readonly identity: Identity;
  readonly boot: bigint;
  readonly writer: SpoolWriter;
  readonly suppressed: Map<string, number>;
}): Boot => {
  const { identity, writer, suppressed } = options;
  const boot = options.boot.toString();
  const streams = new Map<string, Stream>();

  const append: Boot['append'] = (tenant, head, members) => {
    const stream = streams.get(tenant) ?? {
      tenant,
      sequence: 0n,
      previous: NO_DIGEST,
      lastEventMs: Number.NEGATIVE_INFINITY,
      lastBeatMs: Number.NEGATIVE_INFINITY,
      idle: false,
    };
    const next = stream.sequence + 1n;
    const position: Position = {
      tenant,
      emitter: identity.emitter,
      boot,
      sequence: next.toString(),
      previous: stream.previous,
      suppressed: suppressed.get(tenant) ?? 0,
    };
    const text = SIGNED.has(head.type)
      ? signedEventText(head, position, members, identity.key)
      : eventText(head, position, members);
    // No UTF-16 unit is less than a byte.
    const eventBytes = text.length > LIMITS.eventBytes ? Buffer.byteLength(text, 'utf8') : scratch.write(text, 'utf8');
    if (eventBytes > LIMITS.eventBytes)
      throw new AppError('event_too_large', `the event has ${eventBytes} bytes`, { details: { bytes: eventBytes } });
    const event = scratch.subarray(0, eventBytes);
    const digest = sha256Hex(event);
    const number = writer.append({
      tenant,
      boot: options.boot,
      sequence: next,
      reserve: RESERVE.has(head.type),
      event,
      eventBytes,
      digest,
    });
    // Only now is the number taken: everything above leaves the stream as it was when it throws.
    stream.sequence = next;
    stream.previous = digest;
    if (position.suppressed > 0) suppressed.delete(tenant);
    if (head.type === 'edict.heartbeat.v1') stream.lastBeatMs = head.timeMs;
    else {
      stream.lastEventMs = head.timeMs;
      stream.idle = false;
    }
    if (next === 1n) streams.set(tenant, stream);
    return { number, sequence: position.sequence };
  };

  return {
    identity,
    boot,
    writer,
    streams,
    append,
    heartbeat(tenant, state, nowMs, recovered) {
      const members = JSON.stringify({ state, ...(recovered === undefined ? {} : { recovered }) }).slice(1, -1);
      append(tenant, { id: newUuidV7(nowMs), type: 'edict.heartbeat.v1', timeMs: nowMs }, members);
    },
  };
};

/** The members of a start event. */
export const startMembers = ({ key }: Identity, software: string): string =>
  JSON.stringify({ public_key: key.publicKey.toString('base64'), software }).slice(1, -1);

/** The system tenant's stream carries start events and the emitter's own heartbeat. */
export const EMITTER_TENANT = SYSTEM_TENANT;

/**
 * By tenant, for every tenant that has events in `segments`: the end of each boot that is not acknowledged to it.
 */
export const recoveredStreams = (
  segments: readonly SegmentSummary[],
  isComplete: (boot: bigint, tenant: string, last: bigint) => boolean,
): ReadonlyMap<string, readonly RecoveredStream[]> => {
  const ends = new Map<string, { tenant: string; boot: bigint; last: bigint; digest: string }>();
  for (const { streams } of segments)
    for (const [key, { tenant, boot, last, lastDigest }] of streams)
      ends.set(key, { tenant, boot, last, digest: lastDigest });
  const byTenant = new Map<string, RecoveredStream[]>();
  for (const { tenant, boot, last, digest } of ends.values()) {
    const list = byTenant.get(tenant) ?? [];
    byTenant.set(tenant, list);
    if (!isComplete(boot, tenant, last)) list.push({ boot: boot.toString(), sequence: last.toString(), digest });
  }
  return byTenant;
};
