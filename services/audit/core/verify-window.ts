import { U64_MAX } from '../../shared/contracts/counter.ts';
import type { Covered } from './verify-checkpoints.ts';
import type { VerdictName } from './verify-report.ts';
import { unnamedIn, type Stream } from './verify-streams.ts';

/** Two times of events, Unix milliseconds: from `fromMs` up to `toMs`. */
export interface Window {
  readonly fromMs: number;
  readonly toMs: number;
}

/** Numbers that may belong into the window and have no entry. */
export interface MissingNumbers {
  readonly emitter: string;
  readonly boot: string;
  readonly from: string;
  readonly to: string;
  /** Times of the events around them; null where there is none. */
  readonly after: string | null;
  readonly before: string | null;
  /** `named` by a gap, lost or retire entry; `pending`: not older than the grace time; `unnamed`: a finding. */
  readonly state: 'named' | 'pending' | 'unnamed';
}

/** What can be said of the time between two times, and its limits. */
export interface Statement {
  readonly from: string;
  readonly to: string;
  /** `not_proven`: a verdict that it rests on failed, or no checkpoint covers the log. */
  readonly status: 'nothing_missing' | 'missing' | 'not_proven';
  /** Events with a time in the window, of so many streams. */
  readonly events: number;
  readonly streams: number;
  /** The first ones, at most `MAX_MISSING`. */
  readonly missing: readonly MissingNumbers[];
  /** How many numbers are missing altogether, decimal. */
  readonly missingNumbers: string;
  /** What the statement does not cover, for a person. */
  readonly limits: readonly string[];
}

const MAX_MISSING = 100;
const MAX_OPEN_ENDS = 20;
/** What a complete statement rests on. */
const GROUNDS: readonly VerdictName[] = ['authenticity', 'append_only', 'integrity', 'completeness'];

/** The time of an event in its UUIDv7 (RFC 9562, section 5.7), Unix milliseconds. */
export const timeOfEvent = (eventId: Uint8Array): number =>
  Buffer.from(eventId.buffer, eventId.byteOffset, eventId.length).readUIntBE(0, 6);

const iso = (ms: number): string => new Date(ms).toISOString();
const isoOf = (ms: number | undefined): string | null => (ms === undefined ? null : iso(ms));

/** Whether something between the two times may lie in the window; clocks may have gone back between them. */
const overlaps = ({ fromMs, toMs }: Window, after: number | undefined, before: number | undefined): boolean =>
  Math.max(after ?? Infinity, before ?? Infinity) >= fromMs && Math.min(after ?? -Infinity, before ?? -Infinity) < toMs;

interface Collected {
  readonly missing: MissingNumbers[];
  numbers: bigint;
}

const collect = (window: Window, stream: Stream, isPending: (ingestUs: bigint) => boolean, into: Collected): void => {
  const add = (
    from: bigint,
    to: bigint,
    state: MissingNumbers['state'],
    around: { readonly afterMs: number | undefined; readonly beforeMs?: number },
  ): void => {
    into.numbers += to - from + 1n;
    if (into.missing.length < MAX_MISSING)
      into.missing.push({
        emitter: stream.emitter,
        boot: String(stream.boot),
        from: String(from),
        to: String(to),
        after: isoOf(around.afterMs),
        before: isoOf(around.beforeMs),
        state,
      });
  };
  for (const jump of stream.jumps) {
    if (!overlaps(window, jump.afterMs, jump.beforeMs)) continue;
    for (const [start, end] of stream.seen.missing(jump.from, jump.to))
      for (const [from, to] of stream.wrapped.missing(start, end)) {
        const unnamed = unnamedIn(stream, from, to);
        for (const [first, last] of unnamed) add(first, last, isPending(jump.ingestUs) ? 'pending' : 'unnamed', jump);
        let next = from;
        for (const [first, last] of [...unnamed, [to + 1n, to + 1n] as const]) {
          if (first > next) add(next, first - 1n, 'named', jump);
          next = last + 1n;
        }
      }
  }
  // A lost or retire entry may name numbers behind the last event.
  for (const [from, to] of stream.named.ranges()) {
    const first = from > stream.highest ? from : stream.highest + 1n;
    if (first <= to && to < U64_MAX && overlaps(window, stream.lastMs, undefined))
      add(first, to, 'named', { afterMs: stream.lastMs });
  }
};

/** Streams whose last event came before the window's end, while they were at work: their end is not known. */
const openEnds = (window: Window, streams: readonly Stream[]): readonly string[] => {
  const open = streams.filter(
    ({ lastMs, isAtRest, isEnded, named }) =>
      lastMs !== undefined && lastMs < window.toMs && !isAtRest && !isEnded && (named.max() ?? 0n) < U64_MAX,
  );
  const lines = open
    .slice(0, MAX_OPEN_ENDS)
    .map(
      ({ emitter, boot, highest, lastMs }) =>
        `emitter ${emitter} boot ${boot} was heard last at ${isoOf(lastMs) ?? 'an unknown time'}, with number ${highest}: ` +
        'what it did later and never sent is not known here',
    );
  return open.length > lines.length ? [...lines, `and ${open.length - lines.length} more emitters`] : lines;
};

const coverageLimits = ({ toMs }: Window, covered: Covered, size: bigint): readonly string[] => {
  if (covered.size === 0n) return ['no checkpoint covers this log: nothing of it is signed'];
  const sealedMs = Number(covered.sealedUs / 1_000n);
  if (size === covered.size && toMs <= sealedMs) return [];
  return [
    `signed up to entry ${covered.size - 1n}, sealed at ${iso(sealedMs)}; ` +
      (size > covered.size ? `the ${size - covered.size} entries after it are not` : 'what comes after it is not'),
  ];
};

export const statementOf = (
  window: Window,
  facts: {
    readonly streams: readonly Stream[];
    readonly covered: Covered;
    readonly size: bigint;
    readonly nowUs: bigint;
    readonly graceUs: bigint;
    readonly hasFailed: (verdict: VerdictName) => boolean;
  },
): Statement => {
  const { streams, covered, size, nowUs, graceUs } = facts;
  const collected: Collected = { missing: [], numbers: 0n };
  for (const stream of streams) collect(window, stream, (ingestUs) => nowUs - ingestUs <= graceUs, collected);
  const inside = streams.filter(({ inWindow }) => inWindow > 0);
  const broken = GROUNDS.filter((verdict) => facts.hasFailed(verdict));
  const isProven = broken.length === 0 && covered.size > 0n;
  return {
    from: iso(window.fromMs),
    to: iso(window.toMs),
    status:
      !isProven && collected.numbers === 0n ? 'not_proven' : collected.numbers > 0n ? 'missing' : 'nothing_missing',
    events: inside.reduce((sum, { inWindow }) => sum + inWindow, 0),
    streams: inside.length,
    missing: collected.missing,
    missingNumbers: String(collected.numbers),
    limits: [
      ...(broken.length === 0 ? [] : [`it rests on ${broken.join(', ')}, which failed`]),
      ...coverageLimits(window, covered, size),
      ...(BigInt(window.toMs) * 1_000n > nowUs ? ['the time is not over yet'] : []),
      ...openEnds(window, streams),
      'an emitter that never reached this ledger is not known to it',
    ],
  };
};
