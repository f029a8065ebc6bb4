import { AppError } from '../../shared/contracts/errors.ts';
import type { Log, SearchRow, Sql } from '../core/append.ts';
import type { Head } from '../core/place.ts';

/** One header as it is stored. */
export interface EntryRow {
  readonly seq: bigint;
  readonly header: Buffer;
  readonly leaf: Buffer;
}

export interface PayloadRow {
  readonly seq: bigint;
  readonly ciphertext: Buffer;
}

export interface DecisionRow {
  readonly seq: bigint;
  readonly eventId: string;
  readonly ingestUs: bigint;
  /** The search pseudonym. */
  readonly subject: Buffer;
  readonly search: SearchRow;
}

/**
 * Locks heads until the transaction ends, always in the same order, so that two writers never wait for each other in a
 * circle; gives them in the order of `logs`. Throws `ledger_missing` when there is none, and `database_conflict` for a
 * log that a newer incarnation continues: it ends where that one says.
 */
export const lockHeads = async (sql: Sql, logs: readonly Log[]): Promise<readonly Head[]> => {
  const ids = [`{${logs.map(({ id }) => id).join(',')}}`];
  // A statement of its own, behind the lock: whoever waited for it must see what was committed meanwhile.
  const [rows, continued] = await Promise.all([
    sql.query<{ log_id: number; size: bigint; leaf: Buffer; last_ingest_us: bigint }>(
      `select log_id, size, leaf, last_ingest_us from edict.log_head where log_id = any ($1::text::int[])
       order by log_id for update`,
      ids,
    ),
    sql.query<{ origin: string }>(
      `select l.origin from edict.log l
       join edict.log n on n.tenant = l.tenant and n.shard = l.shard and n.incarnation > l.incarnation
       where l.id = any ($1::text::int[]) limit 1`,
      ids,
    ),
  ]);
  const [ended] = continued;
  if (ended !== undefined)
    throw new AppError('database_conflict', `${ended.origin} has ended: a newer incarnation continues it`);
  const heads = new Map(
    rows.map((row) => [row.log_id, { size: row.size, leaf: row.leaf, lastIngestUs: row.last_ingest_us }]),
  );
  return logs.map(({ id, origin }) => {
    const head = heads.get(id);
    if (head === undefined) throw new AppError('ledger_missing', `there is no ledger ${origin}`);
    return head;
  });
};

/** The same for one log. */
export const lockHead = async (sql: Sql, log: Log): Promise<Head> => {
  const [head] = await lockHeads(sql, [log]);
  if (head === undefined) throw new AppError('ledger_missing', `there is no ledger ${log.origin}`);
  return head;
};

/** Moves a head that this transaction holds. Throws `database_conflict` when it is not where it was. */
export const moveHead = async (sql: Sql, logId: number, from: bigint, to: Head): Promise<void> => {
  const rows = await sql.query(
    `update edict.log_head set size = $3::bigint, leaf = $4::bytea, last_ingest_us = $5::bigint
     where log_id = $1::int and size = $2::bigint returning log_id`,
    [logId, String(from), String(to.size), to.leaf, String(to.lastIngestUs)],
  );
  if (rows.length !== 1) throw new AppError('database_conflict', 'another writer moved the head of the log');
};

/** Makes the partitions of a segment, with their triggers, unless they are there. */
export const createSegment = async (sql: Sql, logId: number, segment: number): Promise<void> => {
  await sql.query('select edict.create_segment($1::int, $2::int)', [logId, segment]);
};

/**
 * Rows of bytes travel as one value and the places of the rows in it: no hex, no arrays of bytes, one SQL for both
 * databases.
 */
const packed = (
  rows: readonly Buffer[],
): { readonly blob: Buffer; readonly starts: string; readonly lengths: string } => {
  const starts: number[] = [];
  const lengths: number[] = [];
  let at = 1;
  for (const row of rows) {
    starts.push(at);
    lengths.push(row.length);
    at += row.length;
  }
  return { blob: Buffer.concat(rows), starts: `{${starts.join(',')}}`, lengths: `{${lengths.join(',')}}` };
};

export const insertEntries = async (sql: Sql, logId: number, rows: readonly EntryRow[]): Promise<void> => {
  const [first] = rows;
  if (first === undefined) return;
  const headers = packed(rows.map(({ header }) => header));
  await sql.query(
    `insert into edict.entry (log_id, segment, seq, header, leaf)
     select $1::int, ((u.i - 1 + $2::bigint) >> 16)::int, u.i - 1 + $2::bigint,
            substring($3::bytea from u.start for u.length), substring($6::bytea from ((u.i - 1) * 32 + 1)::int for 32)
     from unnest($4::text::int[], $5::text::int[]) with ordinality as u(start, length, i)`,
    [
      logId,
      String(first.seq),
      headers.blob,
      headers.starts,
      headers.lengths,
      Buffer.concat(rows.map(({ leaf }) => leaf)),
    ],
  );
};

export const insertPayloads = async (sql: Sql, logId: number, rows: readonly PayloadRow[]): Promise<void> => {
  if (rows.length === 0) return;
  const { blob, starts, lengths } = packed(rows.map(({ ciphertext }) => ciphertext));
  await sql.query(
    `insert into edict.payload (log_id, segment, seq, ciphertext)
     select $1::int, (u.seq >> 16)::int, u.seq, substring($2::bytea from u.start for u.length)
     from unnest($3::text::bigint[], $4::text::int[], $5::text::int[]) as u(seq, start, length)`,
    [logId, blob, `{${rows.map(({ seq }) => String(seq)).join(',')}}`, starts, lengths],
  );
};

/** An element of an array as Postgres reads it in text. */
const element = (value: string): string => `"${value.replaceAll(/["\\]/g, '\\$&')}"`;

/** An array as text; absent values are null. */
const textArray = (values: readonly (string | undefined)[]): string =>
  `{${values.map((value) => (value === undefined ? 'NULL' : element(value))).join(',')}}`;

export const insertDecisions = async (sql: Sql, logId: number, rows: readonly DecisionRow[]): Promise<void> => {
  if (rows.length === 0) return;
  const texts = (value: (search: SearchRow) => string | undefined): string =>
    textArray(rows.map(({ search }) => value(search)));
  const numbers = (value: (row: DecisionRow) => bigint | number | string): string => `{${rows.map(value).join(',')}}`;
  // An array for each column, as text: Postgres reads them in a fifth of the time of JSON.
  await sql.query(
    `insert into edict.decision (log_id, seq, event_id, event_time_ms, ingest_us, decision, reasons, subject, agent,
                                 chain, action, resource_type, resource, purpose, session_id, request_id, caller)
     select $1::int, r.seq, r.event_id, r.event_time_ms, r.ingest_us, r.decision, r.reasons::text[],
            substring($2::bytea from ((r.n - 1) * 32 + 1)::int for 32), r.agent, r.chain::text[], r.action,
            r.resource_type, r.resource, r.purpose, r.session_id, r.request_id, r.caller
     from unnest($3::text::bigint[], $4::text::uuid[], $5::text::bigint[], $6::text::bigint[], $7::text::text[],
                 $8::text::text[], $9::text::text[], $10::text::text[], $11::text::text[], $12::text::text[],
                 $13::text::text[], $14::text::text[], $15::text::text[], $16::text::text[], $17::text::text[])
       with ordinality as r(seq, event_id, event_time_ms, ingest_us, decision, reasons, agent, chain, action,
                            resource_type, resource, purpose, session_id, request_id, caller, n)`,
    [
      logId,
      Buffer.concat(rows.map(({ subject }) => subject)),
      numbers(({ seq }) => seq),
      numbers(({ eventId }) => eventId),
      numbers(({ search }) => search.eventTimeMs),
      numbers(({ ingestUs }) => ingestUs),
      texts(({ decision }) => decision),
      texts(({ reasons }) => textArray(reasons)),
      texts(({ agent }) => agent),
      texts(({ chain }) => textArray(chain ?? [])),
      texts(({ action }) => action),
      texts(({ resourceType }) => resourceType),
      texts(({ resource }) => resource),
      texts(({ purpose }) => purpose),
      texts(({ session }) => session),
      texts(({ requestId }) => requestId),
      texts(({ caller }) => caller),
    ],
  );
};

/** Every log, oldest first. */
export const readLogs = (
  sql: Sql,
): Promise<readonly (Log & { readonly shard: number; readonly incarnation: number })[]> =>
  sql.query('select id, tenant, origin, shard, incarnation from edict.log order by id', []);
