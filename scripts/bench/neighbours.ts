import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { startEmbedded, type Deployment } from '../../test/support/deployment.ts';
import { AppError } from '../../services/shared/contracts/errors.ts';
import { BODIES } from './bodies.ts';
import type { LoadOrder } from './load.ts';
import { describeMachine, median, startLoadProcess, table, writeResults, type MeasuredLoad } from './measure.ts';
import { compileRego, packBundle, POLICIES } from './opa.ts';

export interface NeighbourOptions {
  readonly rounds: number;
  readonly durationMs: number;
  readonly warmUpMs: number;
  /** Decisions a second of the tenant that is measured. */
  readonly offeredPerS: number;
  /** Connections of the other one, each without a pause. */
  readonly connections: number;
  /** The other one's budget in the last arm. Default: that of the settings. */
  readonly fuelPerSecond?: number;
  readonly log: (line: string) => void;
}

/** What the tenant got that behaves, and what the other one was answered. */
export interface NeighbourFigures {
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly answeredPerS: number;
  readonly runawaysPerS: number;
  readonly refusedPerS: number;
}

const STEADY = 'steady';
const NOISY = 'noisy';
const STEADY_CONNECTIONS = 4;
/** More than anybody can use: no budget. */
const UNLIMITED = 1_000_000_000_000;

const ARMS = ['alone', 'neighbour, no budget', 'neighbour, its budget'] as const;
type Arm = (typeof ARMS)[number];

/** One decision point for two tenants; the policies of one of them never end. */
const start = async (bundle: string, fuelPerSecond: number | undefined): Promise<Deployment> =>
  await startEmbedded({
    tenants: [STEADY, NOISY],
    services: ['pdp'],
    settings: {
      log: { level: 'fatal' },
      tenants: {
        [NOISY]: { bundles: [bundle], ...(fuelPerSecond === undefined ? {} : { fuel_per_second: fuelPerSecond }) },
      },
      // Nothing reads this spool.
      spool: { max: '16GiB', tenant_quota: '7GiB' },
    },
  });

const rate = (statuses: MeasuredLoad['statuses'], status: string, durationMs: number): number =>
  ((statuses[status] ?? 0) * 1_000) / durationMs;

const medianOf = (rounds: readonly NeighbourFigures[]): NeighbourFigures => ({
  p50Ms: median(rounds.map((round) => round.p50Ms)),
  p99Ms: median(rounds.map((round) => round.p99Ms)),
  answeredPerS: median(rounds.map((round) => round.answeredPerS)),
  runawaysPerS: median(rounds.map((round) => round.runawaysPerS)),
  refusedPerS: median(rounds.map((round) => round.refusedPerS)),
});

/** p50 and p99 of one tenant's steady load while another one sends nothing but runaways, as fast as it can. */
export const measureNeighbours = async (
  options: NeighbourOptions,
): Promise<Readonly<Record<Arm, NeighbourFigures>>> => {
  const scratch = mkdtempSync(path.join(os.tmpdir(), 'edict-bench-'));
  const [steady, noisy] = [startLoadProcess(), startLoadProcess()];
  const deployments: Deployment[] = [];
  try {
    const source = readFileSync(path.join(POLICIES, 'neighbour.rego'), 'utf8');
    const { wasm } = await compileRego({ scratch, name: 'neighbour', source, entrypoints: ['edict/decide'], data: {} });
    const bundle = path.join(scratch, 'neighbour.tar.gz');
    writeFileSync(bundle, await packBundle(wasm, 1, '{}'));
    const unlimited = await start(bundle, UNLIMITED);
    deployments.push(unlimited);
    const limited = await start(bundle, options.fuelPerSecond);
    deployments.push(limited);

    const { durationMs, warmUpMs } = options;
    const orderOf = (deployment: Deployment, tenant: string): Omit<LoadOrder, 'connections'> => ({
      host: '127.0.0.1',
      port: Number(new URL(deployment.pdp.url).port),
      path: '/decide',
      headers: { Authorization: `Bearer ${deployment.keys(tenant).decide}` },
      bodies: BODIES,
      warmUpMs,
      durationMs,
    });
    const run = async (deployment: Deployment, hasNeighbour: boolean): Promise<NeighbourFigures> => {
      const everyMs = (STEADY_CONNECTIONS * 1_000) / options.offeredPerS;
      const steadyOrder = { ...orderOf(deployment, STEADY), connections: STEADY_CONNECTIONS, everyMs };
      const noisyOrder = { ...orderOf(deployment, NOISY), connections: options.connections };
      const [own, other] = await Promise.all([
        steady.run(steadyOrder, deployment.pdp.pid()),
        hasNeighbour ? noisy.run(noisyOrder, deployment.pdp.pid()) : undefined,
      ]);
      const wrong = own.requests - (own.statuses['200'] ?? 0);
      if (wrong > 0) throw new AppError('internal', `the steady tenant got ${JSON.stringify(own.statuses)}`);
      return {
        p50Ms: own.p50Ms,
        p99Ms: own.p99Ms,
        answeredPerS: rate(own.statuses, '200', durationMs),
        runawaysPerS: rate(other?.statuses ?? {}, '500', durationMs),
        refusedPerS: rate(other?.statuses ?? {}, '429', durationMs),
      };
    };
    const rounds: Record<Arm, NeighbourFigures[]> = {
      alone: [],
      'neighbour, no budget': [],
      'neighbour, its budget': [],
    };
    for (let round = 1; round <= options.rounds; round += 1) {
      rounds.alone.push(await run(limited, false));
      rounds['neighbour, no budget'].push(await run(unlimited, true));
      rounds['neighbour, its budget'].push(await run(limited, true));
      options.log(`round ${round} measured`);
    }
    return {
      alone: medianOf(rounds.alone),
      'neighbour, no budget': medianOf(rounds['neighbour, no budget']),
      'neighbour, its budget': medianOf(rounds['neighbour, its budget']),
    };
  } finally {
    steady.close();
    noisy.close();
    for (const deployment of deployments) await deployment.close();
    rmSync(scratch, { recursive: true, force: true });
  }
};

/** The figures as text. */
export const neighbourTable = (results: Readonly<Record<Arm, NeighbourFigures>>): string =>
  table([
    ['steady tenant', 'p50 ms', 'p99 ms', 'decisions/s', "other's runaways/s", "other's 429/s"],
    ...ARMS.map((arm) => {
      const { p50Ms, p99Ms, answeredPerS, runawaysPerS, refusedPerS } = results[arm];
      return [
        arm,
        p50Ms.toFixed(2),
        p99Ms.toFixed(2),
        ...[answeredPerS, runawaysPerS, refusedPerS].map((each) => each.toFixed(0)),
      ];
    }),
  ]);

/** Measures, prints, and keeps the figures in `bench/results/`. */
export const benchNeighbours = async (options: NeighbourOptions): Promise<void> => {
  const machine = describeMachine();
  const results = await measureNeighbours(options);
  const { log, ...settings } = options;
  log(`\n${neighbourTable(results)}`);
  log(`\nmedians of ${options.rounds} rounds; ${JSON.stringify(machine)}`);
  log(writeResults('neighbours', { bench: 'neighbours', machine, settings, results }));
};
