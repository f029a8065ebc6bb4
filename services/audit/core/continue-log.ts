import type { Genesis } from './entry.ts';
import type { NumberRange } from './ingest-message.ts';
import { joinHoles, joinRanges, rangeText, type Hole } from './ingest-stream.ts';

/** What an incarnation continues: the log before it, as the database has it or as it was signed. */
export interface ContinuedLog {
  readonly previous: NonNullable<Genesis['previous']>;
  /** Entries of it that lie in this database and in that tree. */
  readonly kept: bigint;
  /** Entries of it that lie in this database. */
  readonly found: bigint;
  /** Newest first. */
  readonly streams: readonly CarriedStream[];
}

/**
 * A stream (emitter and boot) that goes on in the next incarnation: its numbers up to `highest`, but the holes, came
 * before.
 */
export interface CarriedStream {
  readonly emitter: string;
  readonly boot: bigint;
  readonly highest: bigint;
  readonly holes: readonly Hole[];
}

/** Streams that the first entry of an incarnation names; what it does not name is asked for again. */
export const MAX_CARRIED = 20_000;

/**
 * The stream as the next incarnation goes on with it. `lost`: numbers whose entries are not part of what it continues;
 * they are holes from now on, and no hole has a gap entry in the new log yet.
 */
export const carryStream = (stream: CarriedStream, lost: readonly NumberRange[], nowMs: number): CarriedStream => ({
  ...stream,
  holes: joinHoles(joinRanges([...stream.holes, ...lost]).map(({ from, to }) => ({ from, to, sinceMs: nowMs }))),
});

/** The numbers from `first` to `last` that are in none of `ranges`, which are in ascending order and apart. */
export const numbersOutside = (
  { from: first, to: last }: NumberRange,
  ranges: readonly NumberRange[],
): readonly NumberRange[] => {
  const out: NumberRange[] = [];
  let next = first;
  for (const { from, to } of ranges) {
    if (from > next) out.push({ from: next, to: from - 1n });
    next = to + 1n;
  }
  if (next <= last) out.push({ from: next, to: last });
  return out;
};

/** As entry 0 says it: `{emitter, boot, highest, holes: [[from, to], …]}`, numbers as text. */
export const carriedDocument = ({ emitter, boot, highest, holes }: CarriedStream) => ({
  emitter,
  boot: String(boot),
  highest: String(highest),
  holes: holes.map(rangeText),
});
