import { createNumberSet, type Ranges } from './verify-ranges.ts';
import type { Findings } from './verify-report.ts';

const sizeOf = (ranges: Ranges): bigint => ranges.reduce((sum, [from, to]) => sum + (to - from + 1n), 0n);

/** Payloads that are gone, and the entries that allow it. */
export interface GonePayloads {
  readonly missing: (seq: bigint) => void;
  /** An erasure or retention entry names these; they count as proven once a checkpoint covers it. */
  readonly named: (bySeq: bigint, ranges: Ranges) => void;
  /** Fails what is gone without a reason; how many are gone by entries at or above `coveredSize`. */
  readonly finish: (coveredSize: bigint) => bigint;
  /** All of it, as plain values. */
  readonly save: () => SavedGone;
}

export interface SavedGone {
  readonly missing: Ranges;
  readonly gone: Ranges;
  readonly by: readonly { readonly seq: bigint; readonly ranges: Ranges }[];
}

export const createGonePayloads = (findings: Findings, earlier?: SavedGone): GonePayloads => {
  const missing = createNumberSet(earlier?.missing);
  const gone = createNumberSet(earlier?.gone);
  const by: { readonly seq: bigint; readonly ranges: Ranges }[] = [...(earlier?.by ?? [])];
  return {
    missing: (seq) => void missing.add(seq),
    named: (seq, ranges) => {
      for (const [from, to] of ranges) gone.add(from, to);
      by.push({ seq, ranges });
    },
    save: () => ({ missing: missing.ranges(), gone: gone.ranges(), by: [...by] }),
    finish: (coveredSize) => {
      const proven = createNumberSet();
      for (const { seq, ranges } of by) if (seq < coveredSize) for (const [from, to] of ranges) proven.add(from, to);
      let unproven = 0n;
      for (const [from, to] of missing.ranges()) {
        const unnamed = gone.missing(from, to);
        unproven += sizeOf(proven.missing(from, to)) - sizeOf(unnamed);
        for (const [first, last] of unnamed)
          findings.fail('lifecycle', {
            seq: String(first),
            what: first === last ? 'payload' : `payloads of entries ${first}–${last}`,
            expected: 'there, or named by an erasure or retention entry',
            actual: 'gone, or its key is',
            attack: 'payload_removed',
          });
      }
      findings.count('lifecycle', 'payloads_gone', Number(sizeOf(missing.ranges())));
      return unproven;
    },
  };
};
