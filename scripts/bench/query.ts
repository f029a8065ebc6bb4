import { mkdtempSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { AppError } from '../../services/shared/contracts/errors.ts';
import type { Database } from '../../services/audit/core/database.ts';
import { createSearchNames } from '../../services/audit/core/pseudonym.ts';
import { parseDecisionQuery, searchCriteria } from '../../services/audit/core/query.ts';
import type { LedgerReader } from '../../services/audit/core/query-reader.ts';
import { showDecision } from '../../services/audit/core/query-show.ts';
import { createPostgresPayloadKeys } from '../../services/audit/keys/postgres-payload-keys.ts';
import { connectPostgres } from '../../services/audit/postgres/connect.ts';
import { createLedger } from '../../services/audit/postgres/create-ledger.ts';
import { createLedgerWriter } from '../../services/audit/postgres/ledger-writer.ts';
import { keyStoreMigrations, ledgerMigrations, migrate } from '../../services/audit/postgres/migrate.ts';
import { createLedgerReader } from '../../services/audit/postgres/read-ledger.ts';
import { startPostgres } from '../../test/support/postgres.ts';
import { describeMachine, table, writeResults } from './measure.ts';
import { MS_A_ROW, pick, rowEntry, START_MS } from './query-rows.ts';

export interface QueryOptions {
  /** Decisions in the ledger. */
  readonly rows: number;
  /** Pages that are measured of each filter, each with another value. */
  readonly calls: number;
  readonly log: (line: string) => void;
}

const TENANT = 'acme';
const BATCH = 2_000;
const PAGE = 50;
const WARM_UP = 5;
const TARGET_MS = 100;
const TARGET_ROWS = 10_000_000;
const MASTER_KEY = Buffer.alloc(32, 7);
const nowUs = (): bigint => BigInt(Date.now()) * 1_000n;

type Filter = Readonly<Record<string, string>>;

const timeAt = (row: number): string => new Date(START_MS + row * MS_A_ROW).toISOString();

/** Filters by name; `call` counts from 0 and chooses the value. Each has values that are rare, common, and only old. */
const FILTERS = (rows: number): Readonly<Record<string, (call: number) => Filter>> => {
  const any = (call: number, salt: number): number => pick(call, 100 + salt, rows);
  const orOld = (call: number, value: string): string => (call % 5 === 0 ? 'old' : value);
  const HOUR = 36_000;
  return {
    'no filter': () => ({}),
    request_id: (call) => ({ request_id: `request-${any(call, 1)}` }),
    session: (call) => ({ session: orOld(call, `session-${Math.floor(any(call, 2) / 20)}`) }),
    subject: (call) => ({ subject: orOld(call, call % 3 === 0 ? 'busy' : `user-${any(call, 3) % 10_000}`) }),
    agent: (call) => ({ agent: orOld(call, `agent-${any(call, 4) % 200}`) }),
    chain: (call) => ({ chain: orOld(call, `hop-${any(call, 5) % 50}`) }),
    resource: (call) => ({ resource: orOld(call, `resource-${any(call, 6) % 5_000}`) }),
    action: (call) => ({ action: orOld(call, `action-${any(call, 7) % 8}`) }),
    purpose: (call) => ({ purpose: orOld(call, `purpose-${any(call, 8) % 20}`) }),
    reason: (call) => ({ reason: orOld(call, ['also-denied', `denied-${call % 30}`, 'permitted'][call % 3] ?? '') }),
    decision: (call) => ({ decision: call % 2 === 0 ? 'deny' : 'allow' }),
    'an hour': (call) => ({ from: timeAt(any(call, 9)), to: timeAt(any(call, 9) + HOUR) }),
    'before a time': (call) => ({ to: timeAt(any(call, 10)) }),
    'agent in an hour': (call) => ({
      agent: `agent-${any(call, 11) % 200}`,
      from: timeAt(any(call, 12)),
      to: timeAt(any(call, 12) + HOUR),
    }),
  };
};

const generate = async (admin: Database, folder: string, { rows, log }: QueryOptions) => {
  await migrate(admin, ledgerMigrations());
  await migrate(admin, keyStoreMigrations());
  const keys = createPostgresPayloadKeys(admin, { masterKey: MASTER_KEY });
  const nameForSearch = createSearchNames(MASTER_KEY);
  const write = createLedgerWriter({ database: admin, keys, nameForSearch, nowUs });
  const created = await createLedger({
    write,
    tenant: TENANT,
    authority: 'bench.example',
    keyFile: (name, incarnation) => path.join(folder, `${name}-${incarnation}.pem`),
    nowUs,
  });
  const startedMs = performance.now();
  for (let first = 0; first < rows; first += BATCH) {
    const entries = Array.from({ length: Math.min(BATCH, rows - first) }, (_, index) => rowEntry(first + index, rows));
    await write(({ append }) => append(created.log, entries));
    if ((first / BATCH) % 50 === 49) log(`${first + BATCH} of ${rows} decisions`);
  }
  const rowsPerS = (rows * 1_000) / (performance.now() - startedMs);
  await admin.query('vacuum analyze edict.decision');
  await admin.query('vacuum analyze edict.entry');
  await admin.query('vacuum analyze edict.payload');
  return { log: created.log, keys, nameForSearch, rowsPerS };
};

interface Figures {
  readonly filter: string;
  readonly p50_ms: number;
  readonly p95_ms: number;
  readonly rows_a_page: number;
}

const percentiles = (times: readonly number[]) => {
  const sorted = times.toSorted((a, b) => a - b);
  const at = (share: number): number => sorted[Math.ceil(sorted.length * share) - 1] ?? Number.NaN;
  return { p50_ms: at(0.5), p95_ms: at(0.95) };
};

/** A page of 50 as `GET /v1/decisions` makes it: searched, read, decrypted, compared with its search row. */
const createPage = async (reader: LedgerReader, names: ReturnType<typeof createSearchNames>) => {
  const [log] = await reader.logs(TENANT);
  if (log === undefined) throw new AppError('internal', 'the ledger is gone');
  const asOf = { logId: log.id, size: log.size };
  return async (filter: Filter, order: 'newest' | 'oldest') => {
    const query = parseDecisionQuery(Object.entries(filter));
    const startedMs = performance.now();
    const criteria = searchCriteria(query.filter, TENANT, { nameSubject: names, maskKey: undefined, issuers: [] });
    let shown = 0;
    for await (const decision of reader.decisions(TENANT, criteria, { order, asOf, limit: PAGE }))
      shown += showDecision(TENANT, decision, names, 0n).read_from === 'event' ? 1 : 0;
    return { ms: performance.now() - startedMs, shown };
  };
};

/** Filters and look-ups take turns, so that what else runs on the machine meets all of them alike. */
const measure = async (
  page: Awaited<ReturnType<typeof createPage>>,
  lookup: (call: number) => Promise<number>,
  { rows, calls }: QueryOptions,
) => {
  const filters = Object.entries(FILTERS(rows)).map(([filter, valueOf]) => ({
    filter,
    valueOf,
    times: [] as number[],
    shown: 0,
  }));
  const lookups: number[] = [];
  for (let call = -WARM_UP; call < calls; call += 1) {
    const lookupMs = await lookup(call + WARM_UP);
    if (call >= 0) lookups.push(lookupMs);
    for (const each of filters) {
      const { ms, shown } = await page(each.valueOf(call + WARM_UP), call % 2 === 0 ? 'newest' : 'oldest');
      if (call < 0) continue;
      each.times.push(ms);
      each.shown += shown;
    }
  }
  const figures = filters.map(({ filter, times, shown }): Figures => ({
    filter,
    ...percentiles(times),
    rows_a_page: shown / calls,
  }));
  return { lookup: percentiles(lookups), figures };
};

/** How long one search row by its primary key takes, over the same connections; ms. */
const createLookup =
  (database: Database, logId: number, rows: number) =>
  async (call: number): Promise<number> => {
    const startedMs = performance.now();
    await database.query('select * from edict.decision where log_id = $1::int and seq = $2::bigint', [
      logId,
      String(pick(call, 99, rows)),
    ]);
    return performance.now() - startedMs;
  };

/** p50 and p95 of a page by each filter, under row-level security, beside a look-up by primary key. */
export const benchQuery = async (options: QueryOptions): Promise<void> => {
  const machine = describeMachine();
  const folder = mkdtempSync(path.join(os.tmpdir(), 'edict-bench-query-'));
  const postgres = await startPostgres();
  const admin = connectPostgres(postgres.adminUrl, { poolSize: 2, prepares: true, statementTimeoutMs: 3_600_000 });
  let reader: Database | undefined;
  try {
    const { log, keys, nameForSearch, rowsPerS } = await generate(admin, folder, options);
    options.log(`${options.rows} decisions at ${rowsPerS.toFixed(0)}/s`);
    await admin.query('create role bench_reader login in role edict_reader_all');
    reader = connectPostgres(postgres.url('bench_reader'), { poolSize: 2 });
    const ledger = createLedgerReader({ database: reader, keys });
    const page = await createPage(ledger, nameForSearch);
    const { lookup, figures } = await measure(page, createLookup(reader, log.id, options.rows), options);
    const ratio = (ms: number): string => (ms / lookup.p50_ms).toFixed(1);
    const isLarge = options.rows >= TARGET_ROWS;
    const verdict = (ms: number): string => (ms < TARGET_MS ? 'yes' : 'NO');
    const header = ['page of 50 by', 'p50 ms', 'p95 ms', '× look-up', 'decisions', `p95 < ${TARGET_MS} ms`];
    options.log(
      `\n${table([
        header,
        ['one by primary key', lookup.p50_ms.toFixed(2), lookup.p95_ms.toFixed(2), '1.0', '1', '-'],
        ...figures.map(({ filter, p50_ms: p50, p95_ms: p95, rows_a_page: found }) => [
          filter,
          p50.toFixed(2),
          p95.toFixed(2),
          ratio(p50),
          found.toFixed(0),
          verdict(p95),
        ]),
      ])}\n`,
    );
    const { rows, calls } = options;
    options.log(
      `${rows} decisions, ${calls} pages of each; the target is for ${TARGET_ROWS}${isLarge ? '' : ': not shown by this run'}`,
    );
    options.log(JSON.stringify(machine));
    const target = { rows: TARGET_ROWS, p95_ms: TARGET_MS };
    const results = { bench: 'query', machine, rows, calls, target, generated_per_s: rowsPerS, lookup, figures };
    options.log(writeResults('query', results));
  } finally {
    await reader?.close();
    await admin.close();
    await postgres.close();
    rmSync(folder, { recursive: true, force: true });
  }
};
