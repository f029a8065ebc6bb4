import { hex } from '../../shared/contracts/bytes.ts';
import { bytesToUuid } from '../../shared/contracts/uuid.ts';
import type { DataSubject, Log, Sql } from '../core/append.ts';
import { ENTRY_KINDS } from '../core/entry.ts';
import type { ErasedEntry, Erasure, ErasureState } from '../core/erasure.ts';
import type { PayloadKeyReference } from '../core/payload-keys.ts';
import { isOwnCheckpoint } from '../core/verify-checkpoints.ts';

const MAX_ROWS = 1_000;

export interface TenantLog extends Log {
  readonly incarnation: number;
  readonly size: bigint;
}

/** A tenant's logs, newest incarnation first. */
export const readLogsOf = (sql: Pick<Sql, 'query'>, tenant: string): Promise<readonly TenantLog[]> =>
  sql.query<TenantLog>(
    `select l.id, l.tenant::text as tenant, l.origin, l.incarnation, h.size
     from edict.log l join edict.log_head h on h.log_id = l.id
     where l.tenant = $1::text and l.shard = 0 order by l.incarnation desc`,
    [tenant],
  );

/** The newest checkpoint of a log, if the log's key signed it: otherwise it covers nothing. */
export const newestCheckpoint = async (
  sql: Pick<Sql, 'query'>,
  logId: number,
): Promise<{ readonly size: bigint } | undefined> => {
  const [row] = await sql.query<{ size: bigint; note: Buffer; vkey: string }>(
    `select c.size, c.note, l.vkey from edict.checkpoint c join edict.log l on l.id = c.log_id
     where c.log_id = $1::int order by c.size desc limit 1`,
    [logId],
  );
  return row !== undefined && isOwnCheckpoint(row) ? { size: row.size } : undefined;
};

const inSegments = (from: bigint, to: bigint): string => `between ${from >> 16n} and ${to >> 16n}`;

/** Kind and event id of the entries in an inclusive range. */
export const readHeaders = async (
  sql: Pick<Sql, 'query'>,
  logId: number,
  from: bigint,
  to: bigint,
): Promise<readonly { readonly seq: bigint; readonly kind: number; readonly eventId: string }[]> => {
  const rows = await sql.query<{ seq: bigint; header: Buffer }>(
    `select seq, substr(header, 1, 34) as header from edict.entry
     where log_id = $1::int and segment ${inSegments(from, to)} and seq between $2::bigint and $3::bigint order by seq`,
    [logId, String(from), String(to)],
  );
  return rows.map(({ seq, header }) => ({ seq, kind: header[1] ?? 0, eventId: bytesToUuid(header.subarray(18, 34)) }));
};

/** Those of the references, all of one segment, that are entries of the log: seqs in ascending order. */
export const readCommitted = async (
  sql: Pick<Sql, 'query'>,
  logId: number,
  references: readonly PayloadKeyReference[],
): Promise<readonly bigint[]> => {
  const [first] = references;
  if (first === undefined) return [];
  const rows = await sql.query<{ seq: bigint }>(
    `select distinct e.seq from unnest($2::text::bigint[], $3::text::uuid[]) as r(seq, event_id)
     join edict.entry e on e.log_id = $1::int and e.segment = ${first.seq >> 16n} and e.seq = r.seq
     where substr(e.header, 19, 16) = uuid_send(r.event_id) order by e.seq`,
    [
      logId,
      `{${references.map(({ seq }) => String(seq)).join(',')}}`,
      `{${references.map(({ eventId }) => eventId).join(',')}}`,
    ],
  );
  return rows.map(({ seq }) => seq);
};

/**
 * Decisions whose search rows have this pseudonym, behind `after`, at most `limit`. Their ids are those of the headers,
 * which are signed: whoever may write search rows could else have a key looked for that never was.
 */
export const readSearched = async (
  sql: Pick<Sql, 'query'>,
  logId: number,
  pseudonym: Uint8Array,
  after: bigint,
  limit: number,
): Promise<readonly PayloadKeyReference[]> => {
  const rows = await sql.query<{ seq: bigint; event_id: string }>(
    `select d.seq, encode(substr(e.header, 19, 16), 'hex')::uuid as event_id from edict.decision d
     join edict.entry e on e.log_id = d.log_id and e.segment = (d.seq >> 16)::int and e.seq = d.seq
                       and get_byte(e.header, 1) = ${ENTRY_KINDS.decision}
     where d.log_id = $1::int and d.subject = $2::bytea and d.seq > $3::bigint order by d.seq limit $4::int`,
    [logId, Buffer.from(pseudonym), String(after), limit],
  );
  return rows.map(({ seq, event_id: eventId }) => ({ seq, eventId }));
};

/** Entries of the audit service's own, in an inclusive range, as they are stored. */
export const readOwnRows = (
  sql: Pick<Sql, 'query'>,
  logId: number,
  from: bigint,
  to: bigint,
): Promise<readonly { readonly seq: bigint; readonly header: Buffer; readonly ciphertext: Buffer | null }[]> =>
  sql.query(
    `select e.seq, e.header, p.ciphertext from edict.entry e
     left join edict.payload p on p.log_id = e.log_id and p.segment = e.segment and p.seq = e.seq
     where e.log_id = $1::int and e.segment ${inSegments(from, to)} and e.seq between $2::bigint and $3::bigint
     order by e.seq`,
    [logId, String(from), String(to)],
  );

interface ErasureRow {
  readonly id: string;
  readonly tenant: string;
  readonly state: ErasureState;
  readonly request: Buffer;
  readonly legal_basis: string;
  readonly subject: DataSubject | null;
  readonly key: Buffer | null;
  readonly entries: readonly ErasedEntry[];
  readonly copies: readonly string[];
  readonly requested_by: string;
  readonly requested_us: bigint;
  readonly expires_us: bigint;
  readonly approvals: Erasure['approvals'];
  readonly authenticated: boolean;
  readonly log_id: number | null;
  readonly first_seq: bigint | null;
  readonly last_seq: bigint | null;
  readonly erased: bigint | null;
  readonly ended_us: bigint | null;
}

const COLUMNS = `id, tenant::text as tenant, state, request, legal_basis, subject, key, entries, copies, requested_by,
            requested_us, expires_us, approvals, authenticated, log_id, first_seq, last_seq, erased, ended_us`;

const fromRow = (row: ErasureRow): Erasure => ({
  id: row.id,
  tenant: row.tenant,
  state: row.state,
  request: hex(row.request),
  legalBasis: row.legal_basis,
  subject: row.subject,
  key: row.key === null ? null : hex(row.key),
  entries: row.entries,
  copies: row.copies,
  requestedBy: row.requested_by,
  requestedUs: row.requested_us,
  expiresUs: row.expires_us,
  approvals: row.approvals,
  authenticated: row.authenticated,
  logId: row.log_id,
  firstSeq: row.first_seq,
  lastSeq: row.last_seq,
  erased: row.erased,
  endedUs: row.ended_us,
});

/** Requests, newest first; `where` is text of ours. */
export const readErasures = async (
  sql: Pick<Sql, 'query'>,
  where: string,
  parameters: readonly unknown[],
  lock: '' | 'for update' = '',
): Promise<readonly Erasure[]> => {
  const rows = await sql.query<ErasureRow>(
    `select ${COLUMNS} from edict.erasure where ${where}
     order by requested_us desc, id desc limit ${MAX_ROWS} ${lock}`,
    parameters,
  );
  return rows.map(fromRow);
};

/** Requests that have their erasure entries, in the order of the ids, behind `after` (empty: from the beginning). */
export const readEntered = async (sql: Pick<Sql, 'query'>, after: string): Promise<readonly Erasure[]> => {
  const rows = await sql.query<ErasureRow>(
    `select ${COLUMNS} from edict.erasure
     where state in ('entered', 'done')
       and id > coalesce(nullif($1::text, '')::uuid, '00000000-0000-0000-0000-000000000000')
     order by id limit ${MAX_ROWS}`,
    [after],
  );
  return rows.map(fromRow);
};

/** Segments whose payloads retention dropped. */
export const readDropped = (
  sql: Pick<Sql, 'query'>,
): Promise<readonly { readonly tenant: string; readonly origin: string; readonly segment: number }[]> =>
  sql.query(
    `select l.tenant::text as tenant, l.origin, d.segment
     from edict.dropped_segment d join edict.log l on l.id = d.log_id order by l.id, d.segment`,
    [],
  );

/** In the transaction of its entries; whole, so that a database made anew from the journal can go on from it. */
export const putEntered = async (
  sql: Sql,
  erasure: Erasure,
  at: { readonly logId: number; readonly firstSeq: bigint; readonly lastSeq: bigint; readonly erased: bigint },
): Promise<void> => {
  await sql.query(
    `insert into edict.erasure as e (id, tenant, state, request, legal_basis, key, entries, copies, requested_by,
                                     requested_us, expires_us, approvals, authenticated, log_id, first_seq, last_seq,
                                     erased)
     values ($1::uuid, $2::text, 'entered', $3::bytea, $4::text, $5::bytea, $6::text::jsonb, $7::text::jsonb, $8::text,
             $9::bigint, $10::bigint, $11::text::jsonb, $12::boolean, $13::int, $14::bigint, $15::bigint, $16::bigint)
     on conflict (id) do update set state = 'entered', log_id = excluded.log_id, first_seq = excluded.first_seq,
       last_seq = excluded.last_seq, erased = excluded.erased`,
    [
      erasure.id,
      erasure.tenant,
      Buffer.from(erasure.request, 'hex'),
      erasure.legalBasis,
      erasure.key === null ? null : Buffer.from(erasure.key, 'hex'),
      JSON.stringify(erasure.entries),
      JSON.stringify(erasure.copies),
      erasure.requestedBy,
      String(erasure.requestedUs),
      String(erasure.expiresUs),
      JSON.stringify(erasure.approvals),
      erasure.authenticated,
      at.logId,
      String(at.firstSeq),
      String(at.lastSeq),
      String(at.erased),
    ],
  );
};
