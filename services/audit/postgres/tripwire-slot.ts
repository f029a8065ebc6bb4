import { AppError } from '../../shared/contracts/errors.ts';
import type { Sql } from '../core/append.ts';
import type { TripwireAlarm } from '../core/tripwire.ts';
import { formatLsn, parseLsn, type Lsn } from '../core/wal-changes.ts';

/** What migration 0010 publishes: changes that no program of Edict makes, of every table. */
export const PUBLICATIONS = ['edict_append_only', 'edict_no_removal', 'edict_no_change'] as const;

const PLUGIN = 'pgoutput';

export interface SlotState {
  readonly confirmed: Lsn;
  /** `reserved`, `extended`, `unreserved`, or `lost`: the server has thrown away what was not read. */
  readonly walStatus: string;
  /** Bytes of write-ahead log that were written and not yet read here. */
  readonly lagBytes: number;
  /** What the server keeps for the slot. */
  readonly keptBytes: number;
}

export interface WatchState {
  /** Which installation of Postgres this is: a copy restored elsewhere has the same. */
  readonly system: string;
  readonly walLevel: string;
  /** False: the server would keep write-ahead log until its disk is full, should nobody read the slot. */
  readonly isCapped: boolean;
  /** Undefined where there is no such slot. */
  readonly slot: SlotState | undefined;
}

interface StateRow {
  readonly system: string;
  readonly wal_level: string;
  readonly cap: string;
  readonly publications: bigint;
  readonly is_ours: boolean | null;
  readonly wal_status: string | null;
  readonly confirmed: string | null;
  readonly lag: string | null;
  readonly kept: string | null;
}

/**
 * The server and the slot, as they stand. Rejects with `settings_invalid` where the tripwire cannot work: another
 * `wal_level`, no publications, or a slot of that name that is something else's.
 */
export const readWatchState = async (sql: Pick<Sql, 'query'>, slot: string): Promise<WatchState> => {
  const [row] = await sql.query<StateRow>(
    `select (select system_identifier::text from pg_control_system()) as system,
            current_setting('wal_level') as wal_level, current_setting('max_slot_wal_keep_size') as cap,
            (select count(*) from pg_publication where pubname = any (string_to_array($2::text, ','))) as publications,
            s.plugin = $3::text and s.database = current_database() as is_ours, s.wal_status,
            s.confirmed_flush_lsn::text as confirmed,
            pg_wal_lsn_diff(pg_current_wal_lsn(), s.confirmed_flush_lsn)::text as lag,
            pg_wal_lsn_diff(pg_current_wal_lsn(), s.restart_lsn)::text as kept
     from (select 1) one left join pg_replication_slots s on s.slot_name = $1::text`,
    [slot, PUBLICATIONS.join(','), PLUGIN],
  );
  if (row === undefined) throw new AppError('internal', 'the server says nothing of itself');
  if (row.wal_level !== 'logical')
    throw new AppError('settings_invalid', `wal_level is ${row.wal_level}: the tripwire needs logical, and a restart`);
  if (row.publications !== BigInt(PUBLICATIONS.length))
    throw new AppError('settings_invalid', `of the publications ${PUBLICATIONS.join(', ')} some are missing`);
  if (row.is_ours === false)
    throw new AppError('settings_invalid', `/tripwire/slot: ${slot} is a slot of something else on this server`);
  return {
    system: row.system,
    walLevel: row.wal_level,
    isCapped: row.cap !== '-1',
    slot:
      row.wal_status === null && row.confirmed === null
        ? undefined
        : {
            confirmed: parseLsn(row.confirmed ?? '') ?? 0n,
            walStatus: row.wal_status ?? 'lost',
            lagBytes: Number(row.lag ?? 0),
            keptBytes: Number(row.kept ?? 0),
          },
  };
};

/** Makes the slot; changes from here on are kept for it. Gives the place. */
export const createSlot = async (sql: Pick<Sql, 'query'>, slot: string): Promise<Lsn> => {
  const [made] = await sql.query<{ lsn: string }>(
    'select lsn::text as lsn from pg_create_logical_replication_slot($1::text, $2::text)',
    [slot, PLUGIN],
  );
  return parseLsn(made?.lsn ?? '') ?? 0n;
};

export const dropSlot = async (sql: Pick<Sql, 'query'>, slot: string): Promise<void> => {
  await sql.query('select pg_drop_replication_slot($1::text)', [slot]);
};

/** Stores alarms; those that are there already stay as they are. */
export const insertTripwireAlarms = async (
  sql: Pick<Sql, 'query'>,
  alarms: readonly TripwireAlarm[],
  raisedUs: bigint,
): Promise<void> => {
  const rows = alarms.map(({ lsn, xid, relation, operation, rows: count, keys, committedUs }) => ({
    lsn: formatLsn(lsn),
    xid: xid === undefined ? null : String(xid),
    relation,
    operation,
    rows: String(count),
    keys,
    committed_us: committedUs === undefined ? null : String(committedUs),
  }));
  await sql.query(
    `insert into edict.tripwire_alarm (lsn, xid, relation, operation, rows, keys, committed_us, raised_us)
     select r.lsn, r.xid, left(r.relation, 200), r.operation, r.rows, r.keys, r.committed_us, $2::bigint
     from json_to_recordset($1::text::json) as r(
       lsn pg_lsn, xid bigint, relation text, operation text, rows bigint, keys text[], committed_us bigint)
     on conflict do nothing`,
    [JSON.stringify(rows), String(raisedUs)],
  );
};
