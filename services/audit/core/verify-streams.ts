import { bytesEqual, hex, ZERO_DIGEST } from '../../shared/contracts/bytes.ts';
import { U64_MAX } from '../../shared/contracts/counter.ts';
import { ENTRY_KINDS, type Entry } from './entry.ts';
import { createNumberSet, type NumberSet, type Ranges } from './verify-ranges.ts';
import type { Findings } from './verify-report.ts';

/** What a database row or an acknowledgement says the ledger has of a stream. */
export interface StreamClaim {
  /** Who says so, e.g. "the stream table". */
  readonly source: string;
  readonly emitter: string;
  readonly boot: bigint;
  /** Numbers up to here were taken in. */
  readonly highest: bigint;
  /** SHA-256 of the event with that number, when the claim knows it. */
  readonly digest?: Uint8Array;
}

/** Where a numbered event lies in the ledger. */
export interface Arrival {
  readonly emitter: string;
  readonly boot: bigint;
  readonly number: bigint;
  readonly seq: bigint;
  readonly ingestUs: bigint;
  /** When the event was made, Unix milliseconds. */
  readonly timeMs: number;
  /** A heartbeat that says that nothing will follow for now, or ever. */
  readonly isAtRest: boolean;
  /** Known when the payload could be opened. */
  readonly link?: { readonly digest: Uint8Array; readonly previous: string | undefined };
}

export interface StreamTracker {
  /** An event's entry. */
  arrived(arrival: Arrival): void;
  /**
   * A quarantined or conflicting message with this number. It takes the number's place, and `digest` its place in the
   * chain, but reveals no hole: its headers are anybody's.
   */
  wrapped(emitter: string, boot: bigint, number: bigint, seq: bigint, digest: Uint8Array | undefined): void;
  /** A gap, lost or retire entry that names these numbers. */
  named(emitter: string, boot: bigint, from: bigint, to: bigint): void;
  /** An entry whose payload is gone: it may have named numbers that nobody can tell any more. */
  unread(entry: Entry): void;
  /** These numbers are the matter of the log before this one, or of the one that continues it. */
  elsewhere(emitter: string, boot: bigint, from: bigint, to: bigint): void;
  /** True when each of these numbers is an entry, or named or carried by one. */
  accounts(emitter: string, boot: bigint, from: bigint, to: bigint): boolean;
  /** A signed heartbeat that says how far an earlier boot went. */
  recovered(claim: StreamClaim, at: { readonly seq: bigint; readonly ingestUs: bigint; readonly timeMs: number }): void;
  readonly streams: () => readonly Stream[];
  /** All of it, as plain values. */
  readonly save: () => SavedStreams;
  finish(options: {
    readonly nowUs: bigint;
    /** How long a missing number may stay unnamed. */
    readonly graceUs: bigint;
    readonly claims: readonly StreamClaim[];
    /** False: there are entries that name numbers, and their payloads were not read. */
    readonly areNamesKnown: boolean;
  }): {
    readonly pending: bigint;
    readonly named: bigint;
    /** Missing, perhaps named by entries whose payloads were not read, or are gone. */
    readonly unexplained: bigint;
  };
}

interface Jump {
  readonly from: bigint;
  readonly to: bigint;
  readonly seq: bigint;
  readonly ingestUs: bigint;
  /** The entry that had the highest number before. */
  readonly after: bigint;
  /** Times of the events before and behind. */
  readonly afterMs: number | undefined;
  readonly beforeMs: number;
}

export interface Stream {
  readonly emitter: string;
  readonly boot: bigint;
  readonly seen: NumberSet;
  readonly named: NumberSet;
  /** Numbers of quarantined and conflicting messages. */
  readonly wrapped: NumberSet;
  /** Numbers of other incarnations. */
  readonly elsewhere: NumberSet;
  readonly jumps: Jump[];
  highest: bigint;
  /** Seq of the entry with the highest number. */
  highestSeq: bigint;
  /** Of the event with the highest number. */
  lastMs: number | undefined;
  isAtRest: boolean;
  /** A later boot said how far this one went. */
  isEnded: boolean;
  /** Events with a time in the window that is asked for. */
  inWindow: number;
  /** Digests of events whose successor has not come yet. */
  readonly digests: Map<bigint, { readonly digest: Uint8Array; readonly seq: bigint }>;
  /** What events say of a predecessor that has not come yet. */
  readonly awaited: Map<bigint, { readonly previous: string; readonly seq: bigint }>;
}

/** Entries that speak of numbers beside their own. */
const NAMING: ReadonlySet<number> = new Set([
  ENTRY_KINDS.gap,
  ENTRY_KINDS.lost,
  ENTRY_KINDS.emitter,
  ENTRY_KINDS.quarantine,
  ENTRY_KINDS.conflict,
]);

type Sets = 'seen' | 'named' | 'wrapped' | 'elsewhere';
type Maps = 'digests' | 'awaited';
export type SavedStream = Omit<Stream, Sets | Maps> & { readonly [N in Sets]: Ranges } & {
  readonly [N in Maps]: readonly (readonly [bigint, Stream[N] extends Map<bigint, infer Value> ? Value : never])[];
};

export interface SavedStreams {
  readonly streams: readonly SavedStream[];
  readonly lastUnread: bigint;
}

const saved = (stream: Stream): SavedStream => ({
  ...stream,
  seen: stream.seen.ranges(),
  named: stream.named.ranges(),
  wrapped: stream.wrapped.ranges(),
  elsewhere: stream.elsewhere.ranges(),
  digests: [...stream.digests],
  awaited: [...stream.awaited],
});

const restored = (stream: SavedStream): Stream => ({
  ...stream,
  seen: createNumberSet(stream.seen),
  named: createNumberSet(stream.named),
  wrapped: createNumberSet(stream.wrapped),
  elsewhere: createNumberSet(stream.elsewhere),
  jumps: [...stream.jumps],
  digests: new Map(stream.digests),
  awaited: new Map(stream.awaited),
});

const nameOf = (stream: { readonly emitter: string; readonly boot: bigint }): string =>
  `emitter ${stream.emitter} boot ${stream.boot}`;
const rangeText = (from: bigint, to: bigint): string => (from === to ? `number ${from}` : `numbers ${from}–${to}`);

/** The numbers that no entry has, holds or names. */
export const unnamedIn = (stream: Stream, from: bigint, to: bigint): readonly (readonly [bigint, bigint])[] =>
  [stream.wrapped, stream.elsewhere].reduce(
    (left, set) => left.flatMap(([start, end]) => set.missing(start, end)),
    stream.named.missing(from, to),
  );

/** Follows the numbers and the links of every stream of one log. Memory grows with streams and holes, not entries. */
export const createStreamTracker = (
  findings: Findings,
  options: {
    readonly window?: { readonly fromMs: number; readonly toMs: number } | undefined;
    readonly earlier?: SavedStreams | undefined;
  } = {},
): StreamTracker => {
  const { window, earlier } = options;
  const streams = new Map(
    (earlier?.streams ?? []).map((stream) => [`${stream.emitter}/${stream.boot}`, restored(stream)]),
  );
  /** The last entry that may name numbers and whose payload is gone. */
  let lastUnread = earlier?.lastUnread ?? -1n;
  const streamOf = (emitter: string, boot: bigint): Stream => {
    const key = `${emitter}/${boot}`;
    const known = streams.get(key);
    if (known !== undefined) return known;
    const fresh: Stream = {
      emitter,
      boot,
      seen: createNumberSet(),
      named: createNumberSet(),
      wrapped: createNumberSet(),
      elsewhere: createNumberSet(),
      jumps: [],
      highest: 0n,
      highestSeq: -1n,
      lastMs: undefined,
      isAtRest: false,
      isEnded: false,
      inWindow: 0,
      digests: new Map(),
      awaited: new Map(),
    };
    streams.set(key, fresh);
    findings.count('completeness', 'streams');
    return fresh;
  };

  const jump = (
    stream: Stream,
    to: bigint,
    { seq, ingestUs, timeMs }: { readonly seq: bigint; readonly ingestUs: bigint; readonly timeMs: number },
  ): void => {
    if (to <= stream.highest) return;
    stream.jumps.push({
      from: stream.highest + 1n,
      to,
      seq,
      ingestUs,
      after: stream.highestSeq,
      afterMs: stream.lastMs,
      beforeMs: timeMs,
    });
  };

  const checkLink = (stream: Stream, number: bigint, digest: Uint8Array, previous: string, seq: bigint): void => {
    findings.count('completeness', 'links');
    if (hex(digest) !== previous)
      findings.fail('completeness', {
        seq: String(seq),
        what: `${nameOf(stream)} number ${number}: digest of the event before it`,
        expected: hex(digest),
        actual: previous,
        attack: 'emitter_forged',
      });
  };

  const link = (
    stream: Stream,
    number: bigint,
    seq: bigint,
    digest: Uint8Array,
    previous: string | undefined,
  ): void => {
    const waiting = stream.awaited.get(number);
    if (waiting === undefined) stream.digests.set(number, { digest, seq });
    else {
      stream.awaited.delete(number);
      checkLink(stream, number + 1n, digest, waiting.previous, waiting.seq);
    }
    if (previous === undefined) return;
    if (number === 1n) return checkLink(stream, number, ZERO_DIGEST, previous, seq);
    const before = stream.digests.get(number - 1n);
    if (before === undefined) {
      stream.awaited.set(number - 1n, { previous, seq });
      return;
    }
    stream.digests.delete(number - 1n);
    checkLink(stream, number, before.digest, previous, seq);
  };

  return {
    arrived(arrival) {
      const stream = streamOf(arrival.emitter, arrival.boot);
      findings.count('completeness', 'numbers');
      if (!stream.seen.add(arrival.number)) {
        findings.fail('completeness', {
          seq: String(arrival.seq),
          what: `${nameOf(stream)} number ${arrival.number}`,
          expected: 'one entry',
          actual: 'a second entry with the same number',
          attack: 'entry_inserted',
        });
        return;
      }
      jump(stream, arrival.number - 1n, arrival);
      if (arrival.number > stream.highest) {
        stream.highest = arrival.number;
        stream.highestSeq = arrival.seq;
        stream.lastMs = arrival.timeMs;
        stream.isAtRest = arrival.isAtRest;
      }
      if (window !== undefined && arrival.timeMs >= window.fromMs && arrival.timeMs < window.toMs) stream.inWindow += 1;
      if (arrival.link !== undefined)
        link(stream, arrival.number, arrival.seq, arrival.link.digest, arrival.link.previous);
    },
    wrapped(emitter, boot, number, seq, digest) {
      const stream = streamOf(emitter, boot);
      stream.wrapped.add(number);
      if (digest !== undefined && !stream.seen.has(number)) link(stream, number, seq, digest, undefined);
    },
    unread({ kind, seq }) {
      if (NAMING.has(kind)) lastUnread = seq;
    },
    named(emitter, boot, from, to) {
      streamOf(emitter, boot).named.add(from, to);
    },
    elsewhere(emitter, boot, from, to) {
      streamOf(emitter, boot).elsewhere.add(from, to);
    },
    accounts(emitter, boot, from, to) {
      const stream = streams.get(`${emitter}/${boot}`);
      if (stream === undefined) return false;
      return stream.seen.missing(from, to).every(([start, end]) => unnamedIn(stream, start, end).length === 0);
    },
    recovered(claim, at) {
      const stream = streamOf(claim.emitter, claim.boot);
      // A heartbeat names the digest of the last event; an incarnation's first entry does not: its streams may go on.
      stream.isEnded ||= claim.digest !== undefined;
      jump(stream, claim.highest, at);
      if (claim.highest > stream.highest) stream.highest = claim.highest;
      const held = stream.digests.get(claim.highest);
      if (held === undefined || claim.digest === undefined) return;
      findings.count('completeness', 'links');
      if (!bytesEqual(held.digest, claim.digest))
        findings.fail('completeness', {
          seq: String(held.seq),
          what: `${nameOf(stream)} number ${claim.highest}: digest that ${claim.source} names`,
          expected: hex(claim.digest),
          actual: hex(held.digest),
          attack: 'emitter_forged',
        });
    },
    streams: () => [...streams.values()],
    save: () => ({ streams: [...streams.values()].map(saved), lastUnread }),
    finish({ nowUs, graceUs, claims, areNamesKnown }) {
      let pending = 0n;
      let named = 0n;
      let unexplained = 0n;
      for (const stream of streams.values()) {
        for (const [from, to] of stream.named.ranges())
          for (const [start, end] of stream.seen.missing(from, to)) if (end < U64_MAX) named += end - start + 1n;
        for (const { from, to, seq, ingestUs, after } of stream.jumps)
          for (const [start, end] of stream.seen.missing(from, to))
            for (const [first, last] of unnamedIn(stream, start, end)) {
              if (nowUs - ingestUs <= graceUs) {
                pending += last - first + 1n;
                continue;
              }
              if (!areNamesKnown || lastUnread > after) {
                unexplained += last - first + 1n;
                continue;
              }
              findings.fail('completeness', {
                seq: String(seq),
                what: `${nameOf(stream)}: ${rangeText(first, last)} before this entry`,
                expected: 'an entry each, or a gap, lost or retire entry that names them',
                actual: 'missing',
                attack: 'emitter_gap',
              });
            }
      }
      for (const claim of claims) {
        const stream = streams.get(`${claim.emitter}/${claim.boot}`);
        const reached = [stream?.seen, stream?.named, stream?.wrapped, stream?.elsewhere]
          .map((set) => set?.max() ?? 0n)
          .reduce((a, b) => (a > b ? a : b));
        findings.count('completeness', 'claims');
        if (claim.highest > reached && lastUnread <= (stream?.highestSeq ?? -1n))
          findings.fail('completeness', {
            seq: null,
            what: `${nameOf(claim)}: highest number, as ${claim.source} has it`,
            expected: String(claim.highest),
            actual: String(reached),
            attack: 'tail_truncated',
          });
      }
      return { pending, named, unexplained };
    },
  };
};
