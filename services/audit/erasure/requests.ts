import { AppError } from '../../shared/contracts/errors.ts';
import { newUuidV7 } from '../../shared/contracts/uuid.ts';
import type { Sql } from '../core/append.ts';
import type { Database } from '../core/database.ts';
import { ENTRY_KINDS } from '../core/entry.ts';
import {
  APPROVALS,
  ERASABLE,
  MAX_OPEN_ERASURES,
  requestDigest,
  type ErasedEntry,
  type Erasure,
  type Erasures,
  type ErasureStatus,
} from '../core/erasure.ts';
import type { PayloadKeys } from '../core/payload-keys.ts';
import { newestCheckpoint, readErasures, readHeaders, readLogsOf, type TenantLog } from './statements.ts';

export interface ErasuresOptions {
  readonly database: Database;
  readonly keys: PayloadKeys;
  readonly nowUs: () => bigint;
  /** How long a request waits for its second approval. */
  readonly expiryMs: number;
  /** Copies outside the ledger that every erasure entry names. */
  readonly copies: readonly string[];
}

/** The entries of a tenant that are named by decision id, or by seq in the newest log. */
const entriesNamed = async (
  sql: Pick<Sql, 'query'>,
  logs: readonly TenantLog[],
  decisions: readonly string[],
  seqs: readonly bigint[],
): Promise<readonly ErasedEntry[]> => {
  const [newest] = logs;
  if (newest === undefined) return [];
  const rows = await sql.query<{ log_id: number; event_id: string; seq: bigint }>(
    `select r.log_id, r.event_id, r.seq from unnest($1::text::int[]) as l(id)
     cross join unnest($2::text::uuid[]) as w(event_id)
     join edict.received r on r.log_id = l.id and r.event_id = w.event_id`,
    [`{${logs.map(({ id }) => id).join(',')}}`, `{${decisions.join(',')}}`],
  );
  const unknown = decisions.find((id) => !rows.some(({ event_id: eventId }) => eventId === id));
  if (unknown !== undefined) throw new AppError('not_found', `the ledger has no event ${unknown}`);
  const wanted = [
    ...rows.map(({ log_id: logId, seq }) => ({ log: logs.find(({ id }) => id === logId) ?? newest, seq })),
    ...seqs.map((seq) => ({ log: newest, seq })),
  ];
  const entries: ErasedEntry[] = [];
  for (const { log, seq } of wanted) {
    const [row] = await readHeaders(sql, log.id, seq, seq);
    if (row === undefined) throw new AppError('not_found', `${log.origin} has no entry ${seq}`);
    if (!ERASABLE.some((kind) => ENTRY_KINDS[kind] === row.kind))
      throw new AppError('request_invalid', `entry ${seq} names nobody: only ${ERASABLE.join(', ')} can be erased`);
    entries.push({ log: log.origin, seq: String(seq), event_id: row.eventId });
  }
  return entries;
};

/** What an open request waits for. */
const waitsFor = async (sql: Pick<Sql, 'query'>, erasure: Erasure): Promise<string | null> => {
  const { state, approvals, logId, lastSeq } = erasure;
  if (state === 'pending') return `${APPROVALS - approvals.length} approvals`;
  if (state === 'approved') return 'the audit service to write its erasure entry';
  if (state !== 'entered' || logId === null || lastSeq === null) return null;
  const signed = (await newestCheckpoint(sql, logId))?.size ?? 0n;
  return signed > lastSeq
    ? 'the audit service to destroy the keys'
    : `a checkpoint that covers entry ${lastSeq}; the newest covers ${signed} entries`;
};

/** Requests for erasure and their approvals; what is approved is carried out by `createEraser`. */
export const createErasures = (options: ErasuresOptions): Erasures & { readonly expire: () => Promise<void> } => {
  const { database, keys, nowUs } = options;

  const statusOf = async (erasure: Erasure): Promise<ErasureStatus> => ({
    ...erasure,
    log: (await readLogsOf(database, erasure.tenant)).find(({ id }) => id === erasure.logId)?.origin ?? null,
    waitsFor: await waitsFor(database, erasure),
  });

  const get = async (tenant: string, id: string): Promise<ErasureStatus> => {
    const [found] = await readErasures(database, 'tenant = $1::text and id = $2::uuid', [tenant, id]);
    if (found === undefined) throw new AppError('not_found', `tenant ${tenant} has no erasure ${id}`);
    return statusOf(found);
  };

  /** One change of a pending request under its lock, durable when this resolves. */
  const change = async (
    tenant: string,
    id: string,
    work: (sql: Sql, erasure: Erasure) => Promise<unknown>,
  ): Promise<ErasureStatus> => {
    await database.transaction(async (sql) => {
      const [found] = await readErasures(sql, 'tenant = $1::text and id = $2::uuid', [tenant, id], 'for update');
      if (found === undefined) throw new AppError('not_found', `tenant ${tenant} has no erasure ${id}`);
      if (found.state !== 'pending' || found.expiresUs <= nowUs())
        throw new AppError('state_conflict', `the request is ${found.state === 'pending' ? 'expired' : found.state}`);
      await work(sql, found);
    });
    await database.flush();
    return get(tenant, id);
  };

  /** A request keeps nobody's name longer than it must. */
  const expire = async (): Promise<void> => {
    await database.query(
      `update edict.erasure set state = 'expired', subject = null, ended_us = $1::bigint
       where state = 'pending' and expires_us <= $1::bigint`,
      [String(nowUs())],
    );
  };

  return {
    get,
    expire,
    list: async (tenant) => {
      const found = await readErasures(database, 'tenant = $1::text', [tenant]);
      const all: ErasureStatus[] = [];
      for (const erasure of found) all.push(await statusOf(erasure));
      return all;
    },
    async request(tenant, by, { scope, reference, legalBasis, copies }) {
      await expire();
      const logs = await readLogsOf(database, tenant);
      if (logs.length === 0) throw new AppError('ledger_missing', `tenant ${tenant} has no ledger`);
      const entries = 'subject' in scope ? [] : await entriesNamed(database, logs, scope.decisions, scope.seqs);
      const subject = 'subject' in scope ? scope.subject : undefined;
      const now = nowUs();
      const id = newUuidV7(Number(now / 1_000n));
      const [made] = await database.query(
        `insert into edict.erasure (id, tenant, state, request, legal_basis, subject, key, entries, copies,
                                    requested_by, requested_us, expires_us, authenticated)
         select $1::uuid, $2::text, 'pending', $3::bytea, $4::text, $5::text::jsonb, $6::bytea, $7::text::jsonb,
                $8::text::jsonb, $9::text, $10::bigint, $11::bigint, $12::boolean
         where (select count(*) from edict.erasure where tenant = $2::text
                  and state in ('pending', 'approved', 'entered')) < $13::int
         returning id`,
        [
          id,
          tenant,
          requestDigest(tenant, reference),
          legalBasis,
          subject === undefined ? null : JSON.stringify(subject),
          subject === undefined ? null : keys.nameOf(tenant, subject),
          JSON.stringify(entries),
          JSON.stringify([...new Set([...options.copies, ...copies])]),
          by.name,
          String(now),
          String(now + BigInt(options.expiryMs) * 1_000n),
          by.isAuthenticated,
          MAX_OPEN_ERASURES,
        ],
      );
      if (made === undefined)
        throw new AppError('state_conflict', `${MAX_OPEN_ERASURES} requests of this tenant are open already`);
      await database.flush();
      return get(tenant, id);
    },
    approve: (tenant, id, by) =>
      change(tenant, id, async (sql, { approvals }) => {
        if (approvals.some(({ by: name }) => name === by.name))
          throw new AppError('state_conflict', `${by.name} has approved it: the other approval is somebody else’s`);
        const all = [...approvals, { by: by.name, us: String(nowUs()) }];
        await sql.query(
          `update edict.erasure set approvals = $2::text::jsonb, state = $3::text,
                  authenticated = authenticated and $4::boolean where id = $1::uuid`,
          [id, JSON.stringify(all), all.length < APPROVALS ? 'pending' : 'approved', by.isAuthenticated],
        );
      }),
    withdraw: (tenant, id) =>
      change(tenant, id, (sql) =>
        sql.query(
          `update edict.erasure set state = 'withdrawn', subject = null, ended_us = $2::bigint where id = $1::uuid`,
          [id, String(nowUs())],
        ),
      ),
  };
};
