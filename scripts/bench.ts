// Measures the decision point and the ledger. Usage: npm run bench -- COMMAND [OPTIONS]; --help names the commands.
import { Command, InvalidArgumentError, Option } from 'commander';
import { errorMessage, isAppError } from '../services/shared/contracts/errors.ts';
import { benchDecide } from './bench/decide.ts';
import { benchEngine } from './bench/engine.ts';
import { benchLedger, type Mode } from './bench/ledger.ts';
import { benchMemo } from './bench/memo.ts';
import { benchNeighbours } from './bench/neighbours.ts';
import { benchPeers } from './bench/peers.ts';
import { benchQuery } from './bench/query.ts';
import { benchRunaways } from './bench/runaways.ts';
import { benchVerification } from './bench/verification.ts';
import { benchWorkers } from './bench/workers.ts';

const log = (line: string): void => void process.stdout.write(`${line}\n`);

const MIB = 2 ** 20;
/** Events in one transaction while the ingest is measured. */
const LEDGER_BATCH = 500;

const whole = (text: string): number => {
  const value = Number(text);
  if (!Number.isInteger(value) || value < 0) throw new InvalidArgumentError('a whole number');
  return value;
};

const positive = (text: string): number => {
  const value = Number(text);
  if (!Number.isInteger(value) || value < 1) throw new InvalidArgumentError('a whole number above zero');
  return value;
};

const eachPositive = (text: string, before: readonly number[] = []): readonly number[] => [...before, positive(text)];

/** `--profile FOLDER`: CPU profiles of the services, to be opened with the developer tools of a browser. */
const profiling = (folder: string | undefined): { readonly nodeOptions?: readonly string[] } =>
  folder === undefined ? {} : { nodeOptions: ['--cpu-prof', `--cpu-prof-dir=${folder}`] };

const program = new Command('bench').description('Measures the decision point and the ledger on this machine.');

program
  .command('decide')
  .description('requests/s, latency and CPU of /decide at each durability, beside a bare node:http server, in turns')
  .option('--rounds <n>', 'rounds of all servers', positive, 5)
  .option('--seconds <n>', 'measured time of one server in one round', positive, 4)
  .option('--connections <n>', 'requests at once', positive, 64)
  .addOption(new Option('--levels <level...>', 'durabilities').choices(['memory', 'spool', 'disk']))
  .option('--profile <folder>', 'write CPU profiles of the decision points')
  .action(
    async (options: {
      readonly rounds: number;
      readonly seconds: number;
      readonly connections: number;
      readonly levels?: readonly ('memory' | 'spool' | 'disk')[];
      readonly profile?: string;
    }) =>
      await benchDecide({
        rounds: options.rounds,
        durationMs: options.seconds * 1_000,
        warmUpMs: 1_500,
        connections: options.connections,
        ...(options.levels === undefined ? {} : { levels: options.levels }),
        ...profiling(options.profile),
        log,
      }),
  );

program
  .command('engine')
  .description(
    'µs and fuel of an evaluation beside the SDK, Cedar and `opa bench`; memory, reload, runaways, hash flood',
  )
  .option('--rounds <n>', 'rounds of all hosts', positive, 5)
  .option('--turn-ms <n>', 'measured time of one host in one round of one case', positive, 500)
  .option('--cases <name...>', 'only cases with this in their name')
  .option('--without-opa', 'leave `opa bench` out, which takes some seconds a case and round')
  .option('--memory-mib <n...>', 'sizes of data whose memory is measured', eachPositive)
  .option('--reload-mib <n>', 'size of the data that is reloaded; 0: none', whole, 50)
  .action(
    async (options: {
      readonly rounds: number;
      readonly turnMs: number;
      readonly cases?: readonly string[];
      readonly withoutOpa?: boolean;
      readonly memoryMib?: readonly number[];
      readonly reloadMib: number;
    }) =>
      await benchEngine({
        rounds: options.rounds,
        turnMs: options.turnMs,
        warmUpMs: Math.max(500, options.turnMs),
        ...(options.cases === undefined ? {} : { cases: options.cases }),
        withOpa: options.withoutOpa !== true,
        memorySizes: (options.memoryMib ?? [1, 5, 20]).map((mib) => mib * MIB),
        reloadBytes: options.reloadMib * MIB,
        log,
      }),
  );

program
  .command('ledger')
  .description(
    'ingest beside plain INSERT, proofs, lag of checkpoints, bytes; events/s from the spool to verified rows',
  )
  .option('--rows <n>', 'decisions in the ledger after the ingest', positive, 60_000)
  .option('--rounds <n>', 'of ingest and INSERT in turns', positive, 3)
  .option('--events <n>', 'events of the drain', positive, 50_000)
  .option('--offered <n>', 'decisions a second while the lag is measured', positive, 500)
  .option('--seconds <n>', 'how long the lag is measured', positive, 20)
  .addOption(
    new Option('--modes <mode...>', 'which deployments')
      .choices(['ingest', 'embedded', 'external'])
      .default(['ingest', 'embedded', 'external']),
  )
  .option('--profile <folder>', 'write CPU profiles of both services')
  .action(
    async (options: {
      readonly rows: number;
      readonly rounds: number;
      readonly events: number;
      readonly offered: number;
      readonly seconds: number;
      readonly modes: readonly ('ingest' | Mode)[];
      readonly profile?: string;
    }) =>
      await benchLedger({
        events: options.events,
        offeredPerS: options.offered,
        lagMs: options.seconds * 1_000,
        modes: options.modes,
        ingest: { rows: options.rows, rounds: options.rounds, batch: LEDGER_BATCH },
        ...profiling(options.profile),
        log,
      }),
  );

program
  .command('memo')
  .description('µs of a decision that is evaluated, and of one that is remembered')
  .option('--rounds <n>', 'rounds of all ways', positive, 5)
  .option('--turn-ms <n>', 'measured time of one way in one round of one policy', positive, 300)
  .action(
    async (options: { readonly rounds: number; readonly turnMs: number }) => await benchMemo({ ...options, log }),
  );

program
  .command('peers')
  .description(
    "/decide with its durable audit beside OPA's server and Cerbos, audit off and on; events lost in an outage",
  )
  .option('--rounds <n>', 'rounds of all servers', positive, 5)
  .option('--seconds <n>', 'measured time of one server in one round', positive, 4)
  .option('--connections <n>', 'requests at once', positive, 16)
  .option('--requests <n>', 'different requests', positive, 1_000)
  .option('--seed <n>', 'of the requests', whole, 1)
  .option('--without-cerbos', 'leave Cerbos out, whose package (100 MB) is installed at first use')
  .option('--outage-seconds <n>', 'how long the sink is away; 0: leave it out', whole, 10)
  .option('--offered <n>', 'requests a second around that', positive, 1_000)
  .addOption(new Option('--driver <name>', 'who sends; default: wrk where it is installed').choices(['wrk', 'own']))
  .action(
    async (options: {
      readonly rounds: number;
      readonly seconds: number;
      readonly connections: number;
      readonly requests: number;
      readonly seed: number;
      readonly withoutCerbos?: boolean;
      readonly outageSeconds: number;
      readonly offered: number;
      readonly driver?: 'wrk' | 'own';
    }) =>
      await benchPeers({
        rounds: options.rounds,
        durationMs: options.seconds * 1_000,
        warmUpMs: 1_500,
        connections: options.connections,
        requests: options.requests,
        seed: options.seed,
        withCerbos: options.withoutCerbos !== true,
        outageMs: options.outageSeconds * 1_000,
        offeredPerS: options.offered,
        settleMs: 60_000,
        ...(options.driver === undefined ? {} : { driver: options.driver }),
        log,
      }),
  );

program
  .command('query')
  .description('p50 and p95 of a page by each filter in a generated ledger, beside a look-up by primary key')
  .option('--rows <n>', 'decisions in the ledger', positive, 200_000)
  .option('--calls <n>', 'pages of each filter', positive, 200)
  .action(async (options: { readonly rows: number; readonly calls: number }) => await benchQuery({ ...options, log }));

program
  .command('verification')
  .description('entries/s that a core verifies, headers alone and everything, beside their cryptography alone')
  .option('--events <n>', 'decisions in the ledger', positive, 50_000)
  .option('--rounds <n>', 'rounds of all', positive, 3)
  .option('--profile <folder>', 'write CPU profiles of the verifying process')
  .action(
    async ({
      events,
      rounds,
      profile,
    }: {
      readonly events: number;
      readonly rounds: number;
      readonly profile?: string;
    }) => await benchVerification({ events, rounds, ...profiling(profile), log }),
  );

program
  .command('workers')
  .description('requests/s of /decide with one and with several pdp.workers, in turns, and how it scales')
  .option('--rounds <n>', 'rounds of all', positive, 5)
  .option('--seconds <n>', 'measured time of one in one round', positive, 4)
  .option('--connections <n>', 'requests at once', positive, 64)
  .option('--counts <n...>', 'numbers of workers; the first is what the others are compared with', eachPositive)
  .addOption(new Option('--driver <name>', 'who sends; default: wrk where it is installed').choices(['wrk', 'own']))
  .action(
    async (options: {
      readonly rounds: number;
      readonly seconds: number;
      readonly connections: number;
      readonly counts?: readonly number[];
      readonly driver?: 'wrk' | 'own';
    }) =>
      await benchWorkers({
        rounds: options.rounds,
        durationMs: options.seconds * 1_000,
        warmUpMs: 1_500,
        connections: options.connections,
        counts: options.counts ?? [1, 2],
        ...(options.driver === undefined ? {} : { driver: options.driver }),
        log,
      }),
  );

program
  .command('neighbours')
  .description('p50 and p99 of one tenant while another one sends nothing but runaways, without and with its budget')
  .option('--rounds <n>', 'rounds of all arms', positive, 3)
  .option('--seconds <n>', 'measured time of one arm in one round', positive, 5)
  .option('--offered <n>', 'decisions a second of the tenant that is measured', positive, 200)
  .option('--connections <n>', 'connections of the other one, without a pause', positive, 8)
  .option('--fuel-per-second <n>', 'its budget; default: that of the settings', positive)
  .action(
    async (options: {
      readonly rounds: number;
      readonly seconds: number;
      readonly offered: number;
      readonly connections: number;
      readonly fuelPerSecond?: number;
    }) =>
      await benchNeighbours({
        rounds: options.rounds,
        durationMs: options.seconds * 1_000,
        warmUpMs: 2_000,
        offeredPerS: options.offered,
        connections: options.connections,
        ...(options.fuelPerSecond === undefined ? {} : { fuelPerSecond: options.fuelPerSecond }),
        log,
      }),
  );

program
  .command('runaway')
  .description('how long policies that would not end take until the default fuel ends them')
  .option('--times <n>', 'evaluations of each that are measured, after as many to warm up', positive, 20)
  .option('--rules <name...>', 'only these')
  .action(
    async (options: { readonly times: number; readonly rules?: readonly string[] }) =>
      await benchRunaways({
        times: options.times,
        ...(options.rules === undefined ? {} : { rules: options.rules }),
        log,
      }),
  );

try {
  await program.parseAsync();
} catch (error) {
  process.stderr.write(`bench: ${isAppError(error) ? `${error.code}: ` : ''}${errorMessage(error)}\n`);
  process.exitCode = 2;
}
