import { isObject } from '../../shared/contracts/json.ts';
import type { Sql } from '../core/append.ts';
import { VERDICTS, type VerificationReport } from '../core/verify-report.ts';

const isReport = (value: unknown): value is VerificationReport =>
  isObject(value) &&
  typeof value['origin'] === 'string' &&
  typeof value['size'] === 'string' &&
  isObject(value['verdicts']) &&
  VERDICTS.every((name) => isObject(value['verdicts']) && isObject(value['verdicts'][name]));

/** The newest finished report of each log of the tenant, newest incarnation first. */
export const readReports = async (sql: Pick<Sql, 'query'>, tenant: string): Promise<readonly VerificationReport[]> => {
  const rows = await sql.query<{ report: unknown }>(
    `select distinct on (v.log_id) v.report
     from edict.verification v join edict.log l on l.id = v.log_id and l.tenant = $1
     where v.state = 'done' order by v.log_id desc, v.started_us desc`,
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
