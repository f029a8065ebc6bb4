import { streamKey, type SegmentSummary } from '../../shared/spool/segments.ts';
import type { AckBook } from './ack-book.ts';
import { heldRanges, splitRanges, type Range } from './holes.ts';

export interface LostNumbers {
  /** To be called from time to time; writes a lost event for every hole that nothing can fill. */
  readonly check: (emitter: string, segments: readonly SegmentSummary[], nowMs: number) => void;
  /** Lost events that were written. */
  readonly written: () => number;
}

const MAX_ATTEMPTS = 3;
const PAUSE_MS = 600_000;
const MAX_REMEMBERED = 10_000;

/**
 * A hole that the spool does not hold cannot be sent again. After `graceMs`, in which the broker may still bring it,
 * a lost event names it; again, a few times, should the ledger go on to name the hole.
 */
export const createLostNumbers = (options: {
  readonly acks: AckBook;
  readonly graceMs: number;
  readonly recordLost: (tenant: string, boot: bigint, ranges: readonly Range[]) => boolean;
}): LostNumbers => {
  const named = new Map<string, { attempts: number; nextMs: number }>();
  let written = 0;

  const isDue = (key: string, nowMs: number): boolean => {
    const before = named.get(key);
    return before === undefined || (before.attempts < MAX_ATTEMPTS && nowMs >= before.nextMs);
  };

  return {
    check(emitter, segments, nowMs) {
      for (const ack of options.acks.streams(emitter)) {
        if (ack.holes.length === 0 || nowMs - ack.holesMs < options.graceMs) continue;
        const { absent } = splitRanges(ack.holes, heldRanges(segments, ack.boot, ack.tenant));
        const keyOf = ([from, to]: Range): string => `${emitter}/${streamKey(ack.boot, ack.tenant)}/${from}-${to}`;
        const due = absent.filter((range) => isDue(keyOf(range), nowMs));
        if (due.length === 0 || !options.recordLost(ack.tenant, ack.boot, due)) continue;
        written += 1;
        for (const range of due) {
          const key = keyOf(range);
          named.set(key, { attempts: (named.get(key)?.attempts ?? 0) + 1, nextMs: nowMs + PAUSE_MS });
        }
        for (const key of named.keys()) {
          if (named.size <= MAX_REMEMBERED) break;
          named.delete(key);
        }
      }
    },
    written: () => written,
  };
};
