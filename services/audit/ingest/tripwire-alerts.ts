import { SYSTEM_TENANT } from '../../shared/contracts/tenant.ts';
import type { NewEntry, Sql, WriteLedger } from '../core/append.ts';
import { ownEntry, type OwnIds } from '../core/own-entry.ts';
import type { Logs } from './statements.ts';

const MAX_ROWS = 1_000;

interface AlarmRow {
  readonly lsn: string;
  readonly xid: bigint | null;
  readonly relation: string;
  readonly operation: string;
  readonly rows: bigint;
  readonly keys: readonly string[];
  readonly committed_us: bigint | null;
}

const alertEntry = ({ committed_us: committedUs, rows, xid, ...row }: AlarmRow, ids: OwnIds): NewEntry =>
  ownEntry(
    SYSTEM_TENANT,
    'alert',
    {
      alert: 'database_changed',
      ...row,
      rows: String(rows),
      xid: xid === null ? null : String(xid),
      committed_us: committedUs === null ? null : String(committedUs),
    },
    ids,
  );

/** Makes alert entries (kind 12) of what the tripwire saw; how many. */
export const enterTripwireAlarms = async (options: {
  readonly database: Pick<Sql, 'query'>;
  readonly writeLedger: WriteLedger;
  readonly logs: () => Promise<Logs>;
  readonly ids: OwnIds;
}): Promise<number> => {
  const { database, writeLedger, logs, ids } = options;
  const alarms = await database.query<AlarmRow>(
    `select lsn::text as lsn, xid, relation, operation, rows, keys, committed_us from edict.tripwire_alarm
     where seq is null order by raised_us, lsn limit ${MAX_ROWS}`,
    [],
  );
  const system = alarms.length === 0 ? undefined : (await logs()).get(SYSTEM_TENANT);
  if (system === undefined) return 0;
  let entered = 0;
  for (const alarm of alarms)
    await writeLedger(
      async ({ sql, append }) => {
        const named = [alarm.lsn, alarm.relation, alarm.operation];
        const where = 'lsn = $1::text::pg_lsn and relation = $2::text and operation = $3::text and seq is null';
        const [open] = await sql.query(`select 1 as open from edict.tripwire_alarm where ${where}`, named);
        if (open === undefined) return;
        const seq = await append(system, [alertEntry(alarm, ids)]);
        await sql.query(`update edict.tripwire_alarm set seq = $4::bigint where ${where}`, [...named, String(seq)]);
        entered += 1;
      },
      [system],
    );
  return entered;
};
