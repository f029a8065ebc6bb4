import { mkdtempSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { writeReplayBundles } from '../../scripts/replay/bundles.ts';
import type { JsonClient } from '../../scripts/replay/client.ts';
import { directoriesOf } from '../../scripts/replay/directory.ts';
import { generateRecording } from '../../scripts/replay/generate.ts';
import { isRecording, readRecording, sampleCalls } from '../../scripts/replay/recording.ts';
import { countsOf, type SuiteCounts } from '../../scripts/replay/report.ts';
import { sessionsOf } from '../../scripts/replay/requests.ts';
import { cataloguesOf } from '../../scripts/replay/resources.ts';
import { sendSessions, type Outcome } from '../../scripts/replay/send.ts';
import { startEmbedded, startExternal, type Deployment, type DeploymentOptions } from '../support/deployment.ts';
import { repositoryRoot } from '../support/prepared-parts.ts';
import { expectLedgerHolds } from './support/ledger.ts';

const minutes = 60_000;
const callsOfThisTest = 1_500;

/** The recorded traces lie outside the repository; a generated set of the same form stands in for them. */
const recordingFolder =
  process.env['EDICT_TEST_AGENTDOJO'] ?? path.join(repositoryRoot, '..', 'shared', 'data', 'agentdojo');
const recording = isRecording(recordingFolder) ? readRecording(recordingFolder) : generateRecording(callsOfThisTest);
const calls = sampleCalls(recording.calls, callsOfThisTest);
const suites = [...new Set(calls.map(({ suite }) => suite))].sort();

describe('recorded agent traces', () => {
  const counts = new Map<string, readonly SuiteCounts[]>();
  let bundleFolder: string;
  let options: DeploymentOptions;
  beforeAll(async () => {
    bundleFolder = mkdtempSync(path.join(os.tmpdir(), 'edict-replay-'));
    const bundles = await writeReplayBundles(bundleFolder, directoriesOf(recording));
    const tenants = Object.fromEntries(suites.map((suite) => [suite, { bundles: [bundles.get(suite)] }]));
    options = { tenants: suites, settings: { tenants } };
  });
  afterAll(() => rmSync(bundleFolder, { recursive: true }));

  const modes: readonly (readonly [string, (options: DeploymentOptions) => Promise<Deployment>])[] = [
    ['on one machine with the embedded database', startEmbedded],
    ['through a real broker and a real database server', startExternal],
  ];
  it.each(modes)(
    'are decided and stand in the ledger once, in order and verified, %s',
    async (mode, start) => {
      const deployment = await start(options);
      try {
        const gateways = new Map(suites.map((suite) => [suite, deployment.gateway(suite)]));
        const outcomes: Outcome[] = [];
        await sendSessions(
          sessionsOf(calls, cataloguesOf(recording.environments)),
          (suite) => gateways.get(suite) as JsonClient,
          { concurrency: 16, onOutcome: (outcome) => outcomes.push(outcome) },
        );
        expect(outcomes).toHaveLength(calls.length);
        const answered = outcomes.flatMap((outcome) => (outcome.kind === 'decision' ? [outcome.answer] : []));
        expect(answered).toHaveLength(calls.length);
        await expectLedgerHolds(deployment, answered, { nothingElse: true });
        counts.set(mode, countsOf(outcomes));
      } finally {
        await deployment.close();
      }
    },
    2 * minutes,
  );

  it('meet allow and deny in every suite, and the same counts in both modes', () => {
    const [embedded, external] = modes.map(([mode]) => counts.get(mode));
    expect(embedded?.map(({ suite }) => suite)).toEqual(suites);
    for (const { allow, deny, errors } of embedded ?? []) {
      expect(allow).toBeGreaterThan(0);
      expect(deny).toBeGreaterThan(0);
      expect(errors).toBe(0);
    }
    expect(external).toEqual(embedded);
  });
});
