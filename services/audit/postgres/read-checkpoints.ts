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
