import { mkdtempSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { AppError } from '../../services/shared/contracts/errors.ts';
import { startEmbedded, type Deployment } from '../../test/support/deployment.ts';
import { BODIES } from './bodies.ts';
import { describeMachine, median, table, writeResults } from './measure.ts';
import { chooseDriver, type Driven } from './wrk.ts';

export interface WorkersOptions {
  readonly rounds: number;
  readonly durationMs: number;
  readonly warmUpMs: number;
  readonly connections: number;
  /** Numbers of workers; the first is what the others are compared with. */
  readonly counts: readonly number[];
  /** Default: `wrk` where it is installed, else our own. */
  readonly driver?: 'wrk' | 'own';
  readonly log: (line: string) => void;
}

export interface WorkersFigures extends Omit<Driven, 'failures'> {
  readonly workers: number;
  /** CPU that the decision point took, cores. */
  readonly coresUsed: number;
  /** Requests a second, to those of the first count. */
  readonly scaling: number;
  /** What that would be, did each process of the decision point have a core to itself: by CPU a request alone. */
  readonly scalingByCpu: number;
}

export interface WorkersResults {
  readonly driver: string;
  readonly cores: number;
  readonly figures: readonly WorkersFigures[];
}

const TENANT = 'acme';
/** What `pdp.workers` should bring at two. */
const WANTED = 1.7;

const startCount = async (workers: number): Promise<Deployment> =>
  await startEmbedded({
    tenants: [TENANT],
    services: ['pdp'],
    settings: {
      log: { level: 'warn' },
      pdp: { workers, durability: 'spool' },
      // Nothing reads the spools, so that only the decision point works: they must hold the whole run.
      spool: { max: '16GiB', tenant_quota: '15GiB' },
    },
  });

const drive = async (options: WorkersOptions, scratch: string, deployments: readonly Deployment[]) => {
  const { connections, warmUpMs, durationMs, log, counts } = options;
  const driver = await chooseDriver(scratch, options);
  const rounds = counts.map((): Driven[] => []);
  try {
    for (let round = 1; round <= options.rounds; round += 1) {
      for (const [at, deployment] of deployments.entries()) {
        const { pdp } = deployment;
        const order = {
          host: '127.0.0.1',
          port: Number(new URL(pdp.url).port),
          path: '/decide',
          headers: { Authorization: `Bearer ${deployment.keys(TENANT).decide}` },
          bodies: BODIES,
        };
        const driven = await driver.drive({ ...order, connections, warmUpMs, durationMs }, pdp.pid());
        if (driven.failures > 0) throw new AppError('internal', `${driven.failures} requests failed`);
        rounds[at]?.push(driven);
        log(`round ${round}  ${counts[at]} workers  ${driven.requestsPerS.toFixed(0)}/s`);
      }
    }
    return { name: driver.name, rounds };
  } finally {
    driver.close();
  }
};

/** A closed loop keeps the first process busy all the time, so what it lacks of a core others took. */
const BUSY_CORES = 0.9;

/** Measures all counts in turns; throws when a request is refused. */
export const measureWorkers = async (options: WorkersOptions): Promise<WorkersResults> => {
  const scratch = mkdtempSync(path.join(os.tmpdir(), 'edict-workers-'));
  const deployments: Deployment[] = [];
  try {
    for (const workers of options.counts) deployments.push(await startCount(workers));
    const { name, rounds } = await drive(options, scratch, deployments);
    const of = (each: readonly Driven[], figure: keyof Driven): number => median(each.map((driven) => driven[figure]));
    const [first = []] = rounds;
    const figures = rounds.map((each, at): WorkersFigures => {
      const workers = options.counts[at] ?? 1;
      const [requestsPerS, cpuUsPerRequest] = [of(each, 'requestsPerS'), of(each, 'cpuUsPerRequest')];
      return {
        workers,
        requestsPerS,
        p50Ms: of(each, 'p50Ms'),
        p99Ms: of(each, 'p99Ms'),
        cpuUsPerRequest,
        coresUsed: (requestsPerS * cpuUsPerRequest) / 1_000_000,
        scaling: requestsPerS / of(first, 'requestsPerS'),
        scalingByCpu: ((workers / (options.counts[0] ?? 1)) * of(first, 'cpuUsPerRequest')) / cpuUsPerRequest,
      };
    });
    return { driver: name, cores: os.availableParallelism(), figures };
  } finally {
    for (const deployment of deployments) await deployment.close();
    rmSync(scratch, { recursive: true, force: true });
  }
};

/** Whether the load generator and the workers had to share cores, in words. */
const coresText = ({ cores, figures }: WorkersResults): string => {
  const most = Math.max(...figures.map(({ workers }) => workers));
  const needed = most + 1;
  if (cores >= needed) return `${cores} cores: enough for ${most} workers and the load generator`;
  return (
    `${cores} cores are not enough for ${most} workers and the load generator, which want ${needed}: they take cores ` +
    'from each other, and the ratio is lower than it would be; “by CPU” is what CPU a request alone would give'
  );
};

/** Whether something else ran on this machine, in words; nothing when it did not. */
const othersText = ({ figures: [first] }: WorkersResults): readonly string[] =>
  first === undefined || first.workers !== 1 || first.coresUsed >= BUSY_CORES
    ? []
    : [
        `one worker alone got ${first.coresUsed.toFixed(2)} of a core: other programs took the CPU, so requests/s and ` +
          'the ratio say little',
      ];

/** The figures as text. */
export const reportWorkers = (results: WorkersResults): string => {
  const rows = results.figures.map((each) => [
    String(each.workers),
    each.requestsPerS.toFixed(0),
    each.p50Ms.toFixed(2),
    each.p99Ms.toFixed(2),
    each.cpuUsPerRequest.toFixed(1),
    each.coresUsed.toFixed(2),
    each.scaling.toFixed(2),
    each.scalingByCpu.toFixed(2),
  ]);
  const header = ['workers', 'requests/s', 'p50 ms', 'p99 ms', 'CPU µs/request', 'cores used', '×', '× by CPU'];
  const two = results.figures.find(({ workers }) => workers === 2);
  const parts = [
    table([header, ...rows]),
    ...(two === undefined || results.figures[0]?.workers !== 1
      ? []
      : [`two workers to one: wanted >= ${WANTED} ×, reached ${two.scaling.toFixed(2)} ×`]),
    coresText(results),
    ...othersText(results),
    `driven by ${results.driver}, closed loop, at durability spool`,
  ];
  return `\n${parts.join('\n\n')}`;
};

/** Measures, prints, and keeps the figures in `bench/results/`. */
export const benchWorkers = async (options: WorkersOptions): Promise<void> => {
  const machine = describeMachine();
  const results = await measureWorkers(options);
  const { log, ...settings } = options;
  log(reportWorkers(results));
  log(`medians of ${options.rounds} rounds; ${options.connections} connections; ${JSON.stringify(machine)}`);
  log(writeResults('workers', { bench: 'workers', machine, settings, ...results }));
};
