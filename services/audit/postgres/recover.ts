import { bytesEqual, hex } from '../../shared/contracts/bytes.ts';
import { AppError } from '../../shared/contracts/errors.ts';
import { EVENT_CONTENT_TYPE } from '../../shared/contracts/events.ts';
import { bytesToUuid } from '../../shared/contracts/uuid.ts';
import type { Sql } from '../core/append.ts';
import type { Database } from '../core/database.ts';
import { commitPayload, decodeEntry, leafHash, segmentOf, type Entry } from '../core/entry.ts';
import { readMessage } from '../core/ingest-message.ts';
import type { SourceMessage } from '../core/ingest-source.ts';
import type { Journal, JournalEntry, JournalFrame, JournalOperation } from '../core/journal.ts';
import { encryptPayload } from '../core/payload.ts';
import type { PayloadKeys } from '../core/payload-keys.ts';
import type { Head } from '../core/place.ts';
import type { NameSubject } from '../core/pseudonym.ts';
import { moveJournalMark, readJournalMark } from './ledger-writer.ts';
import {
  createSegment,
  insertDecisions,
  insertEntries,
  insertPayloads,
  lockHead,
  moveHead,
  type DecisionRow,
  type PayloadRow,
} from './statements.ts';

export interface RecoverOptions {
  readonly database: Database;
  readonly journal: Journal;
  readonly keys: PayloadKeys;
  readonly nameForSearch: NameSubject;
  /** The event as its source still has it (`spool/<emitter>`, offset), or undefined. */
  readonly fetchMessage: (place: {
    readonly topic: string;
    readonly partition: number;
    readonly offset: bigint;
  }) => Promise<SourceMessage | undefined>;
  /** Compare every entry in the database with the journal too, as after a power cut. */
  readonly isThorough?: boolean;
}

export interface Recovered {
  /** Frames that the database had lost and has again. */
  readonly frames: number;
  readonly entries: number;
}

const lost = (message: string): AppError =>
  new AppError(
    'ledger_corrupt',
    `${message}; the ledger cannot go on as it was: \`edict ledger create TENANT --new-incarnation\``,
  );

type Append = Extract<JournalOperation, { readonly kind: 'append' }>;

interface Opened {
  readonly entry: Entry;
  readonly source: JournalEntry;
  readonly leaf: Buffer;
}

/** Payloads and search rows of an append: own payloads from the journal, events from where they came from. */
const restorePayloads = async (
  { keys, nameForSearch, fetchMessage }: RecoverOptions,
  { log }: Append,
  opened: readonly Opened[],
): Promise<{ readonly payloads: readonly PayloadRow[]; readonly decisions: readonly DecisionRow[] }> => {
  const events = opened.filter(({ source }) => source.ciphertext === undefined);
  const found = await keys.find(
    log,
    events.map(({ entry }) => ({ seq: entry.seq, eventId: bytesToUuid(entry.eventId) })),
  );
  const payloads: PayloadRow[] = opened.flatMap(({ entry, source }) =>
    source.ciphertext === undefined ? [] : [{ seq: entry.seq, ciphertext: source.ciphertext }],
  );
  const decisions: DecisionRow[] = [];
  for (const [index, { entry, source }] of events.entries()) {
    const key = found[index]?.[0];
    // A key that was destroyed stays destroyed: the entry was, or became, one without payload.
    if (key === undefined) continue;
    const message = await fetchMessage(entry);
    if (message === undefined)
      throw lost(`${log.origin}: the event of entry ${entry.seq} is no longer at ${entry.topic}, ${entry.offset}`);
    const reading = readMessage(message, undefined);
    const contentType = EVENT_CONTENT_TYPE;
    if (!bytesEqual(commitPayload(source.salt, contentType, message.value), entry.commitment))
      throw lost(`${log.origin}: the event at ${entry.topic}, ${entry.offset} is not the one of entry ${entry.seq}`);
    const eventId = bytesToUuid(entry.eventId);
    payloads.push({
      seq: entry.seq,
      ciphertext: encryptPayload(
        key,
        { origin: log.origin, seq: entry.seq, eventId },
        { salt: source.salt, contentType, bytes: message.value },
      ),
    });
    const search = reading.content.ok ? reading.content.event.search : undefined;
    if (search !== undefined)
      decisions.push({
        seq: entry.seq,
        eventId,
        ingestUs: entry.ingestUs,
        subject: nameForSearch(log.tenant, search.subject),
        search,
      });
  }
  return { payloads, decisions };
};

const openEntries = (operation: Append): readonly Opened[] =>
  operation.entries.map((source) => ({ entry: decodeEntry(source.header), source, leaf: leafHash(source.header) }));

const applyAppend = async (sql: Sql, options: RecoverOptions, operation: Append): Promise<void> => {
  const { log } = operation;
  const opened = openEntries(operation);
  const before = await lockHead(sql, log);
  let head: Head = before;
  for (const { entry, leaf } of opened) {
    if (entry.seq !== head.size || !bytesEqual(entry.prev, head.leaf))
      throw lost(`${log.origin}: the journal does not continue the database at entry ${head.size}`);
    head = { size: head.size + 1n, leaf, lastIngestUs: entry.ingestUs };
    if ((entry.seq & 0xffffn) === 0n) await createSegment(sql, log.id, segmentOf(entry.seq));
  }
  const { payloads, decisions } = await restorePayloads(options, operation, opened);
  await insertEntries(
    sql,
    log.id,
    opened.map(({ entry, source, leaf }) => ({ seq: entry.seq, header: source.header, leaf })),
  );
  await insertPayloads(sql, log.id, payloads);
  await insertDecisions(sql, log.id, decisions);
  await moveHead(sql, log.id, before.size, head);
};

const applyFrame = (options: RecoverOptions, frame: JournalFrame): Promise<void> =>
  options.database.transaction(async (sql) => {
    for (const operation of frame.operations) {
      if (operation.kind === 'append') await applyAppend(sql, options, operation);
      else await sql.query(operation.text, operation.parameters);
    }
    await moveJournalMark(sql, frame.number);
  });

const countEntries = ({ operations }: JournalFrame): number =>
  operations.reduce((sum, operation) => sum + (operation.kind === 'append' ? operation.entries.length : 0), 0);

/** The entries that the database has of an append must be the ones of the journal. */
const compareAppend = async (database: Database, { log, entries }: Append): Promise<void> => {
  const [first] = entries;
  if (first === undefined) return;
  const { seq } = decodeEntry(first.header);
  const rows = await database.query<{ seq: bigint; header: Buffer }>(
    `select seq, header from edict.entry
     where log_id = $1::int and segment between $2::int and $3::int and seq >= $4::bigint and seq < $5::bigint
     order by seq`,
    [
      log.id,
      segmentOf(seq),
      segmentOf(seq + BigInt(entries.length) - 1n),
      String(seq),
      String(seq + BigInt(entries.length)),
    ],
  );
  entries.forEach(({ header }, index) => {
    if (rows[index]?.header.equals(header) !== true)
      throw lost(`${log.origin}: entry ${seq + BigInt(index)} in the database is not the one in the journal`);
  });
};

/** Every log must end where the journal's last append to it ends. */
const compareHeads = async (
  database: Database,
  ends: ReadonlyMap<number, { readonly origin: string; readonly size: bigint; readonly leaf: Buffer }>,
): Promise<void> => {
  const rows = await database.query<{ log_id: number; size: bigint; leaf: Buffer }>(
    'select log_id, size, leaf from edict.log_head order by log_id',
    [],
  );
  const heads = new Map(rows.map((row) => [row.log_id, row]));
  for (const [logId, end] of ends) {
    const head = heads.get(logId);
    if (head === undefined || head.size !== end.size || !head.leaf.equals(end.leaf))
      throw lost(
        `${end.origin}: the journal ends with entry ${end.size - 1n}, leaf ${hex(end.leaf)}, the database ` +
          `with ${head === undefined ? 'nothing' : `entry ${head.size - 1n}, leaf ${hex(head.leaf)}`}`,
      );
  }
};

/**
 * Brings the database to the end of the journal, entry by entry the same bytes: after a crash between journal and
 * commit, after a power cut, with an older copy of the database, or with an empty one. Rejects with `ledger_corrupt`
 * when that is not possible: the journal is shorter than the database, an entry differs, or an event is gone.
 */
export const recoverFromJournal = async (options: RecoverOptions): Promise<Recovered> => {
  const { database, journal, isThorough = false } = options;
  const mark = await readJournalMark(database);
  if (mark > journal.last())
    throw lost(`the journal ends with frame ${journal.last()}, but the database has frame ${mark}`);
  const ends = new Map<number, { readonly origin: string; readonly size: bigint; readonly leaf: Buffer }>();
  let frames = 0;
  let entries = 0;
  // The frame of the mark is read too: the database must have it.
  const from = isThorough || mark === 0n ? 1n : mark;
  for await (const frame of journal.read(from)) {
    const appends = frame.operations.filter((operation) => operation.kind === 'append');
    if (frame.number > mark) {
      await applyFrame(options, frame);
      frames += 1;
      entries += countEntries(frame);
    } else for (const append of appends) await compareAppend(database, append);
    for (const append of appends) {
      const last = append.entries.at(-1);
      if (last === undefined) continue;
      const { seq } = decodeEntry(last.header);
      ends.set(append.log.id, { origin: append.log.origin, size: seq + 1n, leaf: leafHash(last.header) });
    }
  }
  await compareHeads(database, ends);
  return { frames, entries };
};
