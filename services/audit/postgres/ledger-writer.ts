import { bytesEqual } from '../../shared/contracts/bytes.ts';
import { EVENT_CONTENT_TYPE } from '../../shared/contracts/events.ts';
import { AppError } from '../../shared/contracts/errors.ts';
import { inOrder, type AppendEntries, type Log, type NewEntry, type Sql, type WriteLedger } from '../core/append.ts';
import type { Database } from '../core/database.ts';
import { segmentOf } from '../core/entry.ts';
import { seqRanges } from '../core/erasure.ts';
import type { Journal, JournalOperation } from '../core/journal.ts';
import { freshIds, ownEntry } from '../core/own-entry.ts';
import { encryptPayload } from '../core/payload.ts';
import type { PayloadKeys } from '../core/payload-keys.ts';
import { placeEntries, type Head, type PlacedEntry } from '../core/place.ts';
import type { NameSubject } from '../core/pseudonym.ts';
import {
  createSegment,
  insertDecisions,
  insertEntries,
  insertPayloads,
  lockHead,
  lockHeads,
  moveHead,
} from './statements.ts';

export interface LedgerWriterOptions {
  readonly database: Database;
  readonly keys: PayloadKeys;
  /** Pseudonyms of the search table: `createSearchNames`. */
  readonly nameForSearch: NameSubject;
  /** Microseconds since 1970. */
  readonly nowUs: () => bigint;
  /** Embedded database: synced before each commit. */
  readonly journal?: Journal;
  /**
   * Embedded database: brings the database to the journal's end. Called when a commit failed after its frame was
   * synced, so that a frame that is written has happened before anything else happens.
   */
  readonly recover?: () => Promise<void>;
  /**
   * Told when a log is shorter than this writer committed it, or ends with another entry: an older copy of the database,
   * or a server that lost commits, is in its place. The transaction goes on from what is there.
   */
  readonly onRewound?: (log: Log, committed: bigint, found: bigint) => void;
}

/** More in one transaction would mean more than one new segment. */
const MAX_ENTRIES = 32_768;

interface OpenLog {
  readonly log: Log;
  readonly from: bigint;
  head: Head;
}

/** Statements that only read or lock need no place in the journal. */
const READS = /^\s*(select|lock)\b/i;

/** Events of erased data subjects were stored without payload: this entry says so, in the same transaction. */
const erasureEntry = (log: Log, seqs: readonly bigint[], nowUs: bigint): NewEntry => {
  const document = { reason: 'subject_erased_before', ranges: seqRanges(seqs), tenant: log.tenant };
  return ownEntry(log.tenant, 'erasure', document, freshIds(Number(nowUs / 1000n)));
};

/** Appends to logs within one transaction of `sql`; `finish` moves the heads. */
export const createAppender = (
  sql: Sql,
  { keys, nameForSearch, nowUs }: Pick<LedgerWriterOptions, 'keys' | 'nameForSearch' | 'nowUs'>,
  operations?: JournalOperation[],
  onLocked: (log: Log, head: Head) => void = () => undefined,
): {
  readonly lock: (logs: readonly Log[]) => Promise<void>;
  readonly append: AppendEntries;
  /** Gives the new heads. */
  readonly finish: () => Promise<readonly { readonly log: Log; readonly head: Head }[]>;
} => {
  const open = new Map<number, OpenLog>();
  let total = 0;

  const lock = async (logs: readonly Log[]): Promise<void> => {
    const heads = await lockHeads(sql, logs);
    for (const [index, log] of logs.entries()) {
      const head = heads[index];
      if (head === undefined) continue;
      open.set(log.id, { log, from: head.size, head });
      onLocked(log, head);
    }
  };

  const openLog = async (log: Log): Promise<OpenLog> => {
    const known = open.get(log.id);
    if (known !== undefined) return known;
    const head = await lockHead(sql, log);
    const opened = { log, from: head.size, head };
    open.set(log.id, opened);
    onLocked(log, head);
    return opened;
  };

  const store = async (log: Log, placed: readonly PlacedEntry[]): Promise<readonly bigint[]> => {
    const requests = placed.map(({ seq, entry }) => ({ seq, eventId: entry.eventId, subject: entry.subject }));
    const decisions = placed.flatMap(({ entry, seq, ingestUs }) => {
      if (entry.search === undefined) return [];
      const subject = nameForSearch(log.tenant, entry.search.subject);
      return [{ seq, ingestUs, eventId: entry.eventId, subject, search: entry.search }];
    });
    const insert = (): Promise<void> =>
      inOrder([
        insertEntries(sql, log.id, placed),
        ...(decisions.length === 0
          ? []
          : [sql.query('savepoint decisions', []), insertDecisions(sql, log.id, decisions)]),
      ]);
    // Keys become durable in their store while headers and search rows travel to ours.
    const [issued, inserted] = await Promise.allSettled([keys.issue(log, requests), insert()]);
    if (inserted.status === 'rejected') throw inserted.reason;
    if (issued.status === 'rejected') throw issued.reason;
    const sealed = placed.map(({ entry, seq, salt }, index) => {
      const key = issued.value[index];
      if (key === undefined) return undefined;
      const place = { origin: log.origin, seq, eventId: entry.eventId };
      return encryptPayload(key, place, { salt, contentType: entry.contentType, bytes: entry.payload });
    });
    const erased = new Set(placed.filter((_, index) => sealed[index] === undefined).map(({ seq }) => seq));
    if (decisions.some(({ seq }) => erased.has(seq))) {
      // Rare: somebody in this batch is erased, and nobody may find them. The writer cannot delete, but take back.
      await sql.query('rollback to savepoint decisions', []);
      await insertDecisions(
        sql,
        log.id,
        decisions.filter(({ seq }) => !erased.has(seq)),
      );
    }
    await insertPayloads(
      sql,
      log.id,
      placed.flatMap(({ seq }, index) => {
        const ciphertext = sealed[index];
        return ciphertext === undefined ? [] : [{ seq, ciphertext }];
      }),
    );
    operations?.push({
      kind: 'append',
      log: { id: log.id, tenant: log.tenant, origin: log.origin },
      entries: placed.map(({ entry, header, salt }, index) => {
        const ciphertext = entry.contentType === EVENT_CONTENT_TYPE ? undefined : sealed[index];
        return { header, salt, ...(ciphertext === undefined ? {} : { ciphertext }) };
      }),
    });
    return [...erased];
  };

  const appendAt = async (log: Log, entries: readonly NewEntry[], now: bigint): Promise<bigint> => {
    total += entries.length;
    if (total > MAX_ENTRIES) throw new AppError('internal', `more than ${MAX_ENTRIES} entries in one transaction`);
    const opened = await openLog(log);
    const first = opened.head.size;
    if (entries.length === 0) return first;
    const { placed, head } = placeEntries(opened.head, entries, now);
    // The entry that begins a segment makes it.
    const segment = segmentOf(head.size - 1n);
    if (first === 0n || segmentOf(first - 1n) < segment) await createSegment(sql, log.id, segment);
    const erased = await store(log, placed);
    opened.head = head;
    // With the same time: a verifier knows by it that this was one batch.
    if (erased.length > 0) await appendAt(log, [erasureEntry(log, erased, now)], now);
    return first;
  };
  const append: AppendEntries = (log, entries) => appendAt(log, entries, nowUs());

  return {
    lock,
    append,
    finish: async () => {
      const moved = [...open.values()].filter(({ from, head }) => head.size > from);
      for (const { log, from, head } of moved.sort((a, b) => a.log.id - b.log.id))
        await moveHead(sql, log.id, from, head);
      return moved;
    },
  };
};

/** Says in the database which frame of the journal it has; in the frame's own transaction. */
export const moveJournalMark = async (sql: Sql, frame: bigint): Promise<void> => {
  await sql.query(
    `insert into edict.journal_mark (frame) values ($1::bigint)
     on conflict (only_row) do update set frame = excluded.frame`,
    [String(frame)],
  );
};

/** The frame of the journal that the database has; 0 while it has none. */
export const readJournalMark = async (sql: Pick<Sql, 'query'>): Promise<bigint> => {
  const [row] = await sql.query<{ frame: bigint }>('select frame from edict.journal_mark', []);
  return row?.frame ?? 0n;
};

/** How far this writer committed each log, to tell when the database is not the one that it wrote to. */
const createEnds = (onRewound: LedgerWriterOptions['onRewound']) => {
  const ends = new Map<number, Head>();
  return {
    /** While the head is locked: nothing else can have been committed since it was read. */
    compare: (log: Log, found: Head): void => {
      const known = ends.get(log.id);
      if (known === undefined || found.size > known.size) return;
      if (found.size === known.size && bytesEqual(found.leaf, known.leaf)) return;
      ends.set(log.id, found);
      onRewound?.(log, known.size, found.size);
    },
    committed: (log: Log, head: Head): void => {
      // Answers of two connections may come in another order than the commits.
      if (head.size > (ends.get(log.id)?.size ?? 0n)) ends.set(log.id, head);
    },
  };
};

/** The one way into the ledger; see `WriteLedger`. */
export const createLedgerWriter = (options: LedgerWriterOptions): WriteLedger => {
  const { database, journal, recover } = options;
  const ends = createEnds(options.onRewound);
  let inDoubt = false;
  let recovering: Promise<void> | undefined;

  const catchUp = async (): Promise<void> => {
    await recover?.();
    inDoubt = false;
  };

  return async (work, logs = []) => {
    if (inDoubt) {
      recovering ??= catchUp().finally(() => {
        recovering = undefined;
      });
      await recovering;
    }
    const operations: JournalOperation[] = [];
    let isJournaled = false;
    let moved: readonly { readonly log: Log; readonly head: Head }[] = [];
    try {
      const result = await database.transaction(async (sql) => {
        const appender = createAppender(sql, options, journal === undefined ? undefined : operations, ends.compare);
        if (logs.length > 0) await appender.lock(logs);
        // Who waited for a transaction that was cut off behind its frame would take the places of its entries.
        if (journal !== undefined && (await readJournalMark(sql)) !== journal.last()) {
          inDoubt = true;
          throw new AppError('database_conflict', 'the database is behind its journal; it is brought to its end first');
        }
        const recorded: Sql = {
          query: async (text, parameters) => {
            const rows = await sql.query<never>(text, parameters);
            if (!READS.test(text))
              operations.push({ kind: 'statement', text, ...(parameters === undefined ? {} : { parameters }) });
            return rows;
          },
        };
        const value = await work({ sql: journal === undefined ? sql : recorded, append: appender.append });
        moved = await appender.finish();
        if (journal !== undefined && operations.length > 0) {
          const number = journal.last() + 1n;
          await moveJournalMark(sql, number);
          isJournaled = true;
          await journal.append({ number, operations });
        }
        return value;
      });
      for (const { log, head } of moved) ends.committed(log, head);
      return result;
    } catch (error) {
      // What is in the journal has happened; the database will be told before the next transaction.
      inDoubt ||= isJournaled;
      throw error;
    }
  };
};

/** Makes everything committed so far survive a power cut; answers how far that is, by log id. */
export const createFlush =
  (database: Database): (() => Promise<ReadonlyMap<number, bigint>>) =>
  async () => {
    const heads = await database.query<{ log_id: number; size: bigint }>(
      'select log_id, size from edict.log_head order by log_id',
      [],
    );
    await database.flush();
    return new Map(heads.map(({ log_id: logId, size }) => [logId, size]));
  };
