import { bytesEqual, hex } from '../../shared/contracts/bytes.ts';
import { attestedKey } from '../../shared/contracts/events.ts';
import { emitterId } from '../../shared/contracts/signatures.ts';
import { bytesToUuid } from '../../shared/contracts/uuid.ts';
import { ENTRY_KINDS, type Entry } from './entry.ts';
import type { NumberRange } from './ingest-message.ts';
import { completeTo } from './ingest-stream.ts';
import type { Numbers } from './verify-numbers.ts';
import { createNumberSet, type NumberSet, type Ranges } from './verify-ranges.ts';
import type { Finding, Findings } from './verify-report.ts';

/** What `edict.received` says of an event. */
export interface ReceivedRow {
  readonly digest: Uint8Array;
  /** Null: not known when it was stored. */
  readonly previous: Uint8Array | null;
  readonly emitter: string;
  readonly boot: bigint;
  readonly number: bigint;
  readonly seq: bigint;
}

/** What `edict.stream` says of a stream. */
export interface StreamRow {
  readonly emitter: string;
  readonly boot: bigint;
  readonly completeTo: bigint;
  readonly highest: bigint;
  readonly coveredTo: bigint;
  readonly holes: readonly NumberRange[];
}

/** What `edict.emitter` says of an emitter. */
export interface EmitterRow {
  readonly emitter: string;
  readonly publicKey: Uint8Array | null;
  readonly attested: boolean;
  readonly retired: boolean;
}

/** The state of the ingest, which is derived from the log: acknowledgements and duplicates are told by it. */
export interface IngestTables {
  /** Rows of `edict.received` of this log, as of the moment in which the log had the size that is verified. */
  readonly received: bigint;
  /** As of that same moment. */
  readonly streams: readonly StreamRow[];
  /** Not older than that. */
  readonly emitters: readonly EmitterRow[];
  /** Emitters that were retired before that, when this is the only log of the system tenant: it must say so. */
  readonly retired?: readonly string[];
}

export interface StateChecker {
  /** An entry whose header was decoded; `received`: the row with its event id. */
  entry(entry: Entry, isIntact: boolean, received: ReceivedRow | undefined): void;
  /** The payload of the entry before, when it could be opened and fits. */
  payload(entry: Entry, document: Readonly<Record<string, unknown>>, numbers: Numbers): void;
  /** The digest of the event's bytes and the one that it names. */
  event(
    entry: Entry,
    link: { readonly digest: Uint8Array; readonly previous: string | undefined },
    received: ReceivedRow | undefined,
  ): void;
  finish(): void;
  /** All of it, as plain values. */
  save(): SavedState;
}

export interface SavedState {
  readonly streams: readonly (readonly [key: string, seen: Ranges, settled: Ranges])[];
  readonly keys: readonly (readonly [emitter: string, key: Uint8Array])[];
  readonly retired: readonly string[];
  readonly found: bigint;
  readonly damaged: bigint;
  readonly opaque: number;
}

/** Entries that account for numbers which are not theirs: without their payload nobody can say for which. */
const ACCOUNTING: ReadonlySet<number> = new Set([
  ENTRY_KINDS.quarantine,
  ENTRY_KINDS.conflict,
  ENTRY_KINDS.lost,
  ENTRY_KINDS.emitter,
]);

/** Compares the state of the ingest with what the log proves. Memory grows with streams and holes, not with entries. */
export const createStateChecker = (findings: Findings, tables: IngestTables, earlier?: SavedState): StateChecker => {
  /** By `<emitter>/<boot>`: numbers that are entries, and those that are accounted for. */
  const streams = new Map<string, { readonly seen: NumberSet; readonly settled: NumberSet }>(
    earlier?.streams.map(([key, seen, settled]) => [
      key,
      { seen: createNumberSet(seen), settled: createNumberSet(settled) },
    ]),
  );
  const keys = new Map<string, Uint8Array>(earlier?.keys);
  const retired = new Set<string>(earlier?.retired);
  let found = earlier?.found ?? 0n;
  let damaged = earlier?.damaged ?? 0n;
  /** Accounting entries whose payload was not seen (yet). */
  let opaque = earlier?.opaque ?? 0;

  const fail = (seq: bigint | undefined, what: string, expected: string, actual: string): void => {
    const finding: Finding = {
      seq: seq === undefined ? null : String(seq),
      what,
      expected,
      actual,
      attack: 'state_edited',
    };
    findings.fail('projection', finding);
  };

  const streamOf = (emitter: string, boot: bigint) => {
    const key = `${emitter}/${boot}`;
    const stream = streams.get(key) ?? { seen: createNumberSet(), settled: createNumberSet() };
    streams.set(key, stream);
    return stream;
  };

  const checkStream = (row: StreamRow): void => {
    findings.count('projection', 'streams');
    const { completeTo: complete, highest, coveredTo, holes } = row;
    const name = `edict.stream, emitter ${row.emitter} boot ${row.boot}`;
    if (complete !== completeTo({ highest, holes: holes.map((hole) => ({ ...hole, sinceMs: 0 })) }))
      fail(undefined, `${name}: complete_to`, 'the number before the first hole, or highest', String(complete));
    if (coveredTo > complete) fail(undefined, `${name}: covered_to`, `at most ${complete}`, String(coveredTo));
    const { seen, settled } = streamOf(row.emitter, row.boot);
    const newest = seen.max() ?? 0n;
    if (highest < newest) fail(undefined, `${name}: highest`, `at least ${newest}`, String(highest));
    if (opaque > 0) return;
    const accounted = createNumberSet();
    for (const [from, to] of [...seen.ranges(), ...settled.ranges()]) accounted.add(from, to);
    for (const { from, to } of holes) accounted.add(from, to);
    const [first] = highest === 0n ? [] : accounted.missing(1n, highest);
    if (first !== undefined)
      fail(
        undefined,
        `${name}: numbers ${first[0]}–${first[1]}`,
        'holes: no entry has or names them',
        'taken for complete',
      );
  };

  const checkEmitters = (): void => {
    const rows = new Map(tables.emitters.map((row) => [row.emitter, row]));
    const heard = new Set(
      [...streams].flatMap(([key, { seen }]) => (seen.max() === undefined ? [] : key.slice(0, 32))),
    );
    for (const emitter of heard) {
      findings.count('projection', 'emitters');
      const row = rows.get(emitter);
      const name = `edict.emitter, emitter ${emitter}`;
      if (row === undefined) {
        fail(undefined, name, 'a row: the log has events of it', 'none');
        continue;
      }
      const { publicKey, attested } = row;
      if (publicKey !== null && emitterId(publicKey) !== emitter)
        fail(undefined, `${name}: public_key`, 'the key whose hash is the id', hex(publicKey));
      const started = keys.get(emitter);
      if (started !== undefined && (!attested || publicKey === null || !bytesEqual(publicKey, started)))
        fail(undefined, name, 'attested, with the key of its start event', attested ? 'another key' : 'not attested');
    }
    for (const emitter of tables.retired ?? [])
      if (opaque === 0 && !retired.has(emitter))
        fail(undefined, `edict.emitter, emitter ${emitter}: retired`, 'a retire entry', 'none');
  };

  return {
    entry(entry, isIntact, received) {
      if (ACCOUNTING.has(entry.kind)) opaque += 1;
      if (entry.emitterSeq === 0n) return;
      const emitter = hex(entry.emitter);
      streamOf(emitter, entry.boot).seen.add(entry.emitterSeq);
      // What an altered header names is no evidence against the row; that it was altered is a finding by itself.
      if (!isIntact) {
        damaged += 1n;
        return;
      }
      findings.count('projection', 'received');
      const name = `edict.received, event ${bytesToUuid(entry.eventId)}`;
      if (received === undefined) return fail(entry.seq, name, 'a row', 'none');
      found += 1n;
      const compare = (column: string, expected: bigint | string, actual: bigint | string): void => {
        if (expected !== actual) fail(entry.seq, `${name}: ${column}`, String(expected), String(actual));
      };
      compare('seq', entry.seq, received.seq);
      compare('emitter', emitter, received.emitter);
      compare('boot', entry.boot, received.boot);
      compare('number', entry.emitterSeq, received.number);
    },
    payload(entry, document, numbers) {
      if (ACCOUNTING.has(entry.kind)) opaque -= 1;
      if (entry.kind !== ENTRY_KINDS.gap)
        for (const { emitter, boot, from, to } of numbers.named) streamOf(emitter, boot).settled.add(from, to);
      for (const { had } of numbers.carried ?? [])
        for (const { emitter, boot, from, to } of had) streamOf(emitter, boot).settled.add(from, to);
      for (const { emitter, boot, number } of numbers.wrapped) streamOf(emitter, boot).settled.add(number);
      if (entry.kind !== ENTRY_KINDS.emitter) return;
      const key = attestedKey(document);
      if (key !== undefined) keys.set(hex(entry.emitter), key);
      else if (document['retired'] === true) retired.add(String(document['emitter']));
    },
    event(entry, { digest, previous }, received) {
      if (received === undefined) return;
      const name = `edict.received, event ${bytesToUuid(entry.eventId)}`;
      if (!bytesEqual(received.digest, digest)) fail(entry.seq, `${name}: digest`, hex(digest), hex(received.digest));
      if (received.previous !== null && hex(received.previous) !== previous)
        fail(entry.seq, `${name}: previous`, previous ?? 'nothing', hex(received.previous));
    },
    save: () => ({
      streams: [...streams].map(([key, { seen, settled }]) => [key, seen.ranges(), settled.ranges()]),
      keys: [...keys],
      retired: [...retired],
      found,
      damaged,
      opaque,
    }),
    finish() {
      // An altered header may have had a row; beyond those each row must have been asked for.
      if (tables.received > found + damaged)
        fail(undefined, 'edict.received: rows', `${found}, one for each event of the log`, String(tables.received));
      for (const row of tables.streams) checkStream(row);
      const known = new Set(tables.streams.map(({ emitter, boot }) => `${emitter}/${boot}`));
      for (const [key, { seen }] of streams)
        if (!known.has(key) && seen.max() !== undefined)
          fail(undefined, `edict.stream, emitter ${key.replace('/', ' boot ')}`, 'a row', 'none');
      checkEmitters();
    },
  };
};
