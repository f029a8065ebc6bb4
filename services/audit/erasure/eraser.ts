import { AppError, isAppError } from '../../shared/contracts/errors.ts';
import { isObject } from '../../shared/contracts/json.ts';
import type { Logger } from '../../shared/runtime/logger.ts';
import type { Sql, WriteLedger } from '../core/append.ts';
import type { Database } from '../core/database.ts';
import { ENTRY_KINDS } from '../core/entry.ts';
import { APPROVALS, erasureDocuments, type Erasure } from '../core/erasure.ts';
import { freshIds, ownEntry } from '../core/own-entry.ts';
import type { PayloadKeyReference, PayloadKeys } from '../core/payload-keys.ts';
import type { NameSubject } from '../core/pseudonym.ts';
import { openPayloads } from '../core/query-reader.ts';
import { goneSeqs, parseObject } from '../core/verify-event.ts';
import { faultOfRequest, type SeqRanges } from '../core/verify-gone.ts';
import {
  newestCheckpoint,
  putEntered,
  readCommitted,
  readDropped,
  readEntered,
  readErasures,
  readHeaders,
  readLogsOf,
  readOwnRows,
  readSearched,
  type TenantLog,
} from './statements.ts';

const SEGMENT = 65_536n;
/** Keys destroyed, or ranges of search rows cleaned, in one statement. */
const SLICE = 4_096n;
const RANGES = 1_000;

export interface EraserOptions {
  readonly database: Database;
  readonly writeLedger: WriteLedger;
  readonly keys: PayloadKeys;
  readonly nameForSearch: NameSubject;
  readonly nowUs: () => bigint;
  readonly logger: Logger;
}

export interface Eraser {
  /** Takes every approved request as far as it goes now; how many are done by it. One that fails stops no other. */
  readonly advance: () => Promise<number>;
  /**
   * Closes and destroys again what the ledger says is erased or dropped: the key store may be a copy from before. To be
   * done before anything gets a key. How many requests; rejects where the key store does not answer.
   */
  readonly repeat: () => Promise<number>;
}

/** By origin, ascending. */
type Found = Map<string, readonly bigint[]>;

const ascending = (seqs: Iterable<bigint>): readonly bigint[] => [...new Set(seqs)].sort((a, b) => (a < b ? -1 : 1));

/** Whoever may write the row of a request is no approver: throws unless two different ones stand in it. */
const requireApproved = ({ id, approvals }: Erasure): void => {
  if (new Set(approvals.map(({ by }) => by).filter((by) => by !== '')).size < APPROVALS)
    throw new AppError('state_conflict', `erasure ${id} is not approved by ${APPROVALS}`);
};

/** Why an entry is no erasure entry of this request; undefined: it is one, as far as it can be read. */
const faultOfEntry = (
  erasure: Erasure,
  kind: number | undefined,
  document: Readonly<Record<string, unknown>> | undefined,
): string | undefined => {
  if (kind !== ENTRY_KINDS.erasure) return 'is no erasure entry';
  if (document === undefined) return undefined;
  if (document['reason'] !== 'request') return 'erases nobody on request';
  if (document['erasure'] !== erasure.id || (document['key'] ?? null) !== erasure.key) return 'is of another request';
  return faultOfRequest(document);
};

/**
 * Carries out approved erasures: closes the subject's key, so that nothing new stands under it; writes the erasure entry
 * that names every entry under it; waits for a checkpoint that covers it; destroys the keys; cleans the search table.
 * Wherever it is killed, the next `advance` does the step again and changes nothing that was done.
 */
export const createEraser = (options: EraserOptions): Eraser => {
  const { database, writeLedger, keys, nameForSearch, nowUs, logger } = options;

  /** Committed entries in [from, to) that stand under the subject's key. */
  const underKey = async (
    sql: Pick<Sql, 'query'>,
    log: TenantLog,
    name: Uint8Array,
    from: bigint,
    to: bigint,
  ): Promise<readonly bigint[]> => {
    const seqs: bigint[] = [];
    for (let at = from; at < to; at = ((at >> 16n) + 1n) << 16n) {
      const next = ((at >> 16n) + 1n) * SEGMENT;
      const references = await keys.entriesOf(log, name, at, next < to ? next : to);
      for (const seq of await readCommitted(sql, log.id, references)) seqs.push(seq);
    }
    return seqs;
  };

  /**
   * Entries that the search table has of the subject and whose keys are gone: a database that was restored from a copy
   * older than an earlier erasure. One whose payload opens is not among them, whatever its search row says.
   */
  const goneBefore = async (log: TenantLog, erasure: Erasure): Promise<readonly bigint[]> => {
    const { subject, tenant } = erasure;
    if (subject === null) return [];
    const seqs: bigint[] = [];
    const name = nameForSearch(tenant, subject);
    for (let after = -1n; ;) {
      const rows = await readSearched(database, log.id, name, after, Number(SLICE));
      const last = rows.at(-1);
      if (last === undefined) return seqs;
      const found = await keys.find(log, rows);
      rows.forEach(({ seq }, index) => {
        if (found[index]?.length === 0) seqs.push(seq);
      });
      after = last.seq;
    }
  };

  const enter = async (erasure: Erasure): Promise<void> => {
    const { id, tenant, key, entries } = erasure;
    requireApproved(erasure);
    const logs = await readLogsOf(database, tenant);
    const [newest] = logs;
    if (newest === undefined) throw new AppError('ledger_missing', `tenant ${tenant} has no ledger`);
    const found: Found = new Map();
    const name = key === null ? undefined : Buffer.from(key, 'hex');
    if (name === undefined) {
      await keys.closeEvents(
        tenant,
        entries.map(({ event_id: eventId }) => eventId),
      );
      for (const { origin } of logs)
        found.set(origin, ascending(entries.filter(({ log }) => log === origin).map(({ seq }) => BigInt(seq))));
    } else {
      await keys.closeSubject(tenant, name);
      for (const log of logs)
        found.set(log.origin, [
          ...(await underKey(database, log, name, 0n, log.size)),
          ...(await goneBefore(log, erasure)),
        ]);
    }
    await writeLedger(
      async ({ sql, append }) => {
        const [open] = await readErasures(sql, `id = $1::uuid and state = 'approved'`, [id], 'for update');
        if (open === undefined) return;
        if (name !== undefined) {
          // Whoever was issued keys before they were closed has committed, or never will: the head is ours.
          const size = (await readLogsOf(sql, tenant)).find((log) => log.id === newest.id)?.size ?? newest.size;
          const late = await underKey(sql, newest, name, newest.size, size);
          found.set(newest.origin, [...(found.get(newest.origin) ?? []), ...late]);
        }
        for (const [origin, seqs] of found) found.set(origin, ascending(seqs));
        const documents = erasureDocuments(erasure, newest.origin, found);
        const ids = freshIds(Number(nowUs() / 1_000n));
        const firstSeq = await append(
          newest,
          documents.map((document) => ownEntry(tenant, 'erasure', document, ids)),
        );
        await putEntered(sql, erasure, {
          logId: newest.id,
          firstSeq,
          lastSeq: firstSeq + BigInt(documents.length - 1),
          erased: [...found.values()].reduce((sum, seqs) => sum + BigInt(seqs.length), 0n),
        });
      },
      [newest],
    );
  };

  /** One erasure entry of the request; undefined where its payload does not open. Throws where it is none. */
  const readDocument = async (erasure: Erasure, log: TenantLog, seq: bigint) => {
    const [row] = await readOwnRows(database, log.id, seq, seq);
    const [payload] = await openPayloads(keys, log, row === undefined ? [] : [row]);
    const document = payload?.state === 'opened' ? parseObject(payload.payload) : undefined;
    const fault = faultOfEntry(erasure, row?.header[1], document);
    if (fault !== undefined) throw new AppError('ledger_corrupt', `${log.origin}: entry ${seq} ${fault}`);
    return document;
  };

  /** What the request's erasure entries name, by origin; the row only says where they are. */
  const readNamed = async (
    erasure: Erasure,
    log: TenantLog,
    first: bigint,
    last: bigint,
  ): Promise<ReadonlyMap<string, SeqRanges>> => {
    if (first > last) throw new AppError('ledger_corrupt', `erasure ${erasure.id} has no entry`);
    const named = new Map<string, SeqRanges>();
    const add = (origin: string, ranges: SeqRanges): void =>
      void named.set(origin, [...(named.get(origin) ?? []), ...ranges]);
    for (let seq = first; seq <= last; seq += 1n) {
      const document = await readDocument(erasure, log, seq);
      if (document === undefined) throw new AppError('ledger_corrupt', `${log.origin}: entry ${seq} cannot be read`);
      add(log.origin, goneSeqs(document));
      for (const item of Array.isArray(document['earlier']) ? (document['earlier'] as readonly unknown[]) : [])
        if (isObject(item)) add(String(item['log']), goneSeqs(item));
    }
    return named;
  };

  const destroy = async (log: TenantLog, ranges: SeqRanges): Promise<void> => {
    for (const [from, to] of ranges)
      for (let at = from; at <= to; at += SLICE) {
        const end = at + SLICE - 1n < to ? at + SLICE - 1n : to;
        const references: readonly PayloadKeyReference[] = await readHeaders(database, log.id, at, end);
        await keys.destroyEntries(log, references);
      }
  };

  const clean = async (log: TenantLog, ranges: SeqRanges, by: { readonly id: number; readonly seq: bigint }) => {
    for (let at = 0; at < ranges.length; at += RANGES)
      await database.query('select edict.clean_search($1::int, $2::text::jsonb, $3::int, $4::bigint)', [
        log.id,
        JSON.stringify(ranges.slice(at, at + RANGES).map((range) => range.map(String))),
        by.id,
        String(by.seq),
      ]);
  };

  /** True when it is done. */
  const finish = async (erasure: Erasure): Promise<boolean> => {
    const { id, tenant, key, logId, firstSeq, lastSeq } = erasure;
    if (logId === null || firstSeq === null || lastSeq === null) return false;
    requireApproved(erasure);
    const logs = await readLogsOf(database, tenant);
    const log = logs.find((each) => each.id === logId);
    if (log === undefined) throw new AppError('ledger_missing', `there is no log ${logId}`);
    if (((await newestCheckpoint(database, logId))?.size ?? 0n) <= lastSeq) {
      // A log that has ended gets no checkpoint any more: the log that continues it must say so again.
      if (log.id !== logs[0]?.id)
        await database.query(
          `update edict.erasure set state = 'approved', log_id = null, first_seq = null, last_seq = null, erased = null
           where id = $1::uuid and state = 'entered'`,
          [id],
        );
      return false;
    }
    const named = await readNamed(erasure, log, firstSeq, lastSeq);
    if (key !== null) await keys.destroySubject(tenant, Buffer.from(key, 'hex'));
    for (const each of logs) await destroy(each, named.get(each.origin) ?? []);
    for (const each of logs) await clean(each, named.get(each.origin) ?? [], { id: log.id, seq: lastSeq });
    await database.query(
      `update edict.erasure set state = 'done', subject = null, ended_us = $2::bigint where id = $1::uuid`,
      [id, String(nowUs())],
    );
    await database.flush();
    logger.info({ erasure: id, tenant, log: log.origin, seq: String(firstSeq) }, 'erased');
    return true;
  };

  const repeatOne = async (erasure: Erasure): Promise<void> => {
    const { tenant, state, key, entries, logId, firstSeq, lastSeq } = erasure;
    const log = (await readLogsOf(database, tenant)).find(({ id }) => id === logId);
    if (log === undefined || firstSeq === null || lastSeq === null || firstSeq > lastSeq)
      throw new AppError('ledger_corrupt', `erasure ${erasure.id} has no entry`);
    requireApproved(erasure);
    // A copy of the key store from before these entries cannot open them; the headers are signed all the same.
    for (let seq = firstSeq; seq <= lastSeq; seq += 1n) await readDocument(erasure, log, seq);
    if (key !== null) await keys.closeSubject(tenant, Buffer.from(key, 'hex'));
    if (entries.length > 0)
      await keys.closeEvents(
        tenant,
        entries.map(({ event_id: eventId }) => eventId),
      );
    if (state !== 'done') return;
    if (key !== null) await keys.destroySubject(tenant, Buffer.from(key, 'hex'));
    for (const { log: origin, seq, event_id: eventId } of entries)
      await keys.destroyEntries({ tenant, origin }, [{ seq: BigInt(seq), eventId }]);
  };

  return {
    async repeat() {
      let repeated = 0;
      for (let after = ''; ;) {
        const page = await readEntered(database, after);
        const last = page.at(-1);
        if (last === undefined) break;
        for (const erasure of page)
          try {
            await repeatOne(erasure);
            repeated += 1;
          } catch (error) {
            // A row that proves nothing stops no other; whatever else may pass is tried again.
            if (!isAppError(error) || !['ledger_corrupt', 'state_conflict'].includes(error.code)) throw error;
            logger.warn({ err: error, erasure: erasure.id }, 'an erasure is not repeated');
          }
        after = last.id;
      }
      for (const { segment, ...log } of await readDropped(database)) await keys.destroySegment(log, segment);
      return repeated;
    },
    async advance() {
      let done = 0;
      for (const erasure of (await readErasures(database, `state in ('approved', 'entered')`, [])).toReversed())
        try {
          if (erasure.state === 'approved') await enter(erasure);
          else if (await finish(erasure)) done += 1;
        } catch (error) {
          // Another writer was first: the next time.
          if (isAppError(error) && error.code === 'database_conflict') continue;
          logger.warn({ err: error, erasure: erasure.id }, 'an erasure goes on later');
        }
      return done;
    },
  };
};
