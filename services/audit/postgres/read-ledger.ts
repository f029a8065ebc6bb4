import { isArtifactIntact } from '../../shared/bundles/artifact-digest.ts';
import { bytesToUuid } from '../../shared/contracts/uuid.ts';
import type { Sql } from '../core/append.ts';
import type { PayloadKeys } from '../core/payload-keys.ts';
import type { DecisionOrder } from '../core/query.ts';
import {
  entryOf,
  openPayloads,
  type EmitterState,
  type FoundDecision,
  type LedgerLog,
  type LedgerReader,
} from '../core/query-reader.ts';
import { readArtifact } from './read-artifact.ts';
import { createRangeReader } from './read-range.ts';
import { MAX_ROWS, readCiphertexts, readHeaders, slices } from './read-rows.ts';
import { readReports } from './read-reports.ts';
import { searchLog, type SearchResult, type SeqRange } from './search.ts';

const usToMs = (us: bigint): number => Number(us / 1000n);

export interface LogRow {
  readonly id: number;
  readonly tenant: string;
  readonly origin: string;
  readonly incarnation: number;
  readonly vkey: string;
  readonly size: bigint;
  /** Entries that the next incarnation continues, where it does not continue all; null for the newest log. */
  readonly kept: bigint | null;
}

export const readTenantLogs = (sql: Pick<Sql, 'query'>, tenant: string): Promise<readonly LogRow[]> =>
  sql.query<LogRow>(
    `select l.id, l.tenant::text as tenant, l.origin, l.incarnation, l.vkey, h.size,
            (select n.kept_size from edict.log n
             where n.tenant = l.tenant and n.shard = l.shard and n.incarnation > l.incarnation
             order by n.incarnation limit 1) as kept
     from edict.log l join edict.log_head h on h.log_id = l.id
     where l.tenant = $1 order by l.id desc`,
    [tenant],
  );

interface EntryRow {
  readonly log_id: number;
  readonly seq: bigint;
  readonly header: Buffer;
  readonly leaf: Buffer;
  readonly ciphertext: Buffer | null;
}

/** The entry of an event of a tenant, by the table of received events. */
const readEvent = async (
  sql: Pick<Sql, 'query'>,
  logs: readonly LogRow[],
  eventId: string,
): Promise<EntryRow | undefined> => {
  const ids = logs.map(({ id }) => id).join(', ');
  if (ids === '') return undefined;
  const [received] = await sql.query<{ log_id: number; seq: bigint }>(
    `select log_id, seq from edict.received where log_id in (${ids}) and event_id = $1::uuid
     order by log_id desc limit 1`,
    [eventId],
  );
  if (received === undefined) return undefined;
  const { log_id: logId, seq } = received;
  const [row] = await readHeaders(sql, logId, [seq]);
  if (row === undefined || entryEventId(row.header) !== eventId) return undefined;
  const ciphertext = (await readCiphertexts(sql, logId, [seq])).get(seq) ?? null;
  return { log_id: logId, seq, header: row.header, leaf: row.leaf, ciphertext };
};

const entryEventId = (header: Buffer): string | undefined => {
  const entry = entryOf(header);
  return entry === undefined ? undefined : bytesToUuid(entry.eventId);
};

/** Of search rows of a log those that a newer incarnation has not got again. */
const withoutRepeated = async (
  sql: Pick<Sql, 'query'>,
  log: LogRow,
  rows: readonly SearchResult[],
): Promise<readonly SearchResult[]> => {
  const { kept } = log;
  const behind = kept === null ? [] : rows.filter(({ seq }) => seq >= kept).map(({ event_id: id }) => id);
  if (behind.length === 0) return rows;
  const repeated = await sql.query<{ event_id: string }>(
    `select r.event_id from unnest($2::text::uuid[]) as w(event_id)
     join edict.log l on l.tenant = $3 and l.id > $1::int
     join edict.received r on r.log_id = l.id and r.event_id = w.event_id`,
    [log.id, `{${behind.join(',')}}`, log.tenant],
  );
  const ids = new Set(repeated.map(({ event_id: id }) => id));
  return rows.filter(({ event_id: id }) => !ids.has(id));
};

interface StreamRow {
  readonly emitter: string;
  readonly boot: string;
  readonly highest: string;
  readonly complete_to: string;
  readonly covered_to: string;
  readonly holes: unknown;
  readonly state: string;
  readonly last_event_ms: bigint | null;
  readonly last_ingest_us: bigint;
  readonly attested: boolean | null;
  readonly retired: boolean | null;
  readonly first_seen_us: bigint | null;
  readonly last_seen_us: bigint | null;
}

const MAX_STREAMS = 10_000;

const readEmitters = async (sql: Pick<Sql, 'query'>, tenant: string): Promise<readonly EmitterState[]> => {
  const rows = await sql.query<StreamRow>(
    `select s.emitter::text as emitter, s.boot::text as boot, s.highest::text as highest,
            s.complete_to::text as complete_to, s.covered_to::text as covered_to, s.holes, s.state, s.last_event_ms,
            s.last_ingest_us, m.attested, m.retired, m.first_seen_us, m.last_seen_us
     from (select distinct on (t.emitter, t.boot) t.* from edict.stream t
           join edict.log l on l.id = t.log_id and l.tenant = $1
           order by t.emitter, t.boot desc, t.log_id desc limit $2::int) s
     left join edict.emitter m on m.emitter = s.emitter
     order by s.emitter, s.boot desc`,
    [tenant, MAX_STREAMS],
  );
  const states = new Map<string, EmitterState & { boots: EmitterState['boots'][number][] }>();
  for (const row of rows) {
    const state = states.get(row.emitter) ?? {
      emitter: row.emitter,
      attested: row.attested ?? false,
      retired: row.retired ?? false,
      firstSeenMs: row.first_seen_us === null ? null : usToMs(row.first_seen_us),
      lastSeenMs: row.last_seen_us === null ? null : usToMs(row.last_seen_us),
      boots: [],
    };
    state.boots.push({
      boot: row.boot,
      highest: row.highest,
      completeTo: row.complete_to,
      coveredTo: row.covered_to,
      holes: row.holes,
      state: row.state,
      lastEventMs: row.last_event_ms === null ? null : Number(row.last_event_ms),
      lastIngestMs: usToMs(row.last_ingest_us),
    });
    states.set(row.emitter, state);
  }
  return [...states.values()];
};

/** Reads ledgers, and opens what may be opened. Every statement is limited to the logs of the tenant named. */
export const createLedgerReader = (options: {
  readonly database: Pick<Sql, 'query'>;
  readonly keys: PayloadKeys;
}): LedgerReader => {
  const { database, keys } = options;

  /** Search rows of one log with their entries and payloads, as they stand; a slice of payloads at a time. */
  const open = async function* (log: LogRow, rows: readonly SearchResult[]): AsyncGenerator<FoundDecision> {
    if (rows.length === 0) return;
    const seqs = rows.map(({ seq }) => seq);
    const headers = new Map((await readHeaders(database, log.id, seqs)).map((row) => [row.seq, row]));
    const sized = rows.map((row) => ({ row, bytes: headers.get(row.seq)?.bytes ?? 0 }));
    for (const slice of slices(sized)) {
      const ciphertexts = await readCiphertexts(
        database,
        log.id,
        slice.filter(({ bytes }) => bytes > 0).map(({ row }) => row.seq),
      );
      const payloads = await openPayloads(
        keys,
        log,
        slice.map(({ row: { seq } }) => ({
          seq,
          header: headers.get(seq)?.header ?? null,
          ciphertext: ciphertexts.get(seq) ?? null,
        })),
      );
      for (const [index, { row }] of slice.entries()) {
        const { seq, ...search } = row;
        const entry = headers.get(seq);
        const payload = payloads[index] ?? { state: 'missing' };
        const { id, origin } = log;
        yield {
          log: { id, origin },
          seq,
          header: entry?.header,
          leaf: entry?.leaf,
          payload,
          eventId: row.event_id,
          search,
        };
      }
    }
  };

  /** What is left of a log of `size` entries behind a place in it. */
  const restOf = (size: bigint, after: bigint | undefined, order: DecisionOrder): SeqRange => {
    if (after === undefined) return { from: 0n, to: size };
    return order === 'newest' ? { from: 0n, to: after < size ? after : size } : { from: after + 1n, to: size };
  };

  const decisions: LedgerReader['decisions'] = async function* (tenant, criteria, { order, asOf, after, limit }) {
    const known = (await readTenantLogs(database, tenant)).filter(({ id }) => id <= asOf.logId);
    const logs = order === 'newest' ? known : known.toReversed();
    let left = limit ?? Number.POSITIVE_INFINITY;
    for (const log of logs) {
      const isDone = after !== undefined && (order === 'newest' ? log.id > after.logId : log.id < after.logId);
      if (isDone) continue;
      const size = log.id === asOf.logId ? asOf.size : log.size;
      let range = restOf(size, after?.logId === log.id ? after.seq : undefined, order);
      for (;;) {
        const rows = Math.min(left, MAX_ROWS);
        if (rows <= 0) return;
        const found = await searchLog(database, log.id, criteria, { range, order, limit: rows });
        const shown = await withoutRepeated(database, log, found);
        yield* open(log, shown);
        left -= shown.length;
        const last = found.at(-1);
        if (last === undefined || found.length < rows) break;
        range = order === 'newest' ? { ...range, to: last.seq } : { ...range, from: last.seq + 1n };
      }
    }
  };

  return {
    logs: async (tenant): Promise<readonly LedgerLog[]> => readTenantLogs(database, tenant),
    decisions,
    event: async (tenant, eventId) => {
      const logs = await readTenantLogs(database, tenant);
      const row = await readEvent(database, logs, eventId);
      const log = logs.find(({ id }) => id === row?.log_id);
      if (row === undefined || log === undefined) return undefined;
      const [payload = { state: 'missing' as const }] = await openPayloads(keys, log, [row]);
      return { log: { id: log.id, origin: log.origin }, seq: row.seq, header: row.header, leaf: row.leaf, payload };
    },
    artifact: (tenant, digest) =>
      readArtifact(
        {
          database,
          keys,
          isIntact: (mediaType, bytes) => isArtifactIntact({ digest: `sha256:${digest}`, mediaType, bytes }),
        },
        tenant,
        digest,
      ),
    range: createRangeReader(options),
    emitters: (tenant) => readEmitters(database, tenant),
    reports: (tenant) => readReports(database, tenant),
  };
};
