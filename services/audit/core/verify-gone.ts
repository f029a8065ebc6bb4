import { isObject } from '../../shared/contracts/json.ts';
import { RETENTION_FLOOR_DAYS } from '../../shared/contracts/retention.ts';
import { ENTRY_KINDS, segmentOf, type Entry } from './entry.ts';
import { ERASABLE } from './erasure.ts';
import { goneSeqs } from './verify-event.ts';
import { createNumberSet, type NumberSet, type Ranges } from './verify-ranges.ts';
import type { Findings } from './verify-report.ts';

type Json = Readonly<Record<string, unknown>>;
export type SeqRanges = readonly (readonly [from: bigint, to: bigint])[];

const DAY_US = 86_400_000_000n;
/** The audit service and whoever wrote the event may not have the same clock. */
const CLOCK_TOLERANCE_US = 5_000_000n;

/** What an entry of another log, or one that came while this log was read, says of payloads of this log. */
export interface NamedElsewhere {
  readonly ranges: SeqRanges;
  /** A checkpoint covers it. */
  readonly isProven: boolean;
  /** By a retention entry: nothing younger than this may be gone. */
  readonly notAfterUs?: bigint;
  /** By a request, which reaches only what may name people. */
  readonly isRequest?: boolean;
}

/** A payload that is gone and may not be. */
export interface UnlawfulRange {
  readonly from: bigint;
  readonly to: bigint;
  readonly why: string;
}

interface Named {
  readonly seq: bigint;
  readonly ranges: SeqRanges;
  /** Written in the transaction of what it names, so that nothing waited for a checkpoint. */
  readonly isAtOnce: boolean;
  /** What it names of its own batch as never stored, and is there: it would allow to delete that later. */
  readonly present?: SeqRanges;
  /** Why it allows nothing. */
  readonly fault?: string;
}

/** Payloads that are gone, and the entries that allow it. Memory grows with ranges, not with entries. */
export interface GoneTracker {
  readonly missing: (entry: Entry) => void;
  /** An entry whose payload is there. */
  readonly there: (entry: Entry) => void;
  /** The payload of an erasure or retention entry. */
  readonly named: (entry: Entry, document: Json) => void;
  /**
   * What is gone against the rules; how many payloads are gone by entries that no checkpoint covers (yet), and how many
   * all together. `coveredSize`: entries below it are signed.
   */
  readonly finish: (
    coveredSize: bigint,
    elsewhere?: readonly NamedElsewhere[],
  ) => { readonly unlawful: readonly UnlawfulRange[]; readonly unproven: bigint; readonly missing: bigint };
  /** What lawful entries below `size` name of this log. */
  readonly ofThis: (size: bigint) => SeqRanges;
  /** What entries of this log say of earlier logs, by origin. */
  readonly ofEarlier: (coveredSize: bigint) => ReadonlyMap<string, readonly NamedElsewhere[]>;
  /** All of it, as plain values. */
  readonly save: () => SavedGone;
}

interface NamedEarlier extends NamedElsewhere {
  readonly seq: bigint;
  readonly origin: string;
}

export interface SavedGone {
  readonly gone: Ranges;
  readonly beyondRequests: Ranges;
  readonly entries: readonly Named[];
  readonly earlier: readonly NamedEarlier[];
  readonly lastUs: readonly (readonly [segment: number, us: bigint])[];
  readonly batchUs: bigint;
  readonly batch: readonly (readonly [bigint, bigint])[];
}

const ERASABLE_KINDS: ReadonlySet<number> = new Set(ERASABLE.map((kind) => ENTRY_KINDS[kind]));
const sizeOf = (ranges: SeqRanges): bigint => ranges.reduce((sum, [from, to]) => sum + (to - from + 1n), 0n);
const text = (value: unknown): string => (typeof value === 'string' ? value : '');
const wholeNumber = (value: unknown): number =>
  typeof value === 'string' && /^\d{1,6}$/.test(value) ? Number(value) : -1;

/** Two different people must have approved a request, which the entry names by its digest. */
export const faultOfRequest = (document: Json): string | undefined => {
  const listed: readonly unknown[] = Array.isArray(document['approvers']) ? document['approvers'] : [];
  const approvers = new Set(listed.filter((name) => typeof name === 'string' && name !== ''));
  if (approvers.size < 2) return `has ${approvers.size === 1 ? 'one approver' : 'no approvers'}, not two`;
  if (!/^[0-9a-f]{64}$/.test(text(document['request']))) return 'names no request';
  return text(document['legal_basis']) === '' ? 'names no legal basis' : undefined;
};

/** What an entry says of payloads of earlier logs. */
const earlierIn = (document: Json): readonly (readonly [origin: string, ranges: SeqRanges])[] =>
  (Array.isArray(document['earlier']) ? (document['earlier'] as readonly unknown[]) : []).flatMap((item) =>
    isObject(item) && typeof item['log'] === 'string' ? [[item['log'], goneSeqs(item)] as const] : [],
  );

const addAll = (set: NumberSet, ranges: SeqRanges): void => {
  for (const [from, to] of ranges) set.add(from, to);
};

export const createGoneTracker = (saved?: SavedGone): GoneTracker => {
  const gone = createNumberSet(saved?.gone);
  /** What is gone of kinds that prove the log itself: no request allows it. */
  const beyondRequests = createNumberSet(saved?.beyondRequests);
  const ofRequest = (ranges: SeqRanges): SeqRanges => ranges.flatMap(([from, to]) => beyondRequests.missing(from, to));
  const entries: Named[] = [...(saved?.entries ?? [])];
  const earlier: NamedEarlier[] = [...(saved?.earlier ?? [])];
  /** Of each segment the ingest time of the last entry without payload: what a retention period counts from. */
  const lastUs = new Map<number, bigint>(saved?.lastUs);
  /** What is gone among the entries of the newest ingest time: one batch has one. */
  let batchUs = saved?.batchUs ?? -1n;
  let batch: [bigint, bigint][] = (saved?.batch ?? []).map(([from, to]) => [from, to]);

  /** What is there of the entries of one ingest time. Not saved: a checkpoint ends no place within a batch. */
  let thereUs = -1n;
  let there = createNumberSet();

  const faultOfRetention = (entry: Entry, document: Json, ranges: SeqRanges): string | undefined => {
    const days = wholeNumber(document['period_days']);
    if (days < 0) return 'names no period';
    if (days < RETENTION_FLOOR_DAYS && document['below_floor'] !== true)
      return `has a period of ${days} days, below ${RETENTION_FLOOR_DAYS}`;
    for (const [from, to] of ranges) {
      if ((from & 0xffffn) !== 0n || (to & 0xffffn) !== 0xffffn) return 'names parts of segments';
      const us = lastUs.get(segmentOf(to));
      if (us !== undefined && us + BigInt(days) * DAY_US > entry.ingestUs + CLOCK_TOLERANCE_US)
        return `came before the end of its period of ${days} days`;
    }
    return undefined;
  };

  const isOlder = ([from, to]: readonly [bigint, bigint], notAfterUs: bigint): boolean =>
    [...lastUs].every(
      ([segment, us]) => segment < segmentOf(from) || segment > segmentOf(to) || us <= notAfterUs + CLOCK_TOLERANCE_US,
    );

  /** Only what is gone in the same batch directly before it, whatever else it names. */
  const inBatch = (entry: Entry, ranges: SeqRanges): SeqRanges => {
    if (entry.ingestUs !== batchUs) return [];
    const named = createNumberSet();
    addAll(named, ranges);
    return batch.flatMap(([from, to]) => {
      const open = createNumberSet();
      addAll(open, named.missing(from, to));
      return open.missing(from, to);
    });
  };

  /** What is there in the same batch though the entry names it. */
  const presentIn = (entry: Entry, ranges: SeqRanges): SeqRanges =>
    entry.ingestUs === thereUs
      ? ranges.flatMap(([from, to]) => {
          const open = createNumberSet(there.missing(from, to));
          return open.missing(from, to);
        })
      : [];

  return {
    there: ({ seq, ingestUs }) => {
      if (ingestUs !== thereUs) [thereUs, there] = [ingestUs, createNumberSet()];
      there.add(seq);
    },
    missing: ({ seq, ingestUs, kind }) => {
      gone.add(seq);
      if (!ERASABLE_KINDS.has(kind)) beyondRequests.add(seq);
      lastUs.set(segmentOf(seq), ingestUs);
      if (ingestUs !== batchUs) [batchUs, batch] = [ingestUs, []];
      const last = batch.at(-1);
      if (last?.[1] === seq - 1n) last[1] = seq;
      else batch.push([seq, seq]);
    },
    named: (entry, document) => {
      const { seq } = entry;
      // An entry allows nothing that comes after it.
      const ranges = goneSeqs(document).filter(([, to]) => to < seq);
      if (entry.kind === ENTRY_KINDS.erasure && document['reason'] === 'subject_erased_before') {
        entries.push({ seq, ranges: inBatch(entry, ranges), isAtOnce: true, present: presentIn(entry, ranges) });
        return;
      }
      const fault =
        entry.kind === ENTRY_KINDS.retention ? faultOfRetention(entry, document, ranges) : faultOfRequest(document);
      const allowed = entry.kind === ENTRY_KINDS.retention ? ranges : ofRequest(ranges);
      entries.push({ seq, ranges: allowed, isAtOnce: false, ...(fault === undefined ? {} : { fault }) });
      if (fault === undefined)
        for (const [origin, of] of earlierIn(document)) {
          const days = entry.kind === ENTRY_KINDS.retention ? wholeNumber(document['period_days']) : undefined;
          earlier.push({
            seq,
            origin,
            ranges: of,
            isProven: true,
            ...(days === undefined ? { isRequest: true } : { notAfterUs: entry.ingestUs - BigInt(days) * DAY_US }),
          });
        }
    },
    finish: (coveredSize, elsewhere = []) => {
      const [proven, unproven] = [createNumberSet(), createNumberSet()];
      for (const { seq, ranges, isAtOnce, fault } of entries)
        if (fault === undefined && seq < coveredSize) addAll(proven, ranges);
        else if (fault === undefined && isAtOnce) addAll(unproven, ranges);
      for (const { ranges, isProven, notAfterUs, isRequest = false } of elsewhere)
        addAll(
          isProven ? proven : unproven,
          notAfterUs === undefined
            ? isRequest
              ? ofRequest(ranges)
              : ranges
            : ranges.filter((range) => isOlder(range, notAfterUs)),
        );
      const whyOf = (seq: bigint): string => {
        const by = entries.find(({ ranges }) => ranges.some(([from, to]) => from <= seq && seq <= to));
        if (by === undefined) return 'gone, or its key is';
        return `gone, or its key is; entry ${by.seq} names it, but ${by.fault ?? 'no checkpoint covers that entry'}`;
      };
      const unlawful: UnlawfulRange[] = [];
      let open = 0n;
      for (const [from, to] of gone.ranges())
        for (const [start, end] of proven.missing(from, to)) {
          const rest = unproven.missing(start, end);
          open += end - start + 1n - sizeOf(rest);
          for (const [first, last] of rest) unlawful.push({ from: first, to: last, why: whyOf(first) });
        }
      for (const { seq, present = [] } of entries)
        for (const [from, to] of present)
          unlawful.push({ from, to, why: `entry ${seq} names a payload that is there as one that never was` });
      return { unlawful, unproven: open, missing: sizeOf(gone.ranges()) };
    },
    ofThis: (size) => entries.flatMap(({ seq, ranges, fault }) => (fault === undefined && seq < size ? ranges : [])),
    save: () => ({
      gone: gone.ranges(),
      beyondRequests: beyondRequests.ranges(),
      entries: [...entries],
      earlier: [...earlier],
      lastUs: [...lastUs],
      batchUs,
      batch: batch.map(([from, to]) => [from, to]),
    }),
    ofEarlier: (coveredSize) => {
      const byOrigin = new Map<string, NamedElsewhere[]>();
      for (const { seq, origin, ...named } of earlier) {
        const list = byOrigin.get(origin) ?? [];
        byOrigin.set(origin, list);
        // Before a checkpoint covers it nothing of it may be gone.
        if (seq < coveredSize) list.push(named);
      }
      return byOrigin;
    },
  };
};

/** Fails what is gone without a reason; how many are gone by entries that no checkpoint covers. */
export const judgeGone = (
  findings: Findings,
  tracker: GoneTracker,
  coveredSize: bigint,
  elsewhere: readonly NamedElsewhere[],
): bigint => {
  const { unlawful, unproven, missing } = tracker.finish(coveredSize, elsewhere);
  for (const { from, to, why } of unlawful)
    findings.fail('lifecycle', {
      seq: String(from),
      what: from === to ? 'payload' : `payloads of entries ${from}–${to}`,
      expected: 'there, or named by a lawful erasure or retention entry that a checkpoint covers',
      actual: why,
      attack: 'payload_removed',
    });
  findings.count('lifecycle', 'payloads_gone', Number(missing));
  return unproven;
};
