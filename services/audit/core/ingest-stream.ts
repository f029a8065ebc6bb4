import type { SequenceRange } from '../../shared/contracts/ack.ts';
import type { NumberRange } from './ingest-message.ts';

/** Holes kept apart in one stream; above it the last two become one, and what lay between is asked for again. */
export const MAX_HOLES = 1024;

/** Numbers that are not there, inclusive. */
export interface Hole extends NumberRange {
  /** When it was first seen, Unix milliseconds. */
  readonly sinceMs: number;
  /** The seq of the gap entry that names it. */
  readonly gapSeq?: bigint;
}

export type StreamState = 'active' | 'idle' | 'final' | 'retired';

/** What the ledger has of one stream: every number from 1 to `highest` but the holes. */
export interface Stream {
  readonly tenant: string;
  readonly emitter: string;
  readonly boot: bigint;
  /** The highest number that was received, announced or named; 0 when none was. */
  readonly highest: bigint;
  /** In ascending order, apart from each other. */
  readonly holes: readonly Hole[];
  readonly state: StreamState;
  /** Time of the newest event, by the emitter's clock; undefined when none was received. */
  readonly lastEventMs?: number;
}

/** A stream with what its emitter may give up. */
export interface AckedStream extends Stream {
  /**
   * Everything up to here is covered by a signed checkpoint; where no incarnation of the log has any, is complete, and
   * covered once what was read is flushed.
   */
  readonly coveredTo: bigint;
}

export const streamKey = ({ tenant, emitter, boot }: Pick<Stream, 'tenant' | 'emitter' | 'boot'>): string =>
  `${emitter}/${boot}/${tenant}`;

export const newStream = (tenant: string, emitter: string, boot: bigint): Stream => ({
  tenant,
  emitter,
  boot,
  highest: 0n,
  holes: [],
  state: 'active',
});

/** Every number up to here is there, or named by a lost or retire entry. */
export const completeTo = ({ highest, holes }: Pick<Stream, 'highest' | 'holes'>): bigint => {
  const first = holes[0];
  return first === undefined ? highest : first.from - 1n;
};

/** At most `MAX_HOLES` of them. */
export const joinHoles = (holes: readonly Hole[]): readonly Hole[] => {
  let out = holes;
  while (out.length > MAX_HOLES) {
    const [before, last] = [out.at(-2), out.at(-1)];
    if (before === undefined || last === undefined) break;
    // Only a hole whose every number a gap entry names keeps that name.
    out = [...out.slice(0, -2), { from: before.from, to: last.to, sinceMs: last.sinceMs }];
  }
  return out;
};

/** The stream is known to go up to `end`: what was not seen yet is a hole from now on. */
export const announce = (stream: Stream, end: bigint, nowMs: number): Stream =>
  end <= stream.highest
    ? stream
    : {
        ...stream,
        highest: end,
        holes: joinHoles([...stream.holes, { from: stream.highest + 1n, to: end, sinceMs: nowMs }]),
      };

/** A part of a gap that was filled after the gap entry. */
export interface Healed extends NumberRange {
  readonly gapSeq: bigint;
}

/** Marks the numbers of `range` as there. `healed`: those that a gap entry had named. */
export const fill = (
  stream: Stream,
  { from, to }: NumberRange,
  nowMs: number,
): { readonly stream: Stream; readonly healed: readonly Healed[] } => {
  // The usual case: the next number of a stream without holes behind it.
  if (from === stream.highest + 1n) return { stream: { ...stream, highest: to }, healed: [] };
  const announced = announce(stream, to, nowMs);
  const healed: Healed[] = [];
  const holes: Hole[] = [];
  let changed = announced !== stream;
  for (const hole of announced.holes) {
    if (hole.to < from || hole.from > to) {
      holes.push(hole);
      continue;
    }
    changed = true;
    const filled = { from: hole.from > from ? hole.from : from, to: hole.to < to ? hole.to : to };
    if (hole.gapSeq !== undefined) healed.push({ ...filled, gapSeq: hole.gapSeq });
    if (hole.from < filled.from) holes.push({ ...hole, to: filled.from - 1n });
    if (hole.to > filled.to) holes.push({ ...hole, from: filled.to + 1n });
  }
  return changed ? { stream: { ...announced, holes: joinHoles(holes) }, healed } : { stream, healed };
};

/** The holes that no gap entry names although they are older than the grace time. */
export const overdue = (stream: Stream, nowMs: number, graceMs: number): readonly Hole[] =>
  stream.holes.filter((hole) => hole.gapSeq === undefined && hole.sinceMs + graceMs <= nowMs);

/** Notes that the gap entry `seq` names these holes. */
export const nameHoles = (stream: Stream, named: readonly Hole[], seq: bigint): Stream => ({
  ...stream,
  holes: stream.holes.map((hole) =>
    named.some(({ from, to }) => from === hole.from && to === hole.to) ? { ...hole, gapSeq: seq } : hole,
  ),
});

/** No more is expected of this stream. */
export const retireStream = (stream: Stream): Stream => ({ ...stream, holes: [], state: 'retired' });

export const rangeText = ({ from, to }: NumberRange): SequenceRange => [from.toString(), to.toString()];

/** Ranges in ascending order, those that touch joined. */
export const joinRanges = (ranges: readonly NumberRange[]): readonly NumberRange[] => {
  const out: NumberRange[] = [];
  for (const range of ranges.toSorted((a, b) => (a.from < b.from ? -1 : a.from > b.from ? 1 : 0))) {
    const last = out.at(-1);
    if (last === undefined || last.to + 1n < range.from) out.push(range);
    else out[out.length - 1] = { from: last.from, to: range.to > last.to ? range.to : last.to };
  }
  return out;
};
