import { setTimeout as sleep } from 'node:timers/promises';
import {
  startEmbedded,
  startExternal,
  type Deployment,
  type ExternalDeployment,
} from '../../test/support/deployment.ts';
import { AppError } from '../../services/shared/contracts/errors.ts';
import { failuresOf, readDecisions, runVerification } from '../replay/ledger.ts';
import { measureIngest, type IngestFigures, type IngestOptions } from './ingest.ts';
import { measureInsertLimit, readRowSizes } from './insert-limit.ts';
import { cpuUsOf, describeMachine, residentBytesOf, table, treeCpuUsOf, writeResults } from './measure.ts';

export interface LedgerOptions {
  readonly events: number;
  readonly modes: readonly ('ingest' | Mode)[];
  readonly ingest: Pick<IngestOptions, 'rows' | 'rounds' | 'batch'>;
  /** Decisions a second that are offered while the lag is measured. */
  readonly offeredPerS: number;
  readonly lagMs: number;
  readonly nodeOptions?: readonly string[];
  readonly log: (line: string) => void;
}

export type Mode = 'embedded' | 'external';

interface Figures {
  readonly mode: Mode;
  readonly events: number;
  /** From the audit service's start to the last row. */
  readonly events_per_s: number;
  /** The same from its first row on: without starting, connecting and joining. */
  readonly sustained_per_s: number;
  readonly verified_per_s: number;
  /** CPU while events arrive steadily, from the first row to the last. */
  readonly cpu_us_per_event: CpuFigures;
  readonly audit_resident_mib: number;
  readonly lag_p50_ms: number;
  readonly lag_p99_ms: number;
  readonly plain_insert_per_s?: number;
}

interface CpuFigures {
  readonly audit: number;
  /** The relay in the decision point. */
  readonly relay: number;
  readonly postgres?: number;
  readonly kafka?: number;
}

const TENANT = 'acme';
const BATCH = 500;
const POLL_MS = 100;
const DRAIN_LIMIT_MS = 900_000;

const item = (index: number) => ({
  subject: { type: 'user', id: `user-${index % 200}` },
  agent: { type: 'agent', id: index % 3 === 0 ? 'analytics-agent' : 'hr-assistant' },
  action: { name: 'read' },
  resource: { type: 'dataset', id: 'hr.salaries' },
  context: { purpose: 'headcount-report', session: `session-${index % 50}`, args: { limit: index } },
});

/** Makes decisions by batches; resolves with how many. */
const decide = async (deployment: Deployment, events: number): Promise<number> => {
  const gateway = deployment.gateway(TENANT, 1);
  let made = 0;
  while (made < events) {
    const requests = Array.from({ length: Math.min(BATCH, events - made) }, (_, index) => item(made + index));
    const { status } = await gateway.post('/decide/batch', { requests });
    if (status !== 200) throw new AppError('internal', `/decide/batch answered ${status}`);
    made += requests.length;
  }
  return made;
};

/** How many entries the ledger has; 0 while the audit service does not answer. */
const createSizeOf = (deployment: Deployment): (() => Promise<number>) => {
  const auditor = deployment.auditor(TENANT);
  return async () => {
    try {
      const { body } = await auditor.get('/v1/decisions?limit=1');
      return Number((body as { readonly as_of?: { readonly size?: string } }).as_of?.size ?? 0);
    } catch {
      return 0;
    }
  };
};

/** CPU time so far of everything that carries events, microseconds. */
const cpuTimes = (deployment: Deployment): CpuFigures => ({
  audit: cpuUsOf(deployment.audit.pid()),
  relay: cpuUsOf(deployment.pdp.pid()),
  ...(isExternal(deployment)
    ? { postgres: treeCpuUsOf(deployment.postgres.pid()), kafka: cpuUsOf(deployment.kafka.pid()) }
    : {}),
});

/** Waits until the ledger has `wanted` entries; gives when the first came and when the last. */
const drain = async (deployment: Deployment, sizeOf: () => Promise<number>, before: number, wanted: number) => {
  const startedMs = performance.now();
  let first: { readonly ms: number; readonly size: number; readonly cpu: CpuFigures } | undefined;
  for (;;) {
    const size = await sizeOf();
    const nowMs = performance.now();
    if (first === undefined && size > before) first = { ms: nowMs, size, cpu: cpuTimes(deployment) };
    if (size >= wanted && first !== undefined) {
      const perS = (count: number, ms: number): number => (count * 1_000) / Math.max(1, ms);
      const steady = size - first.size;
      const cpu = cpuTimes(deployment);
      const since = (name: keyof CpuFigures): number => ((cpu[name] ?? 0) - (first?.cpu[name] ?? 0)) / steady;
      return {
        perS: perS(size - before, nowMs - startedMs),
        sustainedPerS: perS(steady, nowMs - first.ms),
        cpu: {
          audit: since('audit'),
          relay: since('relay'),
          ...(isExternal(deployment) ? { postgres: since('postgres'), kafka: since('kafka') } : {}),
        },
      };
    }
    if (nowMs - startedMs > DRAIN_LIMIT_MS) throw new AppError('internal', `${size} of ${wanted} entries arrived`);
    await sleep(POLL_MS);
  }
};

/** Offers a steady load and gives the time from the decision to its row, as the ledger's own list shows both. */
const measureLag = async (deployment: Deployment, sizeOf: () => Promise<number>, options: LedgerOptions) => {
  const gateway = deployment.gateway(TENANT, 8);
  const everyMs = 20;
  const each = Math.max(1, Math.round((options.offeredPerS * everyMs) / 1_000));
  const from = new Date().toISOString();
  const startedMs = performance.now();
  let sent = 0;
  while (performance.now() - startedMs < options.lagMs) {
    const due = Math.floor((performance.now() - startedMs) / everyMs) * each;
    while (sent < due) {
      const requests = Array.from({ length: Math.min(each, due - sent) }, (_, index) => item(sent + index));
      await gateway.post('/decide/batch', { requests });
      sent += requests.length;
    }
    await sleep(everyMs / 2);
  }
  let before = -1;
  for (let size = await sizeOf(); size !== before; size = await sizeOf()) {
    before = size;
    await sleep(1_000);
  }
  const auditor = deployment.auditor(TENANT);
  const { decisions } = await readDecisions(auditor, { from });
  const lags = decisions.map((row) => Date.parse(row.ingest_time) - Date.parse(row.event_time)).sort((a, b) => a - b);
  const at = (share: number): number => lags[Math.ceil(lags.length * share) - 1] ?? Number.NaN;
  return { p50: at(0.5), p99: at(0.99), count: lags.length };
};

const isExternal = (deployment: Deployment): deployment is ExternalDeployment => 'ledgerUrl' in deployment;

const measure = async (mode: Mode, options: LedgerOptions): Promise<Figures> => {
  const start = mode === 'external' ? startExternal : startEmbedded;
  const deployment: Deployment = await start({
    tenants: [TENANT],
    settings: { log: { level: 'warn' }, spool: { max: '16GiB', tenant_quota: '15GiB' } },
    ...(options.nodeOptions === undefined
      ? {}
      : { nodeOptions: { pdp: options.nodeOptions, audit: options.nodeOptions } }),
  });
  try {
    const sizeOf = createSizeOf(deployment);
    const before = await sizeOf();
    // The whole load waits in the spool: the broker and the audit service are away while it is made.
    await deployment.audit.stop();
    if (isExternal(deployment)) await deployment.kafka.stop();
    const made = await decide(deployment, options.events);
    options.log(`${mode}: ${made} events wait in the spool`);
    if (isExternal(deployment)) await deployment.kafka.restart();
    await deployment.audit.launch();
    const { perS, sustainedPerS, cpu } = await drain(deployment, sizeOf, before, before + made);
    const resident = residentBytesOf(deployment.audit.pid()) / 2 ** 20;
    options.log(`${mode}: ${sustainedPerS.toFixed(0)} events/s`);
    const verifyStartedMs = performance.now();
    const reports = await runVerification(deployment.auditor(TENANT));
    const verifiedPerS = (made * 1_000) / (performance.now() - verifyStartedMs);
    const failures = reports.flatMap(failuresOf);
    if (failures.length > 0) throw new AppError('internal', `the ledger does not verify: ${failures.join('; ')}`);
    const lag = await measureLag(deployment, sizeOf, options);
    const limit = isExternal(deployment)
      ? await measureInsertLimit(deployment.postgres.url(), await readRowSizes(deployment.ledgerUrl), {
          events: options.events,
          batch: BATCH,
        })
      : undefined;
    return {
      mode,
      events: made,
      events_per_s: perS,
      sustained_per_s: sustainedPerS,
      verified_per_s: verifiedPerS,
      cpu_us_per_event: cpu,
      audit_resident_mib: resident,
      lag_p50_ms: lag.p50,
      lag_p99_ms: lag.p99,
      ...(limit === undefined ? {} : { plain_insert_per_s: limit.allPerS }),
    };
  } finally {
    if (options.nodeOptions !== undefined) await deployment.stop();
    await deployment.close();
  }
};

const ROWS: readonly (readonly [string, (figures: Figures) => number | undefined])[] = [
  ['events/s from spool to rows, start included', (figures) => figures.events_per_s],
  ['events/s sustained', (figures) => figures.sustained_per_s],
  ['plain INSERT of the same bytes, events/s', (figures) => figures.plain_insert_per_s],
  ['verified entries/s', (figures) => figures.verified_per_s],
  ['audit service, CPU µs/event', (figures) => figures.cpu_us_per_event.audit],
  ['relay in the PDP, CPU µs/event', (figures) => figures.cpu_us_per_event.relay],
  ['Postgres, CPU µs/event', (figures) => figures.cpu_us_per_event.postgres],
  ['Kafka, CPU µs/event', (figures) => figures.cpu_us_per_event.kafka],
  ['audit service, RSS MiB', (figures) => figures.audit_resident_mib],
  ['lag p50 ms', (figures) => figures.lag_p50_ms],
  ['lag p99 ms', (figures) => figures.lag_p99_ms],
];

const INGEST_TARGET = { rows_per_s: 6_000, ratio: 2.5, proof_p99_ms: 20 } as const;

const showIngest = (figures: IngestFigures, log: (line: string) => void): void => {
  const bytes = Object.entries(figures.bytes);
  const total = bytes.reduce((sum, [, each]) => sum + each, 0);
  const { rows_per_s: rowsPerS, ratio, proof_p99_ms: proofMs } = INGEST_TARGET;
  log(
    `\n${table([
      ['ingest into Postgres, signer running', 'reached', 'wanted'],
      ['rows/s', figures.ingest_per_s.toFixed(0), `>= ${rowsPerS}`],
      ['plain INSERT of the same bytes, rows/s', figures.insert_per_s.toFixed(0), '-'],
      ['INSERT / ingest', figures.ratio.toFixed(2), `<= ${ratio}`],
      ['plain INSERT of headers and payloads alone, rows/s', figures.insert_entries_per_s.toFixed(0), '-'],
      ['that / ingest', figures.ratio_to_entries.toFixed(2), '-'],
      ['ingest, CPU µs/row', figures.audit_cpu_us.toFixed(0), '-'],
      ['Postgres, CPU µs/row', figures.postgres_cpu_us.toFixed(0), '-'],
      ['checkpoints', String(figures.checkpoints), '-'],
      ['checkpoint lag p50 ms', figures.checkpoint_lag_p50_ms.toFixed(0), '-'],
      ['checkpoint lag p99 ms', figures.checkpoint_lag_p99_ms.toFixed(0), '-'],
      [`proof p50 ms, ${figures.rows} rows`, figures.proof_p50_ms.toFixed(2), '-'],
      [`proof p99 ms, ${figures.rows} rows`, figures.proof_p99_ms.toFixed(2), `< ${proofMs}`],
      ['bytes a decision', total.toFixed(0), '-'],
      ...bytes.map(([name, each]) => [`  ${name}`, each.toFixed(0), '-']),
    ])}\n`,
  );
};

/**
 * Rows a second of the ingest beside plain INSERT; events a second from the spool to verified rows, and how long one
 * takes under a steady load.
 */
export const benchLedger = async (options: LedgerOptions): Promise<void> => {
  const machine = describeMachine();
  const { log, nodeOptions } = options;
  const ingest = options.modes.includes('ingest')
    ? await measureIngest({ ...options.ingest, log, ...(nodeOptions === undefined ? {} : { nodeOptions }) })
    : undefined;
  if (ingest !== undefined) showIngest(ingest, log);
  const all: Figures[] = [];
  for (const mode of options.modes) if (mode !== 'ingest') all.push(await measure(mode, options));
  if (all.length > 0) {
    const header = ['ledger', ...all.map(({ mode }) => (mode === 'external' ? 'Kafka + Postgres' : 'embedded'))];
    const rows = ROWS.map(([name, value]) => [name, ...all.map((figures) => value(figures)?.toFixed(0) ?? '-')]);
    log(`\n${table([header, ...rows])}\n`);
    log(`${options.events} events; lag at ${options.offeredPerS} decisions/s for ${options.lagMs / 1_000} s`);
  }
  log(JSON.stringify(machine));
  const results = { bench: 'ledger', machine, offered_per_s: options.offeredPerS, figures: all, target: INGEST_TARGET };
  log(writeResults('ledger', ingest === undefined ? results : { ...results, ingest }));
};
