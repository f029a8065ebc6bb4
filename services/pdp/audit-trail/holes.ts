import { streamKey, type SegmentSummary } from '../../shared/spool/segments.ts';

/** Inclusive. */
export type Range = readonly [from: bigint, to: bigint];

/** What the segments hold of one stream, in order. */
export const heldRanges = (segments: readonly SegmentSummary[], boot: bigint, tenant: string): readonly Range[] => {
  const key = streamKey(boot, tenant);
  const held: Range[] = [];
  for (const { streams } of segments) {
    const stream = streams.get(key);
    if (stream !== undefined) held.push([stream.first, stream.last]);
  }
  return held;
};

/** Parts `wanted` into what is among `held` and what is not. Both are in order. */
export const splitRanges = (
  wanted: readonly Range[],
  held: readonly Range[],
): { readonly present: readonly Range[]; readonly absent: readonly Range[] } => {
  const present: Range[] = [];
  const absent: Range[] = [];
  for (const [from, to] of wanted) {
    let next = from;
    for (const [first, last] of held) {
      if (last < next || first > to) continue;
      if (first > next) absent.push([next, first - 1n]);
      const start = first > next ? first : next;
      const end = last < to ? last : to;
      present.push([start, end]);
      next = end + 1n;
    }
    if (next <= to) absent.push([next, to]);
  }
  return { present, absent };
};

export const contains = (ranges: readonly Range[], sequence: bigint): boolean =>
  ranges.some(([from, to]) => sequence >= from && sequence <= to);
