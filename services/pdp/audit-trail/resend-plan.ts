import { streamKey } from '../../shared/spool/segments.ts';
import type { AckBook } from './ack-book.ts';
import type { Range } from './holes.ts';

export interface ResendTimings {
  /** How long a hole must stand before it is filled: what is on its way fills it by itself. */
  readonly holeMs: number;
  /** How long after the broker took something the ledger may be silent about it, while it speaks at all. */
  readonly silenceMs: number;
  /** The pause between two sendings of the same doubles up to this. */
  readonly maxPauseMs: number;
}

export const RESEND_TIMINGS: ResendTimings = { holeMs: 2_000, silenceMs: 30_000, maxPauseMs: 600_000 };

/** What is to be sent again of one stream. */
export interface Resend {
  readonly boot: bigint;
  readonly tenant: string;
  readonly ranges: readonly Range[];
}

interface Sent {
  readonly boot: bigint;
  readonly tenant: string;
  /** The highest number that the broker confirmed, and when. */
  to: bigint;
  atMs: number;
  /** Waits to be acknowledged: this number, confirmed at that time. */
  waiting: { readonly to: bigint; readonly atMs: number } | undefined;
  /** Sendings since the ledger last got further. */
  attempts: number;
  nextMs: number;
  progressMs: number;
}

export interface ResendPlan {
  /** The broker confirmed this number. */
  readonly confirmed: (boot: bigint, tenant: string, sequence: bigint, nowMs: number) => void;
  /** What is due now; it counts as sent again from then on. */
  readonly due: (nowMs: number) => readonly Resend[];
  /** Forgets streams that the spool does not hold any more. */
  readonly retain: (isHeld: (boot: bigint, tenant: string) => boolean) => void;
}

/** At most so many numbers of a stream are sent again at once. */
const MAX_NUMBERS = 10_000n;

/**
 * Decides what the relay sends again: the holes that acks name, and what the broker confirmed long ago but the
 * ledger, which is alive, says nothing of – so the loss of an acknowledged last batch heals too.
 */
export const createResendPlan = (emitter: string, acks: AckBook, timings: ResendTimings): ResendPlan => {
  const streams = new Map<string, Sent>();

  const dueOf = (sent: Sent, nowMs: number): readonly Range[] => {
    const ack = acks.of(emitter, sent.boot, sent.tenant);
    const completeTo = ack?.completeTo ?? 0n;
    const progressMs = ack?.progressMs ?? Number.NEGATIVE_INFINITY;
    if (progressMs !== sent.progressMs) {
      sent.progressMs = progressMs;
      sent.attempts = 0;
      sent.nextMs = 0;
    }
    if (sent.to <= completeTo) {
      sent.waiting = undefined;
      return [];
    }
    if (sent.waiting === undefined || sent.waiting.to <= completeTo) sent.waiting = { to: sent.to, atMs: sent.atMs };
    if (nowMs < sent.nextMs) return [];
    const holes = ack?.holes.filter(([from]) => from <= sent.to) ?? [];
    if (ack !== undefined && holes.length > 0) return nowMs - ack.holesMs >= timings.holeMs ? holes : [];
    const since = Math.max(sent.waiting.atMs, progressMs);
    // An audit service that is not there acknowledges nothing at all; sending again would only fill the topic.
    if (nowMs - since < timings.silenceMs || acks.lastHeardMs() <= sent.waiting.atMs) return [];
    return [[completeTo + 1n, sent.to]];
  };

  const bounded = (ranges: readonly Range[]): readonly Range[] => {
    const out: Range[] = [];
    let left = MAX_NUMBERS;
    for (const [from, to] of ranges) {
      if (left <= 0n) break;
      const end = to - from + 1n > left ? from + left - 1n : to;
      out.push([from, end]);
      left -= end - from + 1n;
    }
    return out;
  };

  return {
    confirmed(boot, tenant, sequence, nowMs) {
      const key = streamKey(boot, tenant);
      const sent = streams.get(key);
      if (sent === undefined)
        streams.set(key, {
          boot,
          tenant,
          to: sequence,
          atMs: nowMs,
          waiting: { to: sequence, atMs: nowMs },
          attempts: 0,
          nextMs: 0,
          progressMs: Number.NEGATIVE_INFINITY,
        });
      else if (sequence > sent.to) {
        sent.to = sequence;
        sent.atMs = nowMs;
      }
    },
    due(nowMs) {
      const resends: Resend[] = [];
      for (const sent of streams.values()) {
        const ranges = bounded(dueOf(sent, nowMs));
        if (ranges.length === 0) continue;
        sent.nextMs = nowMs + Math.min(timings.silenceMs * 2 ** sent.attempts, timings.maxPauseMs);
        sent.attempts += 1;
        resends.push({ boot: sent.boot, tenant: sent.tenant, ranges });
      }
      return resends;
    },
    retain(isHeld) {
      for (const [key, { boot, tenant }] of streams) if (!isHeld(boot, tenant)) streams.delete(key);
    },
  };
};
