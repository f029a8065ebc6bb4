import { isObject } from '../../shared/contracts/json.ts';
import type { Sql } from '../core/append.ts';
import { VERDICTS, type VerificationReport } from '../core/verify-report.ts';

const isReport = (value: unknown): value is VerificationReport =>
  isObject(value) &&
  typeof value['origin'] === 'string' &&
  typeof value['size'] === 'string' &&
  isObject(value['verdicts']) &&
  VERDICTS.every((name) => isObject(value['verdicts']) && isObject(value['verdicts'][name]));

const FAILED = `coalesce(v.report @? '$.verdicts.*.status ? (@ == "failed")', false)`;

/**
 * The newest finished report of each log of the tenant, newest incarnation first, and behind it the newest one that
 * failed, for as long as nothing that read the whole log has passed since: a later one may not have read what failed.
 */
export const readReports = async (sql: Pick<Sql, 'query'>, tenant: string): Promise<readonly VerificationReport[]> => {
  const rows = await sql.query<{ report: unknown }>(
    `select f.report
     from edict.log l cross join lateral (
       (select v.started_us, v.report from edict.verification v where v.log_id = l.id and v.state = 'done'
        order by v.started_us desc limit 1)
       union
       (select v.started_us, v.report from edict.verification v
        where v.log_id = l.id and v.state = 'done' and ${FAILED} and v.started_us > coalesce(
          (select v.started_us from edict.verification v
           where v.log_id = l.id and v.state = 'done' and not ${FAILED} and not v.report ? 'since'
           order by v.started_us desc limit 1), -1)
        order by v.started_us desc limit 1)) f
     where l.tenant = $1 order by l.id desc, f.started_us desc`,
    [tenant],
  );
  return rows.map(({ report }) => report).filter(isReport);
};

export const insertReport = async (
  sql: Pick<Sql, 'query'>,
  id: string,
  logId: number,
  report: VerificationReport,
): Promise<void> => {
  await sql.query(
    `insert into edict.verification (id, log_id, tree_size, started_us, finished_us, state, report)
     values ($1::uuid, $2::int, $3::bigint, $4::bigint, $5::bigint, 'done', $6::text::jsonb)`,
    [
      id,
      logId,
      report.size,
      String(BigInt(Date.parse(report.startedAt)) * 1000n),
      String(BigInt(Date.parse(report.endedAt)) * 1000n),
      JSON.stringify(report),
    ],
  );
};
