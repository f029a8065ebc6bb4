import { AppError } from '../../shared/contracts/errors.ts';
import type { Logger } from '../../shared/runtime/logger.ts';
import type { Log, Sql, WriteLedger } from '../core/append.ts';
import type { Database } from '../core/database.ts';
import { freshIds, ownEntry } from '../core/own-entry.ts';
import type { PayloadKeys } from '../core/payload-keys.ts';
import { retentionDocument, type RetainedTenant, type Retention } from '../core/retention.ts';
import { isOwnCheckpoint } from '../core/verify-checkpoints.ts';

const DAY_US = 86_400_000_000n;

export interface RetentionOptions {
  readonly database: Database;
  /** Under the maintainer's role: only that one may drop payloads. */
  readonly maintainer: Pick<Database, 'query'> | undefined;
  readonly writeLedger: WriteLedger;
  readonly keys: PayloadKeys;
  /** Null: for ever. */
  readonly periodDays: number | null;
  readonly nowUs: () => bigint;
  readonly logger: Logger;
}

interface LogRow extends Log {
  readonly vkey: string;
  readonly segments: number;
  readonly due: number;
  readonly named: number;
  readonly dropped: number;
  /** The newest retention entry that names segments of this log. */
  readonly by_log: number | null;
  readonly by_seq: bigint | null;
}

/** Every log, a tenant's newest incarnation first. A segment's age is that of its last entry. */
const readState = (
  sql: Pick<Sql, 'query'>,
  olderThanUs: bigint | undefined,
  tenant?: string,
): Promise<readonly LogRow[]> =>
  sql.query<LogRow>(
    `select w.*, coalesce(r.segments, 0) as named, r.log_id as by_log, r.seq as by_seq,
            (select count(*) from edict.dropped_segment d where d.log_id = w.id)::int as dropped,
            case when $1::bigint is null then 0 else (
              select count(*) from generate_series(0, w.segments - 1) as s(segment)
              join lateral (select ('x' || encode(substr(e.header, 11, 8), 'hex'))::bit(64)::bigint as us
                            from edict.entry e where e.log_id = w.id and e.segment = s.segment
                            order by e.seq desc limit 1) last on last.us <= $1::bigint) end::int as due
     from (
       select l.id, l.tenant::text as tenant, l.origin, l.vkey, l.incarnation,
              case when exists (select from edict.log n where n.tenant = l.tenant and n.shard = l.shard
                                  and n.incarnation > l.incarnation)
                then (h.size + 65535) >> 16 else h.size >> 16 end::int as segments
       from edict.log l join edict.log_head h on h.log_id = l.id
       where l.shard = 0 and ($2::text is null or l.tenant = $2::text)) w
     left join lateral (select x.segments, x.log_id, x.seq from edict.retention x where x.target_log = w.id
                        order by x.segments desc, x.log_id desc, x.seq desc limit 1) r on true
     order by w.tenant, w.incarnation desc`,
    [olderThanUs === undefined ? null : String(olderThanUs), tenant ?? null],
  );

/** How many entries of a log its key has signed. */
const signedSize = async (sql: Pick<Sql, 'query'>, log: { readonly id: number; readonly vkey: string }) => {
  const [row] = await sql.query<{ size: bigint; note: Buffer }>(
    'select size, note from edict.checkpoint where log_id = $1::int order by size desc limit 1',
    [log.id],
  );
  return row !== undefined && isOwnCheckpoint({ ...row, vkey: log.vkey }) ? row.size : 0n;
};

/**
 * Retention: an entry (kind 6) names the oldest segments, all that went before included; once a checkpoint covers it their
 * payloads, search rows and keys go. Headers stay. `advance` does what can be done now, after a crash too.
 */
export const createRetention = (options: RetentionOptions): Retention & { readonly advance: () => Promise<number> } => {
  const { database, maintainer, writeLedger, keys, periodDays, nowUs, logger } = options;
  const olderThanUs = (): bigint | undefined =>
    periodDays === null ? undefined : nowUs() - BigInt(periodDays) * DAY_US;

  const state = async (): Promise<readonly RetainedTenant[]> => {
    const rows = await readState(database, olderThanUs());
    const tenants: RetainedTenant[] = [];
    for (const tenant of new Set(rows.map((row) => row.tenant))) {
      const logs = rows.filter((row) => row.tenant === tenant);
      const open = logs.find(({ named, dropped }) => dropped < named);
      const by = rows.find(({ id }) => id === open?.by_log);
      const size = by === undefined ? 0n : await signedSize(database, by);
      const isCovered = (open?.by_seq ?? 0n) < size;
      tenants.push({
        tenant,
        logs: logs.map(({ origin: log, segments, due, named, dropped }) => ({ log, segments, due, named, dropped })),
        waitsFor:
          open === undefined
            ? null
            : isCovered
              ? 'the audit service to drop payloads'
              : `a checkpoint that covers entry ${open.by_seq}; the newest covers ${size} entries`,
      });
    }
    return tenants;
  };

  const enter = async (tenant: string, by: string, days: number): Promise<void> => {
    const [newest] = await readState(database, undefined, tenant);
    if (newest === undefined) return;
    await writeLedger(
      async ({ sql, append }) => {
        const logs = await readState(sql, olderThanUs(), tenant);
        if (logs.every(({ due, named }) => due <= named)) return;
        const segments = new Map(logs.map((log) => [log.origin, Math.max(log.due, log.named)]));
        const document = retentionDocument({ tenant, by, periodDays: days, own: newest.origin }, segments);
        const seq = await append(newest, [ownEntry(tenant, 'retention', document, freshIds(Number(nowUs() / 1_000n)))]);
        for (const log of logs)
          if ((segments.get(log.origin) ?? 0) > 0)
            await sql.query(
              `insert into edict.retention (log_id, seq, target_log, segments)
               values ($1::int, $2::bigint, $3::int, $4::int)`,
              [newest.id, String(seq), log.id, segments.get(log.origin) ?? 0],
            );
      },
      [newest],
    );
  };

  /** One segment after another: payloads and search rows, then keys; the keys of the last one may be left by a crash. */
  const drop = async (log: LogRow, by: { readonly id: number; readonly seq: bigint }): Promise<number> => {
    if (maintainer === undefined)
      throw new AppError('state_conflict', 'database.maintainer_url_file is not set: nothing can be dropped');
    if (log.dropped > 0) await keys.destroySegment(log, log.dropped - 1);
    for (let segment = log.dropped; segment < log.named; segment += 1) {
      await maintainer.query('select edict.drop_payload_segment($1::int, $2::int, $3::int, $4::bigint)', [
        log.id,
        segment,
        by.id,
        String(by.seq),
      ]);
      await keys.destroySegment(log, segment);
      logger.info({ log: log.origin, segment, entry: String(by.seq) }, 'payloads dropped');
    }
    return log.named - log.dropped;
  };

  /** Keys of what is dropped may be left: nobody knows at the start, nor where one of them could not be destroyed. */
  let isUnsure = true;
  return {
    periodDays,
    state,
    async begin(by) {
      if (periodDays === null)
        throw new AppError('state_conflict', 'audit.retention is not set: payloads are kept for ever');
      if (maintainer === undefined)
        throw new AppError('state_conflict', 'database.maintainer_url_file is not set: nothing can be dropped');
      for (const { tenant, logs } of await state())
        if (logs.some(({ due, named }) => due > named)) await enter(tenant, by, periodDays);
      return state();
    },
    async advance() {
      let done = 0;
      let hasFailed = false;
      const rows = await readState(database, undefined);
      for (const log of rows) {
        const { named, dropped, by_log: byLog, by_seq: seq } = log;
        if (isUnsure && dropped > 0) await keys.destroySegment(log, dropped - 1);
        const by = rows.find(({ id }) => id === byLog);
        if (by === undefined || seq === null || dropped >= named || (await signedSize(database, by)) <= seq) continue;
        try {
          done += await drop(log, { id: by.id, seq });
        } catch (error) {
          hasFailed = true;
          logger.warn({ err: error, log: log.origin }, 'payloads are dropped later');
        }
      }
      isUnsure = hasFailed;
      return done;
    },
  };
};
