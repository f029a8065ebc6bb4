import type { ArtifactPart } from '../../shared/contracts/artifact.ts';
import { hex } from '../../shared/contracts/bytes.ts';
import type { Log, Sql } from '../core/append.ts';
import type { Position } from '../core/ingest-message.ts';
import type { CountName } from '../core/ingest-plan.ts';
import { completeTo, type AckedStream, type Hole, type Stream, type StreamState } from '../core/ingest-stream.ts';

/** A log and those that it continues: events that one of them has below that seq are there already. */
export interface NewestLog extends Log {
  readonly earlier?: readonly { readonly id: number; readonly below: string }[];
}

/** Logs by tenant: the newest incarnation of each. */
export type Logs = ReadonlyMap<string, NewestLog>;

export const readNewestLogs = async (sql: Sql): Promise<Logs> => {
  const rows = await sql.query<Log & { readonly earlier: NonNullable<NewestLog['earlier']> | null }>(
    `select distinct on (l.tenant) l.id, l.tenant::text as tenant, l.origin,
       (select jsonb_agg(jsonb_build_object('id', w.id, 'below', w.below::text))
        from (select e.id, lead(coalesce(e.kept_size, e.previous_size)) over (order by e.incarnation) as below
              from edict.log e where e.tenant = l.tenant and e.shard = l.shard) w
        where w.below is not null) as earlier
     from edict.log l where l.shard = 0 order by l.tenant, l.incarnation desc`,
    [],
  );
  return new Map(rows.map(({ earlier, ...log }) => [log.tenant, earlier === null ? log : { ...log, earlier }]));
};

/** Rows travel as one JSON text; a tenant without a log has no rows. */
const rowsOf = <Row extends { readonly tenant: string }>(
  logs: Logs,
  rows: readonly Row[],
  columns: (row: Row) => Readonly<Record<string, unknown>>,
): string =>
  JSON.stringify(
    rows.flatMap((row) => {
      const log = logs.get(row.tenant);
      return log === undefined ? [] : [{ log_id: log.id, ...columns(row) }];
    }),
  );

export const tenantsById = (logs: Logs): ReadonlyMap<number, string> =>
  new Map([...logs.values()].map(({ id, tenant }) => [id, tenant]));

// Cursors ---------------------------------------------------------------------------------------------------------

export const readCursors = async (sql: Sql, topic: string): Promise<ReadonlyMap<number, bigint>> => {
  const rows = await sql.query<{ partition: number; next_offset: bigint }>(
    'select partition, next_offset from edict.source_cursor where topic = $1::text',
    [topic],
  );
  return new Map(rows.map(({ partition, next_offset: next }) => [partition, next]));
};

/** False when the cursor is not at `from` any more: whoever thinks so is not its reader. */
export const moveCursor = async (
  sql: Sql,
  topic: string,
  partition: number,
  from: bigint | undefined,
  to: bigint,
): Promise<boolean> => {
  const rows =
    from === undefined
      ? await sql.query(
          `insert into edict.source_cursor (topic, partition, next_offset) values ($1::text, $2::int, $3::bigint)
           on conflict do nothing returning partition`,
          [topic, partition, String(to)],
        )
      : await sql.query(
          `update edict.source_cursor set next_offset = $4::bigint
           where topic = $1::text and partition = $2::int and next_offset = $3::bigint returning partition`,
          [topic, partition, String(from), String(to)],
        );
  return rows.length === 1;
};

// Messages that were set aside --------------------------------------------------------------------------------------

type Mark = { readonly tenant: string; readonly mark: string };

export const readSetAside = async (sql: Sql, logs: Logs, marks: readonly Mark[]): Promise<ReadonlySet<string>> => {
  if (marks.length === 0) return new Set();
  const rows = await sql.query<{ log_id: number; mark: Buffer }>(
    `select s.log_id, s.mark from jsonb_to_recordset($1::text::jsonb) as w(log_id integer, mark text)
     join edict.set_aside s on s.log_id = w.log_id and s.mark = decode(w.mark, 'hex')`,
    [rowsOf(logs, marks, ({ mark }) => ({ mark }))],
  );
  const tenants = tenantsById(logs);
  return new Set(rows.map(({ log_id: logId, mark }) => `${tenants.get(logId) ?? ''}/${hex(mark)}`));
};

export const insertSetAside = async (
  sql: Sql,
  logs: Logs,
  marks: readonly (Mark & { readonly seq: bigint })[],
): Promise<void> => {
  if (marks.length === 0) return;
  await sql.query(
    `insert into edict.set_aside (log_id, mark, seq)
     select w.log_id, decode(w.mark, 'hex'), w.seq
     from jsonb_to_recordset($1::text::jsonb) as w(log_id integer, mark text, seq bigint)`,
    [rowsOf(logs, marks, ({ mark, seq }) => ({ mark, seq: String(seq) }))],
  );
};

/** Where the parts of artifacts stand. */
export const insertArtifacts = async (
  sql: Sql,
  logs: Logs,
  parts: readonly (Position & { readonly artifact: ArtifactPart; readonly seq: bigint })[],
): Promise<void> => {
  if (parts.length === 0) return;
  await sql.query(
    `insert into edict.artifact_part (log_id, digest, emitter, boot, part, parts, bytes, media_type, seq)
     select w.log_id, decode(w.digest, 'hex'), w.emitter, w.boot, w.part, w.parts, w.bytes, w.media_type, w.seq
     from jsonb_to_recordset($1::text::jsonb) as w(log_id integer, digest text, emitter text, boot numeric,
       part integer, parts integer, bytes bigint, media_type text, seq bigint)`,
    [
      rowsOf(logs, parts, ({ artifact, emitter, boot, seq }) => ({
        ...artifact,
        digest: artifact.digest.slice('sha256:'.length),
        emitter,
        boot: String(boot),
        seq: String(seq),
      })),
    ],
  );
};

const unknownRows = (events: readonly (Position & { readonly seq?: bigint })[]): string =>
  JSON.stringify(
    events.map(({ tenant, emitter, boot, sequence, seq }) => ({
      tenant,
      emitter,
      boot: String(boot),
      number: String(sequence),
      ...(seq === undefined ? {} : { seq: String(seq) }),
    })),
  );

export const readUnknownTenantEvents = async (sql: Sql, events: readonly Position[]): Promise<readonly Position[]> => {
  if (events.length === 0) return [];
  const rows = await sql.query<{ tenant: string; emitter: string; boot: string; number: string }>(
    `select u.tenant, u.emitter::text as emitter, u.boot::text as boot, u.number::text as number
     from jsonb_to_recordset($1::text::jsonb)
       as w(tenant text collate "C", emitter edict.emitter_id, boot edict.u64, number edict.u64)
     join edict.unknown_tenant_event u
       on u.emitter = w.emitter and u.boot = w.boot and u.tenant = w.tenant and u.number = w.number`,
    [unknownRows(events)],
  );
  return rows.map(({ tenant, emitter, boot, number }) => ({
    tenant,
    emitter,
    boot: BigInt(boot),
    sequence: BigInt(number),
  }));
};

export const insertUnknownTenantEvents = async (
  sql: Sql,
  events: readonly (Position & { readonly seq: bigint })[],
): Promise<void> => {
  if (events.length === 0) return;
  await sql.query(
    `insert into edict.unknown_tenant_event (emitter, boot, tenant, number, seq)
     select w.emitter, w.boot, w.tenant, w.number, w.seq from jsonb_to_recordset($1::text::jsonb)
       as w(emitter text, boot numeric, tenant text, number numeric, seq bigint)`,
    [unknownRows(events)],
  );
};

// Streams -----------------------------------------------------------------------------------------------------------

interface StreamRow {
  readonly log_id: number;
  readonly emitter: string;
  readonly boot: string;
  readonly highest: string;
  readonly holes: readonly StoredHole[];
  readonly state: StreamState;
  readonly last_event_ms: bigint | null;
}

interface StoredHole {
  readonly from: string;
  readonly to: string;
  readonly since_ms: number;
  /** The seq of the gap entry that names it. */
  readonly gap?: string;
}

/**
 * True for a log of which a checkpoint exists, or of an incarnation that it continues: what is covered is what a
 * checkpoint says, not what is committed.
 */
export const SIGNED = `exists (
  select from edict.log n join edict.log o on o.tenant = n.tenant and o.shard = n.shard
  join edict.checkpoint c on c.log_id = o.id where n.id = s.log_id)`;

const STREAM_COLUMNS = `s.log_id, s.emitter::text as emitter, s.boot::text as boot, s.highest::text as highest,
  s.holes, s.state, s.last_event_ms`;

const holeOf = ({ from, to, since_ms: sinceMs, gap }: StoredHole): Hole => ({
  from: BigInt(from),
  to: BigInt(to),
  sinceMs,
  ...(gap === undefined ? {} : { gapSeq: BigInt(gap) }),
});

const storedHole = ({ from, to, sinceMs, gapSeq }: Hole): StoredHole => ({
  from: from.toString(),
  to: to.toString(),
  since_ms: sinceMs,
  ...(gapSeq === undefined ? {} : { gap: gapSeq.toString() }),
});

const streamOf = (row: StreamRow, tenant: string): Stream => ({
  tenant,
  emitter: row.emitter,
  boot: BigInt(row.boot),
  highest: BigInt(row.highest),
  holes: row.holes.map(holeOf),
  state: row.state,
  ...(row.last_event_ms === null ? {} : { lastEventMs: Number(row.last_event_ms) }),
});

/** With the tenant of each row; a log that is not among `logs` has none. */
const withTenants = <Row extends StreamRow, Out>(
  logs: Logs,
  rows: readonly Row[],
  make: (row: Row, tenant: string) => Out,
): readonly Out[] => {
  const tenants = tenantsById(logs);
  return rows.flatMap((row) => {
    const tenant = tenants.get(row.log_id);
    return tenant === undefined ? [] : [make(row, tenant)];
  });
};

const streamsOf = (logs: Logs, rows: readonly StreamRow[]): readonly Stream[] => withTenants(logs, rows, streamOf);

export const readStreams = async (
  sql: Sql,
  logs: Logs,
  wanted: readonly Pick<Stream, 'tenant' | 'emitter' | 'boot'>[],
): Promise<readonly Stream[]> => {
  if (wanted.length === 0) return [];
  const rows = await sql.query<StreamRow>(
    `select ${STREAM_COLUMNS} from jsonb_to_recordset($1::text::jsonb)
       as w(log_id integer, emitter edict.emitter_id, boot edict.u64)
     join edict.stream s on s.log_id = w.log_id and s.emitter = w.emitter and s.boot = w.boot`,
    [rowsOf(logs, wanted, ({ emitter, boot }) => ({ emitter, boot: String(boot) }))],
  );
  return streamsOf(logs, rows);
};

/** Streams that miss numbers. */
export const readOpenStreams = async (sql: Sql, logs: Logs): Promise<readonly Stream[]> =>
  streamsOf(
    logs,
    await sql.query<StreamRow>(
      `select ${STREAM_COLUMNS} from edict.stream s where s.holes <> '[]'::jsonb order by s.log_id, s.emitter, s.boot`,
      [],
    ),
  );

export interface RecentStreams {
  /** Microseconds since 1970. */
  readonly sinceUs: bigint;
  /** Streams of this boot and later ones belong to them in any case. */
  readonly fromBoot?: bigint | undefined;
}

/**
 * Every stream of one emitter, or of all. With `recent` only those of which something may be expected, or that
 * changed since then: the rest is complete, covered, and either closed or of a boot that was followed by another.
 */
export const readStreamsOf = async (
  sql: Sql,
  logs: Logs,
  emitter?: string,
  recent?: RecentStreams,
): Promise<readonly AckedStream[]> =>
  withTenants(
    logs,
    await sql.query<StreamRow & { readonly covered: string }>(
      `select ${STREAM_COLUMNS},
              (case when ${SIGNED} then least(s.covered_to, s.complete_to) else s.complete_to end)::text as covered
       from edict.stream s
       where s.log_id = any ($2::text::integer[]) and ($1::text is null or s.emitter = $1::text)
         and ($3::bigint is null or s.last_ingest_us >= $3::bigint or s.boot >= $4::numeric
           or s.holes <> '[]'::jsonb or s.covered_to < s.complete_to
           or s.state in ('active', 'idle') and not exists (
             select from edict.stream later
             where later.log_id = s.log_id and later.emitter = s.emitter and later.boot > s.boot))
       order by s.log_id, s.emitter, s.boot`,
      [
        emitter ?? null,
        `{${[...logs.values()].map(({ id }) => id).join(',')}}`,
        recent === undefined ? null : String(recent.sinceUs),
        recent?.fromBoot === undefined ? null : String(recent.fromBoot),
      ],
    ),
    (row, tenant) => ({ ...streamOf(row, tenant), coveredTo: BigInt(row.covered) }),
  );

/**
 * `isCovered`: a commit of this database survives a power cut, so what is complete is covered too, as long as no
 * incarnation of the log has a checkpoint.
 */
export const putStreams = async (
  sql: Sql,
  logs: Logs,
  streams: readonly Stream[],
  nowUs: bigint,
  isCovered: boolean,
): Promise<void> => {
  if (streams.length === 0) return;
  await sql.query(
    `insert into edict.stream as s (log_id, emitter, boot, complete_to, highest, holes, covered_to, last_event_ms,
                                    last_ingest_us, state)
     select w.log_id, w.emitter, w.boot, w.complete_to, w.highest, w.holes,
            case when $3::boolean and not ${SIGNED.replace('s.log_id', 'w.log_id')} then w.complete_to else 0 end,
            w.last_event_ms, $2::bigint, w.state
     from jsonb_to_recordset($1::text::jsonb) as w(
       log_id integer, emitter text, boot numeric, complete_to numeric, highest numeric, holes jsonb,
       last_event_ms bigint, state text)
     on conflict (log_id, emitter, boot) do update set
       complete_to = excluded.complete_to, highest = excluded.highest, holes = excluded.holes,
       covered_to = case when $3::boolean and not ${SIGNED} then excluded.complete_to
                    else least(s.covered_to, excluded.complete_to) end,
       last_event_ms = excluded.last_event_ms, last_ingest_us = excluded.last_ingest_us, state = excluded.state`,
    [
      rowsOf(logs, streams, (stream) => ({
        emitter: stream.emitter,
        boot: String(stream.boot),
        complete_to: String(completeTo(stream)),
        highest: String(stream.highest),
        holes: stream.holes.map(storedHole),
        last_event_ms: stream.lastEventMs ?? null,
        state: stream.state,
      })),
      String(nowUs),
      isCovered,
    ],
  );
};

// Emitters ----------------------------------------------------------------------------------------------------------

export const readEmitterKeys = async (
  sql: Sql,
  emitters: readonly string[],
): Promise<ReadonlyMap<string, Uint8Array>> => {
  if (emitters.length === 0) return new Map();
  const rows = await sql.query<{ emitter: string; public_key: Buffer }>(
    `select e.emitter::text as emitter, e.public_key
     from jsonb_to_recordset($1::text::jsonb) as w(emitter edict.emitter_id)
     join edict.emitter e on e.emitter = w.emitter where e.attested`,
    [JSON.stringify(emitters.map((emitter) => ({ emitter })))],
  );
  return new Map(rows.map(({ emitter, public_key: key }) => [emitter, key]));
};

/** An emitter that is heard of again is not retired any more. */
export const putEmitters = async (
  sql: Sql,
  emitters: ReadonlyMap<string, Uint8Array | undefined>,
  nowUs: bigint,
): Promise<void> => {
  if (emitters.size === 0) return;
  await sql.query(
    `insert into edict.emitter as e (emitter, public_key, attested, first_seen_us, last_seen_us)
     select w.emitter, decode(w.public_key, 'hex'), w.public_key is not null, $2::bigint, $2::bigint
     from jsonb_to_recordset($1::text::jsonb) as w(emitter text, public_key text)
     on conflict (emitter) do update set
       public_key = coalesce(excluded.public_key, e.public_key), attested = e.attested or excluded.attested,
       retired = false, last_seen_us = excluded.last_seen_us`,
    [
      JSON.stringify(
        [...emitters].map(([emitter, key]) => ({ emitter, public_key: key === undefined ? null : hex(key) })),
      ),
      String(nowUs),
    ],
  );
};

/** False when nothing was ever heard of it. */
export const markRetired = async (sql: Sql, emitter: string): Promise<boolean> => {
  const rows = await sql.query('update edict.emitter set retired = true where emitter = $1::text returning emitter', [
    emitter,
  ]);
  return rows.length === 1;
};

// Counts ------------------------------------------------------------------------------------------------------------

export const addCounts = async (
  sql: Sql,
  logs: Logs,
  counts: ReadonlyMap<string, Readonly<Partial<Record<CountName, number>>>>,
): Promise<void> => {
  const rows = [...counts].flatMap(([tenant, of]) =>
    Object.entries(of).map(([name, value]) => ({ tenant, name, value })),
  );
  if (rows.length === 0) return;
  await sql.query(
    `insert into edict.ingest_count as c (log_id, name, value)
     select w.log_id, w.name, w.value from jsonb_to_recordset($1::text::jsonb)
       as w(log_id integer, name text, value bigint)
     on conflict (log_id, name) do update set value = c.value + excluded.value`,
    [rowsOf(logs, rows, ({ name, value }) => ({ name, value }))],
  );
};
