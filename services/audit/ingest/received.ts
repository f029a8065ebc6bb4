import { hex } from '../../shared/contracts/bytes.ts';
import type { Sql } from '../core/append.ts';
import type { Position } from '../core/ingest-message.ts';
import type { SeenEvent } from '../core/ingest-plan.ts';
import { tenantsById, type Logs, type NewestLog } from './statements.ts';

const earlierOf = (logs: Logs, tenant: string): NonNullable<NewestLog['earlier']> => logs.get(tenant)?.earlier ?? [];

interface ReceivedRow {
  readonly log_id: number;
  readonly seq: bigint;
  readonly event_id: string;
  readonly digest: Buffer;
  readonly previous: Buffer | null;
  readonly emitter: string;
  readonly boot: string;
  readonly number: string;
}

/** The events that have one of these ids or one of these positions, in the newest log or in what it continues. */
export const readReceived = async (
  sql: Sql,
  logs: Logs,
  ids: readonly { readonly tenant: string; readonly id: string }[],
  positions: readonly Position[],
): Promise<readonly SeenEvent[]> => {
  if (ids.length === 0 && positions.length === 0) return [];
  const columns = `r.log_id, r.seq, r.event_id, r.digest, r.previous, r.emitter::text as emitter,
    r.boot::text as boot, r.number::text as number`;
  const places = ids.flatMap(({ tenant, id }) =>
    [logs.get(tenant)?.id ?? 'NULL', ...earlierOf(logs, tenant).map((log) => log.id)].map((log) => ({ log, id })),
  );
  const rows = await sql.query<ReceivedRow>(
    `select ${columns}
     from unnest($1::text::integer[], $2::text::uuid[]) as w(log_id, event_id)
     join edict.received r on r.log_id = w.log_id and r.event_id = w.event_id
     union
     select ${columns}
     from jsonb_to_recordset($3::text::jsonb)
       as w(log_id integer, emitter edict.emitter_id, boot edict.u64, number edict.u64)
     join edict.received r
       on r.log_id = w.log_id and r.emitter = w.emitter and r.boot = w.boot and r.number = w.number`,
    [
      `{${places.map(({ log }) => log).join(',')}}`,
      `{${places.map(({ id }) => id).join(',')}}`,
      JSON.stringify(
        positions.flatMap(({ tenant, emitter, boot, sequence }) => {
          const log = logs.get(tenant);
          const row = { emitter, boot: String(boot), number: String(sequence) };
          return log === undefined ? [] : [log, ...(log.earlier ?? [])].map(({ id }) => ({ log_id: id, ...row }));
        }),
      ),
    ],
  );
  const tenants = tenantsById(logs);
  const earlier = new Map(
    [...logs.values()].flatMap(({ tenant }) =>
      earlierOf(logs, tenant).map(({ id, below }) => [id, { tenant, below: BigInt(below) }] as const),
    ),
  );
  return rows.flatMap((row) => {
    const before = earlier.get(row.log_id);
    // What lies behind the place that the newest log goes on from was not carried over, and comes again.
    const tenant = before !== undefined && row.seq < before.below ? before.tenant : tenants.get(row.log_id);
    if (tenant === undefined) return [];
    return [
      {
        tenant,
        id: row.event_id,
        digest: hex(row.digest),
        emitter: row.emitter,
        boot: BigInt(row.boot),
        sequence: BigInt(row.number),
        ...(row.previous === null ? {} : { previous: hex(row.previous) }),
      },
    ];
  });
};

export const insertReceived = async (
  sql: Sql,
  logs: Logs,
  events: readonly (SeenEvent & { readonly seq: bigint })[],
): Promise<void> => {
  if (events.length === 0) return;
  const list = (value: (event: SeenEvent & { readonly seq: bigint }) => bigint | number | string): string =>
    `{${events.map(value).join(',')}}`;
  // Arrays of text, whose elements need no quotes: Postgres reads them in half the time of JSON.
  await sql.query(
    `insert into edict.received (log_id, event_id, digest, previous, emitter, boot, number, seq)
     select w.log_id, w.event_id, decode(w.digest, 'hex'), decode(w.previous, 'hex'), w.emitter, w.boot, w.number, w.seq
     from unnest($1::text::integer[], $2::text::uuid[], $3::text::text[], $4::text::text[], $5::text::text[],
                 $6::text::numeric[], $7::text::numeric[], $8::text::bigint[])
       as w(log_id, event_id, digest, previous, emitter, boot, number, seq)`,
    [
      list(({ tenant }) => logs.get(tenant)?.id ?? 'NULL'),
      list(({ id }) => id),
      list(({ digest }) => digest),
      list(({ previous }) => previous ?? 'NULL'),
      list(({ emitter }) => emitter),
      list(({ boot }) => boot),
      list(({ sequence }) => sequence),
      list(({ seq }) => seq),
    ],
  );
};
