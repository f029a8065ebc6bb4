import type { Sql } from '../core/append.ts';

export interface SigningState {
  /** Logs that go on, newest incarnations. */
  readonly logs: number;
  /** How many of them have a checkpoint. */
  readonly signed: number;
  /** Age of the oldest of their newest checkpoints, s; null without any. */
  readonly oldest_s: number | null;
  /** What the signer raised and no later checkpoint answered, `<origin>: <alarm>`, the first 10. */
  readonly alarms: readonly string[];
}

/** What the database says of checkpoints; the signer says itself what it refuses. */
export const readSigningState = async (sql: Pick<Sql, 'query'>, nowUs: bigint): Promise<SigningState> => {
  const [state] = await sql.query<{ logs: bigint; signed: bigint; oldest_us: bigint | null }>(
    `select count(*) as logs, count(c.size) as signed, min(c.signed_us) as oldest_us
     from edict.log l
     left join lateral (select k.size, k.signed_us from edict.checkpoint k where k.log_id = l.id
                        order by k.size desc limit 1) c on true
     where not exists (select from edict.log n
                       where n.tenant = l.tenant and n.shard = l.shard and n.incarnation > l.incarnation)`,
    [],
  );
  const alarms = await sql.query<{ origin: string; alarm: string }>(
    `select l.origin, a.alarm from edict.signer_alarm a join edict.log l on l.id = a.log_id
     where case when a.alarm in ('meta_split_view', 'meta_witness_ahead')
       then not exists (select from edict.meta_attestation t where t.stored_us > a.raised_us
                        and right(a.what, length(t.source)) = t.source)
       when a.alarm like 'meta\\_%'
       then not exists (select from edict.meta_checkpoint c where c.signed_us > a.raised_us)
       else not exists (select from edict.checkpoint c where c.log_id = a.log_id and c.signed_us > a.raised_us) end
       and not exists (select from edict.log n
                       where n.tenant = l.tenant and n.shard = l.shard and n.incarnation > l.incarnation)
     order by a.raised_us limit 10`,
    [],
  );
  const oldest = state?.oldest_us ?? null;
  return {
    logs: Number(state?.logs ?? 0n),
    signed: Number(state?.signed ?? 0n),
    oldest_s: oldest === null ? null : Number((nowUs - oldest) / 1_000_000n),
    alarms: alarms.map(({ origin, alarm }) => `${origin}: ${alarm}`),
  };
};

/** A log whose database went back, as the signer says. The meta log goes with the system tenant's. */
export interface RefusedLog {
  readonly tenant: string;
  readonly isMeta: boolean;
}

/** The newest logs that the signer refuses because they went back, in the order of the logs. */
export const readRefusedLogs = async (sql: Pick<Sql, 'query'>): Promise<readonly RefusedLog[]> =>
  sql.query<RefusedLog>(
    `select l.tenant::text as tenant, a.alarm like 'meta\\_%' as "isMeta"
     from edict.log l join edict.signer_alarm a on a.log_id = l.id
     where a.alarm in ('log_rewound', 'log_forked', 'meta_log_rewound', 'meta_log_forked')
       and case when a.alarm like 'meta\\_%'
         then not exists (select from edict.meta_checkpoint c where c.signed_us > a.raised_us)
         else not exists (select from edict.checkpoint c where c.log_id = l.id and c.signed_us > a.raised_us) end
       and not exists (select from edict.log n
                       where n.tenant = l.tenant and n.shard = l.shard and n.incarnation > l.incarnation)
     order by l.id`,
    [],
  );

/** The checkpoints that the signer gave along with its alarms. */
export const readNotesOfAlarms = async (sql: Pick<Sql, 'query'>, logId: number): Promise<readonly Buffer[]> => {
  const rows = await sql.query<{ note: Buffer }>(
    'select a.note from edict.signer_alarm a where a.log_id = $1::int and a.note is not null',
    [logId],
  );
  return rows.map(({ note }) => note);
};
