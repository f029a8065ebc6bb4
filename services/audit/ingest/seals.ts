import { hex } from '../../shared/contracts/bytes.ts';
import { SYSTEM_TENANT } from '../../shared/contracts/tenant.ts';
import type { Log, NewEntry, Sql, WriteLedger } from '../core/append.ts';
import { entryKindName } from '../core/entry.ts';
import { ownEntry, type OwnIds } from '../core/own-entry.ts';
import { markSealed } from './coverage.ts';
import type { Logs } from './statements.ts';

/** Streams, offsets and reason codes that one seal names; it says how many more there were. */
const MAX_ROWS = 1_000;

/** The newest seal's seq and what was sealed, 0 before the first. */
const SEALED = `coalesce((select e.seq + 1 from edict.entry e where e.log_id = l.id and get_byte(e.header, 1) = 10
                          order by e.segment desc, e.seq desc limit 1), 0)`;

/**
 * Logs with something to seal: an entry behind the newest seal, and that seal signed. So seals do not pile up while no
 * signer runs, and a seal alone makes no log dirty.
 */
const readUnsealed = (sql: Pick<Sql, 'query'>): Promise<readonly Log[]> =>
  sql.query<Log>(
    `select w.id, w.tenant, w.origin from (
       select l.id, l.tenant::text as tenant, l.origin, h.size, ${SEALED} as sealed,
              coalesce((select max(c.size) from edict.checkpoint c where c.log_id = l.id), 0) as signed
       from edict.log l join edict.log_head h on h.log_id = l.id
       where not exists (select from edict.log n
                         where n.tenant = l.tenant and n.shard = l.shard and n.incarnation > l.incarnation)) w
     where w.size > w.sealed and w.signed >= w.sealed order by w.id`,
    [],
  );

type Count = readonly [name: string, count: string];

const readCounts = async (sql: Sql, text: string, logId: number, from: bigint): Promise<readonly Count[]> =>
  (await sql.query<{ name: string; n: bigint }>(text, [logId, String(from)])).map(({ name, n }) => [name, String(n)]);

/** The seal of a log whose head this transaction holds; undefined when somebody else was first. */
const sealOf = async (sql: Sql, log: Log, ids: OwnIds): Promise<NewEntry | undefined> => {
  const [state] = await sql.query<{
    readonly size: bigint;
    readonly sealed: bigint;
    readonly sealed_us: bigint;
    readonly signed: bigint | null;
    readonly root: Buffer | null;
  }>(
    `select h.size, s.sealed, c.size as signed, c.root,
            coalesce((select ('x' || encode(substr(e.header, 11, 8), 'hex'))::bit(64)::bigint from edict.entry e
                      where e.log_id = h.log_id and e.segment = ((s.sealed - 1) >> 16)::int and e.seq = s.sealed - 1),
                     0) as sealed_us
     from edict.log_head h
     cross join lateral (select ${SEALED.replace('= l.id', '= h.log_id')} as sealed) s
     left join lateral (select k.size, k.root from edict.checkpoint k where k.log_id = h.log_id
                        order by k.size desc limit 1) c on true
     where h.log_id = $1::int`,
    [log.id],
  );
  if (state === undefined || state.size <= state.sealed || (state.signed ?? 0n) < state.sealed) return undefined;
  const from = state.sealed;
  const kinds = await readCounts(
    sql,
    `select get_byte(e.header, 1)::text as name, count(*) as n from edict.entry e
     where e.log_id = $1::int and e.segment >= ($2::bigint >> 16)::int and e.seq >= $2::bigint group by 1 order by 1`,
    log.id,
    from,
  );
  const decisions = await readCounts(
    sql,
    `select d.decision as name, count(*) as n from edict.decision d
     where d.log_id = $1::int and d.seq >= $2::bigint group by 1 order by 1`,
    log.id,
    from,
  );
  const reasons = await readCounts(
    sql,
    `select r.reason as name, count(*) as n from edict.decision d cross join lateral unnest(d.reasons) as r(reason)
     where d.log_id = $1::int and d.seq >= $2::bigint group by 1 order by 2 desc, 1 limit ${MAX_ROWS + 1}`,
    log.id,
    from,
  );
  const emitters = await sql.query<Readonly<Record<string, string>>>(
    `select s.emitter::text as emitter, s.boot::text as boot, s.highest::text as highest,
            s.complete_to::text as complete_to, jsonb_array_length(s.holes)::text as holes
     from edict.stream s where s.log_id = $1::int and s.last_ingest_us >= $2::bigint
     order by s.emitter, s.boot limit ${MAX_ROWS + 1}`,
    [log.id, String(state.sealed_us)],
  );
  // How much each partition holds is the installation's to know, not one tenant's.
  const offsets =
    log.tenant === SYSTEM_TENANT
      ? await sql.query<{ readonly topic: string; readonly partition: number; readonly next: string }>(
          `select c.topic, c.partition, c.next_offset::text as next from edict.source_cursor c
           order by c.topic, c.partition limit ${MAX_ROWS + 1}`,
          [],
        )
      : undefined;
  const cut = <Row>(rows: readonly Row[]): readonly Row[] => rows.slice(0, MAX_ROWS);
  const isCut = [reasons, emitters, offsets ?? []].some(({ length }) => length > MAX_ROWS);
  return ownEntry(
    log.tenant,
    'seal',
    {
      from: String(from),
      kinds: kinds.map(([kind, count]) => [entryKindName(Number(kind)) ?? kind, count]),
      decisions,
      reasons: cut(reasons),
      emitters: cut(emitters),
      ...(offsets === undefined ? {} : { offsets: cut(offsets) }),
      ...(isCut ? { cut: true } : {}),
      checkpoint:
        state.signed === null || state.root === null ? null : { size: String(state.signed), root: hex(state.root) },
    },
    ids,
  );
};

interface AlarmRow {
  readonly log_id: number;
  readonly tenant: string;
  readonly origin: string;
  readonly alarm: string;
  readonly signed_size: bigint;
  readonly what: string;
  readonly expected: string;
  readonly actual: string;
}

const alertEntry = ({ tenant, origin, alarm, what, expected, actual, ...row }: AlarmRow, ids: OwnIds): NewEntry =>
  ownEntry(
    SYSTEM_TENANT,
    'alert',
    { alert: 'signer_refused', tenant, origin, alarm, what, expected, actual, signed_size: String(row.signed_size) },
    ids,
  );

export interface Sealer {
  /** Writes a seal into each log that wants one; how many. Rejects with the first failure, once all were tried. */
  readonly sealAll: () => Promise<number>;
  /** Makes alert entries of what the signer raised; how many. */
  readonly enterAlarms: () => Promise<number>;
}

/** Seal entries (kind 10), one before each checkpoint, and the signer's alarms as alert entries (kind 12). */
export const createSealer = (options: {
  readonly database: Pick<Sql, 'query'>;
  readonly writeLedger: WriteLedger;
  readonly logs: () => Promise<Logs>;
  readonly ids: OwnIds;
}): Sealer => {
  const { database, writeLedger, logs, ids } = options;
  return {
    async sealAll() {
      let sealed = 0;
      const failures: unknown[] = [];
      for (const log of await readUnsealed(database)) {
        try {
          const seals = await writeLedger(
            async ({ sql, append }) => {
              const seal = await sealOf(sql, log, ids);
              if (seal === undefined) return 0;
              await markSealed(sql, log.id, (await append(log, [seal])) + 1n);
              return 1;
            },
            [log],
          );
          sealed += seals;
        } catch (error) {
          failures.push(error);
        }
      }
      if (failures.length > 0) throw failures[0];
      return sealed;
    },
    async enterAlarms() {
      const rows = await database.query<AlarmRow>(
        `select a.log_id, l.tenant::text as tenant, l.origin, a.alarm, a.signed_size, a.what, a.expected, a.actual
         from edict.signer_alarm a join edict.log l on l.id = a.log_id
         where a.seq is null order by a.raised_us limit ${MAX_ROWS}`,
        [],
      );
      const system = rows.length === 0 ? undefined : (await logs()).get(SYSTEM_TENANT);
      if (system === undefined) return 0;
      let entered = 0;
      for (const row of rows)
        await writeLedger(
          async ({ sql, append }) => {
            const named = [row.log_id, row.alarm, String(row.signed_size)];
            const [open] = await sql.query(
              `select 1 as open from edict.signer_alarm
               where log_id = $1::int and alarm = $2::text and signed_size = $3::bigint and seq is null`,
              named,
            );
            if (open === undefined) return;
            const seq = await append(system, [alertEntry(row, ids)]);
            await sql.query(
              `update edict.signer_alarm set seq = $4::bigint
               where log_id = $1::int and alarm = $2::text and signed_size = $3::bigint`,
              [...named, String(seq)],
            );
            entered += 1;
          },
          [system],
        );
      return entered;
    },
  };
};
