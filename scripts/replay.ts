// Replays recorded agent tool calls through `/decide` and compares what was answered with what the ledger holds.
// Usage: npm run replay -- [PATH] [--limit N] [--embedded | --external | --url URL …] [--json]
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { SingleBar } from 'cli-progress';
import { Command, InvalidArgumentError } from 'commander';
import { Type } from 'typebox';
import { Value } from 'typebox/value';
import { AppError, errorMessage, isAppError } from '../services/shared/contracts/errors.ts';
import { startEmbedded, startExternal, type Deployment } from '../test/support/deployment.ts';
import { writeReplayBundles } from './replay/bundles.ts';
import { createJsonClient, type JsonClient } from './replay/client.ts';
import { directoriesOf } from './replay/directory.ts';
import { generateRecording } from './replay/generate.ts';
import { compareWithLedger, type LedgerComparison } from './replay/ledger.ts';
import { isRecording, readRecording, sampleCalls, type Recording } from './replay/recording.ts';
import { countsOf, countsTable, figuresOf } from './replay/report.ts';
import { sessionsOf } from './replay/requests.ts';
import { cataloguesOf } from './replay/resources.ts';
import { sendSessions, type Outcome } from './replay/send.ts';

const GENERATED_CALLS = 2_000;

/** API keys by tenant, as a file next to no repository: for services that run elsewhere. */
const KeysFile = Type.Record(Type.String(), Type.Object({ decide: Type.String(), audit: Type.String() }));

interface Options {
  readonly limit?: number;
  readonly embedded?: boolean;
  readonly external?: boolean;
  readonly url?: string;
  readonly auditUrl?: string;
  readonly keysFile?: string;
  readonly writeBundles?: string;
  readonly concurrency: number;
  readonly json?: boolean;
}

/** Where to ask and where to look afterwards. */
interface Target {
  readonly gateway: (tenant: string) => JsonClient;
  readonly auditor: (tenant: string) => JsonClient;
  readonly close: () => Promise<void>;
}

const positive = (text: string): number => {
  const value = Number(text);
  if (!Number.isInteger(value) || value < 1) throw new InvalidArgumentError('a whole number above zero');
  return value;
};

const recordingAt = (folder: string | undefined): Recording => {
  if (folder !== undefined && isRecording(folder)) return readRecording(folder);
  if (folder !== undefined) process.stderr.write(`replay: no recording at ${folder}; a generated one stands in\n`);
  return generateRecording(GENERATED_CALLS);
};

const ownTarget = async (suites: readonly string[], recording: Recording, external: boolean): Promise<Target> => {
  const bundleFolder = mkdtempSync(path.join(os.tmpdir(), 'edict-replay-'));
  let deployment: Deployment | undefined;
  const close = async (): Promise<void> => {
    await deployment?.close();
    rmSync(bundleFolder, { recursive: true, force: true });
  };
  try {
    const bundles = await writeReplayBundles(bundleFolder, directoriesOf(recording));
    const settings = {
      log: { level: 'warn' },
      tenants: Object.fromEntries(suites.map((suite) => [suite, { bundles: [bundles.get(suite)] }])),
    };
    const started = await (external ? startExternal : startEmbedded)({ tenants: suites, settings });
    deployment = started;
    return { gateway: (suite) => started.gateway(suite), auditor: (suite) => started.auditor(suite), close };
  } catch (error) {
    await close();
    throw error;
  }
};

const remoteTarget = ({ url, auditUrl, keysFile }: Options): Target => {
  if (url === undefined || auditUrl === undefined || keysFile === undefined)
    throw new AppError('usage', '--url needs --audit-url and --keys-file');
  const keys = Value.Parse(KeysFile, JSON.parse(readFileSync(keysFile, 'utf8')));
  const clients: JsonClient[] = [];
  const clientOf = (base: string, tenant: string, role: 'decide' | 'audit'): JsonClient => {
    const client = createJsonClient(base, { apiKey: keys[tenant]?.[role] });
    clients.push(client);
    return client;
  };
  return {
    gateway: (tenant) => clientOf(url, tenant, 'decide'),
    auditor: (tenant) => clientOf(auditUrl, tenant, 'audit'),
    close: () => {
      for (const client of clients) client.close();
      return Promise.resolve();
    },
  };
};

const progressBar = (total: number, hidden: boolean): { readonly step: () => void; readonly end: () => void } => {
  if (hidden) return { step: () => undefined, end: () => undefined };
  const bar = new SingleBar({
    format: '{bar} {value}/{total} calls, {eta_formatted} left',
    stream: process.stderr,
    noTTYOutput: true,
    notTTYSchedule: 5_000,
  });
  bar.start(total, 0);
  return { step: () => bar.increment(), end: () => bar.stop() };
};

const comparisonLines = (comparisons: readonly LedgerComparison[]): readonly string[] =>
  comparisons.map(({ tenant, decisions, entries, problems }) => {
    const state = problems.length === 0 ? 'each decision once, in order, verified' : problems.join('; ');
    return `ledger ${tenant}: ${decisions} decisions in ${entries} entries: ${state}`;
  });

const replay = async (folder: string | undefined, options: Options): Promise<void> => {
  const recording = recordingAt(folder);
  const calls = sampleCalls(recording.calls, options.limit ?? recording.calls.length);
  const suites = [...new Set(calls.map(({ suite }) => suite))].sort();
  if (options.writeBundles !== undefined) {
    await writeReplayBundles(options.writeBundles, directoriesOf(recording));
    process.stderr.write(`replay: bundles for ${suites.join(', ')} are in ${options.writeBundles}\n`);
    return;
  }
  const sessions = sessionsOf(calls, cataloguesOf(recording.environments));
  const target =
    options.url === undefined ? await ownTarget(suites, recording, options.external === true) : remoteTarget(options);
  try {
    const gateways = new Map(suites.map((suite) => [suite, target.gateway(suite)]));
    const gatewayOf = (suite: string): JsonClient => {
      const gateway = gateways.get(suite);
      if (gateway === undefined) throw new AppError('internal', `no gateway for ${suite}`);
      return gateway;
    };
    const outcomes: Outcome[] = [];
    const bar = progressBar(calls.length, options.json === true);
    const startedMs = performance.now();
    await sendSessions(sessions, gatewayOf, {
      concurrency: options.concurrency,
      onOutcome: (outcome) => {
        outcomes.push(outcome);
        bar.step();
      },
    });
    const figures = figuresOf(outcomes, performance.now() - startedMs);
    bar.end();
    const counts = countsOf(outcomes);
    const answered = outcomes.flatMap((outcome) => (outcome.kind === 'decision' ? [outcome.answer] : []));
    const comparisons: LedgerComparison[] = [];
    for (const suite of suites)
      comparisons.push(
        await compareWithLedger(
          target.auditor(suite),
          suite,
          answered.filter(({ tenant }) => tenant === suite),
        ),
      );
    const isGood =
      counts.every(({ errors }) => errors === 0) && comparisons.every(({ problems }) => problems.length === 0);
    if (options.json === true) process.stdout.write(`${JSON.stringify({ figures, counts, ledger: comparisons })}\n`);
    else {
      const { decisionsPerS, p50Ms, p99Ms } = figures;
      const speed = `${decisionsPerS.toFixed(0)} decisions/s, p50 ${p50Ms.toFixed(1)} ms, p99 ${p99Ms.toFixed(1)} ms`;
      process.stdout.write(`\n${countsTable(counts)}\n\n${speed}\n${comparisonLines(comparisons).join('\n')}\n`);
    }
    if (!isGood) process.exitCode = 1;
  } finally {
    await target.close();
  }
};

const program = new Command('replay')
  .description('Replays recorded agent tool calls through /decide and compares answers with the ledger.')
  .argument('[path]', 'folder of a recording (calls, tools, tasks, environments); without one, a generated set')
  .option('--limit <n>', 'about so many calls, whole runs spread over the recording', positive)
  .option('--concurrency <n>', 'runs at once', positive, 16)
  .option('--embedded', 'start PDP and audit service on one machine (the default)')
  .option('--external', 'start them with a real broker and a real Postgres')
  .option('--url <url>', 'ask a PDP that runs already')
  .option('--audit-url <url>', 'its audit service')
  .option('--keys-file <file>', 'JSON: {"<suite>": {"decide": "<API key>", "audit": "<API key>"}}')
  .option('--write-bundles <folder>', 'only write the bundle of each suite, for such a PDP')
  .option('--json', 'figures as JSON');

program.action(replay);
try {
  await program.parseAsync();
} catch (error) {
  process.stderr.write(`replay: ${isAppError(error) ? `${error.code}: ` : ''}${errorMessage(error)}\n`);
  process.exitCode = 2;
}
