import type { ChildProcess } from 'node:child_process';
import { startEmbedded, type Deployment } from '../../test/support/deployment.ts';
import { AppError } from '../../services/shared/contracts/errors.ts';
import { BODIES } from './bodies.ts';
import type { LoadOrder } from './load.ts';
import {
  describeMachine,
  median,
  residentBytesOf,
  startBare,
  startLoadProcess,
  table,
  writeResults,
} from './measure.ts';

/** One server under test. */
interface Contestant {
  readonly name: string;
  readonly pid: number;
  readonly order: Omit<LoadOrder, 'connections' | 'warmUpMs' | 'durationMs'>;
}

export interface DecideOptions {
  readonly rounds: number;
  readonly durationMs: number;
  readonly warmUpMs: number;
  readonly connections: number;
  /** Node options of the PDPs, such as `--cpu-prof`. */
  readonly nodeOptions?: readonly string[];
  readonly levels?: readonly Level[];
  readonly log: (line: string) => void;
}

const LEVELS = ['memory', 'spool', 'disk'] as const;
type Level = (typeof LEVELS)[number];

const TENANT = 'acme';

const startLevel = async (level: Level, nodeOptions: readonly string[]): Promise<Deployment> =>
  await startEmbedded({
    tenants: [TENANT],
    services: ['pdp'],
    nodeOptions: { pdp: nodeOptions },
    settings: {
      log: { level: 'warn' },
      pdp: { durability: level },
      // Nothing reads this spool, so that only the decision point works: it must hold the whole run.
      spool: { max: '16GiB', tenant_quota: '15GiB' },
    },
  });

const digits = (value: number, places = 0): string => value.toFixed(places);

/** Requests a second, latency and CPU of `/decide` at each durability, beside a bare server, in turns. */
export const benchDecide = async (options: DecideOptions): Promise<void> => {
  const levels = options.levels ?? LEVELS;
  const machine = describeMachine();
  const deployments: { readonly level: Level; readonly deployment: Deployment }[] = [];
  const load = startLoadProcess();
  let bare: ChildProcess | undefined;
  try {
    for (const level of levels) {
      deployments.push({ level, deployment: await startLevel(level, options.nodeOptions ?? []) });
    }
    const [first] = deployments;
    if (first === undefined) throw new AppError('usage', 'no durability to measure');
    const sample = await first.deployment.gateway(TENANT).post('/decide', JSON.parse(BODIES[0] ?? '{}'));
    if (sample.status !== 200) throw new AppError('internal', `/decide answered ${sample.status}`);
    const started = await startBare(JSON.stringify(sample.body).length);
    bare = started.child;
    const target = { host: '127.0.0.1', path: '/decide', bodies: BODIES };
    const contestants: readonly Contestant[] = [
      { name: 'bare node:http', pid: bare.pid ?? 0, order: { ...target, port: started.port, headers: {} } },
      ...deployments.map(({ level, deployment }) => ({
        name: level,
        pid: deployment.pdp.pid(),
        order: {
          ...target,
          port: Number(new URL(deployment.pdp.url).port),
          headers: { Authorization: `Bearer ${deployment.keys(TENANT).decide}` },
        },
      })),
    ];
    const figures = new Map(contestants.map(({ name }) => [name, [] as Figures[]]));
    for (let round = 1; round <= options.rounds; round += 1) {
      for (const { name, pid, order } of contestants) {
        const result = await load.run({ ...order, ...pick(options) }, pid);
        const refused = result.requests - (result.statuses['200'] ?? 0);
        if (refused > 0) throw new AppError('internal', `${name}: statuses ${JSON.stringify(result.statuses)}`);
        const figure = {
          requests_per_s: (result.requests * 1_000) / result.durationMs,
          p50_ms: result.p50Ms,
          p99_ms: result.p99Ms,
          cpu_us_per_request: result.cpuUs / result.requests,
          resident_mib: residentBytesOf(pid) / 2 ** 20,
        };
        figures.get(name)?.push(figure);
        options.log(`round ${round}  ${name.padEnd(14)}  ${digits(figure.requests_per_s)}/s`);
      }
    }
    const summary = contestants.map(({ name }) => ({ name, ...medians(figures.get(name) ?? []) }));
    const bareCpu = summary[0]?.cpu_us_per_request ?? Number.NaN;
    const rows = summary.map((row) => [
      row.name,
      digits(row.requests_per_s),
      digits(row.p50_ms, 2),
      digits(row.p99_ms, 2),
      digits(row.cpu_us_per_request, 1),
      digits(row.cpu_us_per_request / bareCpu, 2),
      digits(row.resident_mib),
    ]);
    const header = ['/decide', 'requests/s', 'p50 ms', 'p99 ms', 'CPU µs/request', '× bare', 'RSS MiB'];
    options.log(`\n${table([header, ...rows])}\n`);
    options.log(`medians of ${options.rounds} rounds; ${options.connections} connections; ${JSON.stringify(machine)}`);
    const file = writeResults('decide', {
      bench: 'decide',
      machine,
      settings: pick(options),
      summary,
      rounds: [...figures],
    });
    options.log(file);
  } finally {
    load.close();
    bare?.kill();
    for (const { deployment } of deployments) {
      // A profile is written at a clean end only.
      if (options.nodeOptions !== undefined) await deployment.pdp.stop();
      await deployment.close();
    }
  }
};

interface Figures {
  readonly requests_per_s: number;
  readonly p50_ms: number;
  readonly p99_ms: number;
  readonly cpu_us_per_request: number;
  readonly resident_mib: number;
}

const medians = (figures: readonly Figures[]): Figures => ({
  requests_per_s: median(figures.map((each) => each.requests_per_s)),
  p50_ms: median(figures.map((each) => each.p50_ms)),
  p99_ms: median(figures.map((each) => each.p99_ms)),
  cpu_us_per_request: median(figures.map((each) => each.cpu_us_per_request)),
  resident_mib: median(figures.map((each) => each.resident_mib)),
});

const pick = ({ connections, warmUpMs, durationMs }: DecideOptions) => ({ connections, warmUpMs, durationMs });
