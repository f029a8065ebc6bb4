import { isArtifactIntact } from '../../shared/bundles/artifact-digest.ts';
import { hex } from '../../shared/contracts/bytes.ts';
import type { Sql } from '../core/append.ts';
import type { PayloadKeys } from '../core/payload-keys.ts';
import type { SearchCriteria } from '../core/query.ts';
import type { Cursor } from '../core/query-cursor.ts';
import {
  openPayloads,
  type EmitterState,
  type FoundDecision,
  type LedgerLog,
  type LedgerReader,
  type ReadEntry,
} from '../core/query-reader.ts';
import type { SearchColumns } from '../core/verify-search.ts';
import { readArtifact } from './read-artifact.ts';
import { readReports } from './read-reports.ts';

const usToMs = (us: bigint): number => Number(us / 1000n);

interface LogRow {
  readonly id: number;
  readonly tenant: string;
  readonly origin: string;
  readonly incarnation: number;
  readonly vkey: string;
  readonly size: bigint;
}

export const readTenantLogs = (sql: Pick<Sql, 'query'>, tenant: string): Promise<readonly LogRow[]> =>
  sql.query<LogRow>(
    `select l.id, l.tenant::text as tenant, l.origin, l.incarnation, l.vkey, h.size
     from edict.log l join edict.log_head h on h.log_id = l.id
     where l.tenant = $1 order by l.id desc`,
    [tenant],
  );

/** The columns of a search row, under the names that the verifier uses. */
export const SEARCH_COLUMNS =
  'd.event_id::text as event_id, d.event_time_ms, d.ingest_us, d.decision, d.reasons, d.subject, d.agent, d.action, ' +
  'd.resource_type, d.resource, d.purpose, d.session_id, d.request_id, d.caller';

interface DecisionRow {
  readonly log_id: number;
  readonly seq: bigint;
  readonly header: Buffer | null;
  readonly leaf: Buffer | null;
  readonly ciphertext: Buffer | null;
  readonly event_id: string;
  readonly [column: string]: SearchColumns[string];
}

const IN_TEXTS = (column: string, at: number): string =>
  `${column} in (select jsonb_array_elements_text($${at}::text::jsonb))`;

/** The conditions of the criteria, with their parameters numbered from `first`. */
const conditions = (
  criteria: SearchCriteria,
  before: Cursor | undefined,
  first: number,
): { readonly text: string; readonly parameters: readonly unknown[] } => {
  const texts: string[] = [];
  const parameters: unknown[] = [];
  const add = (condition: (at: number) => string, value: unknown): void => {
    if (value === undefined) return;
    texts.push(` and ${condition(first + parameters.length)}`);
    parameters.push(value);
  };
  const list = (values: readonly string[] | undefined): string | undefined =>
    values === undefined ? undefined : JSON.stringify(values);
  add((at) => `d.event_time_ms >= $${at}::bigint`, criteria.fromMs?.toString());
  add((at) => `d.event_time_ms < $${at}::bigint`, criteria.toMs?.toString());
  add(
    (at) => `d.subject in (select decode(jsonb_array_elements_text($${at}::text::jsonb), 'hex'))`,
    list(criteria.subjects?.map(hex)),
  );
  add((at) => IN_TEXTS('d.agent', at), list(criteria.agents));
  add((at) => IN_TEXTS('d.action', at), list(criteria.actions));
  add((at) => IN_TEXTS('d.resource', at), list(criteria.resources));
  add((at) => IN_TEXTS('d.session_id', at), list(criteria.sessions));
  add((at) => IN_TEXTS('d.purpose', at), list(criteria.purposes));
  add((at) => IN_TEXTS('d.request_id', at), list(criteria.requestIds));
  add((at) => `d.decision = $${at}::text`, criteria.decision);
  add((at) => `$${at}::text = any (d.reasons)`, criteria.reason);
  if (before !== undefined) {
    const at = first + parameters.length;
    texts.push(` and (d.log_id, d.seq) < ($${at}::int, $${at + 1}::bigint)`);
    parameters.push(before.logId, String(before.beforeSeq));
  }
  return { text: texts.join(''), parameters };
};

const readDecisions = (
  sql: Pick<Sql, 'query'>,
  tenant: string,
  criteria: SearchCriteria,
  page: { readonly before?: Cursor; readonly limit: number },
): Promise<readonly DecisionRow[]> => {
  const { text, parameters } = conditions(criteria, page.before, 3);
  return sql.query<DecisionRow>(
    `select d.*, e.header, e.leaf, p.ciphertext from (
       select d.log_id, d.seq, ${SEARCH_COLUMNS}
       from edict.decision d
       where d.log_id in (select id from edict.log where tenant = $1)${text}
       order by d.log_id desc, d.seq desc limit $2::int
     ) d
     left join edict.entry e on e.log_id = d.log_id and e.segment = (d.seq >> 16)::int and e.seq = d.seq
     left join edict.payload p on p.log_id = d.log_id and p.segment = (d.seq >> 16)::int and p.seq = d.seq
     order by d.log_id desc, d.seq desc`,
    [tenant, page.limit, ...parameters],
  );
};

interface EntryRow {
  readonly log_id: number;
  readonly seq: bigint;
  readonly header: Buffer;
  readonly leaf: Buffer;
  readonly ciphertext: Buffer | null;
}

/** The entry of an event: found by the table of received events, or by the search table where that lost it. */
const readEvent = (sql: Pick<Sql, 'query'>, tenant: string, eventId: string): Promise<readonly EntryRow[]> =>
  sql.query<EntryRow>(
    `select e.log_id, e.seq, e.header, e.leaf, p.ciphertext
     from (
       select log_id, seq from edict.received where event_id = $2::uuid
       union
       select log_id, seq from edict.decision where event_id = $2::uuid
     ) f
     join edict.log l on l.id = f.log_id and l.tenant = $1
     join edict.entry e on e.log_id = f.log_id and e.segment = (f.seq >> 16)::int and e.seq = f.seq
     left join edict.payload p on p.log_id = f.log_id and p.segment = (f.seq >> 16)::int and p.seq = f.seq
     where substr(e.header, 19, 16) = decode(replace($2::text, '-', ''), 'hex')
     order by e.log_id desc, e.seq limit 1`,
    [tenant, eventId],
  );

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
     from edict.stream s join edict.log l on l.id = s.log_id and l.tenant = $1
     left join edict.emitter m on m.emitter = s.emitter
     order by s.emitter, s.boot desc, s.log_id desc limit $2::int`,
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

  const opened = async <Row extends { log_id: number; seq: bigint; header: Buffer | null; ciphertext: Buffer | null }>(
    tenant: string,
    rows: readonly Row[],
  ): Promise<readonly (readonly [Row, ReadEntry['log'], ReadEntry['payload']])[]> => {
    if (rows.length === 0) return [];
    const logs = await readTenantLogs(database, tenant);
    const byLog = new Map<number, Row[]>();
    for (const row of rows) byLog.set(row.log_id, [...(byLog.get(row.log_id) ?? []), row]);
    const payloads = new Map<Row, readonly [ReadEntry['log'], ReadEntry['payload']]>();
    for (const [id, ofLog] of byLog) {
      const log = logs.find((candidate) => candidate.id === id);
      if (log === undefined) continue;
      const found = await openPayloads(keys, log, ofLog);
      ofLog.forEach((row, index) => {
        payloads.set(row, [{ id, origin: log.origin }, found[index] ?? { state: 'missing' }]);
      });
    }
    return rows.flatMap((row) => {
      const found = payloads.get(row);
      return found === undefined ? [] : [[row, ...found] as const];
    });
  };

  return {
    logs: async (tenant): Promise<readonly LedgerLog[]> => readTenantLogs(database, tenant),
    decisions: async (tenant, criteria, page) => {
      const rows = await opened(tenant, await readDecisions(database, tenant, criteria, page));
      return rows.map(([row, log, payload]): FoundDecision => {
        const { log_id: _logId, seq, header, leaf, ciphertext: _ciphertext, ...search } = row;
        return {
          log,
          seq,
          header: header ?? undefined,
          leaf: leaf ?? undefined,
          payload,
          eventId: row.event_id,
          search,
        };
      });
    },
    event: async (tenant, eventId) => {
      const [found] = await opened(tenant, await readEvent(database, tenant, eventId));
      if (found === undefined) return undefined;
      const [row, log, payload] = found;
      return { log, seq: row.seq, header: row.header, leaf: row.leaf, payload };
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
    emitters: (tenant) => readEmitters(database, tenant),
    reports: (tenant) => readReports(database, tenant),
  };
};
