import { readFileSync, writeFileSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import path from 'node:path';
import { bundleWith, DEMO_BUNDLE, readDemoBundle } from '../../scripts/replay/bundles.ts';
import { replaceFile } from '../../services/cli/replace-file.ts';
import { isObject } from '../../services/shared/contracts/json.ts';
import { startEmbedded, type Deployment } from '../support/deployment.ts';
import { healthOf } from '../support/edict-process.ts';
import { expectLedgerHolds, expectVerified } from './support/ledger.ts';
import { REQUESTS, startLoad } from './support/load.ts';
import { until } from './support/until.ts';

const minutes = 60_000;

/** The bundle file of the deployment, which these tests replace. */
const bundleFileOf = (deployment: Deployment): string => path.join(deployment.folder, 'mesh.tar.gz');

const digestOf = (body: unknown): string => {
  if (!isObject(body) || !isObject(body['policy']) || !Array.isArray(body['policy']['bundles'])) return '';
  const [bundle] = body['policy']['bundles'] as readonly { readonly digest?: unknown }[];
  return String(bundle?.digest);
};

/** The demo bundle with one more right: the agent that is denied in the demo may read salaries. */
async function otherBundle(serial: number): Promise<Uint8Array> {
  const demo = await readDemoBundle();
  const data: unknown = JSON.parse(Buffer.from(demo.dataJson).toString('utf8'));
  const directory = (data as { directory: { agents: { agent: Record<string, { entitlements: object }> } } }).directory;
  const agent = directory.agents.agent['analytics-agent'];
  if (agent === undefined) throw new Error('the demo bundle has no analytics-agent');
  agent.entitlements = { ...agent.entitlements, hr: ['read'] };
  return await bundleWith(demo, { data, serial });
}

describe('faults on one machine with the embedded database', () => {
  let deployment: Deployment;
  const [allowed, denied] = REQUESTS;
  beforeAll(async () => {
    deployment = await startEmbedded();
    await deployment.stop();
    writeFileSync(bundleFileOf(deployment), readFileSync(DEMO_BUNDLE));
    deployment.configure({ pdp: { bundles: [bundleFileOf(deployment)] } });
    await deployment.start();
  }, 2 * minutes);
  afterAll(async () => {
    await deployment.close();
  }, minutes);

  it(
    'continues the same ledger after a clean stop, and loses nothing of load that SIGTERM interrupts',
    async () => {
      const load = startLoad(deployment);
      await load.untilAnswered(200);
      const ended = await deployment.pdp.stop();
      expect(ended).toEqual({ code: 0, signal: null });
      await deployment.audit.stop();
      await deployment.start();
      await load.untilAnswered(100);
      await expectLedgerHolds(deployment, await load.stop());
    },
    minutes,
  );

  it(
    'goes on with the old bundle when a new one is bad, and says so',
    async () => {
      const gateway = deployment.gateway('acme');
      const before = digestOf((await gateway.post('/decide', allowed)).body);
      const whole = readFileSync(DEMO_BUNDLE);
      await replaceFile(bundleFileOf(deployment), whole.subarray(0, whole.length / 2));
      const failedSets = async (): Promise<unknown> => {
        const health = await healthOf(deployment.pdp.url, 'ready');
        if (health?.status !== 200) throw new Error('not ready');
        return (health.body as { checks: { bundle: { facts: { failed?: number } } } }).checks.bundle.facts.failed;
      };
      await until('readiness counts the bad bundle', async () => ((await failedSets()) === 1 ? true : undefined));
      const after = await gateway.post('/decide', allowed);
      expect(after.body).toMatchObject({ decision: 'allow' });
      expect(digestOf(after.body)).toBe(before);
      await replaceFile(bundleFileOf(deployment), whole);
      await until('readiness is clean again', async () => ((await failedSets()) === undefined ? true : undefined));
    },
    minutes,
  );

  it(
    'swaps bundles under load without a lost or a mixed request',
    async () => {
      const demo = await readDemoBundle();
      const gateway = deployment.gateway('acme', 8);
      const seen = new Map<string, Set<string>>();
      let asking = true;
      let others = 0;
      const work = async (): Promise<void> => {
        while (asking) {
          const { status, body } = await gateway.post('/decide', denied);
          if (status !== 200 || !isObject(body)) others += 1;
          else seen.set(digestOf(body), (seen.get(digestOf(body)) ?? new Set()).add(String(body['decision'])));
        }
      };
      const workers = Promise.all(Array.from({ length: 8 }, () => work()));
      const first = digestOf((await gateway.post('/decide', denied)).body);
      for (let swap = 1; swap <= 4; swap += 1) {
        const serial = demo.serial + swap;
        const archive = swap % 2 === 1 ? await otherBundle(serial) : await bundleWith(demo, { serial });
        const swappedFrom = digestOf((await gateway.post('/decide', denied)).body);
        await replaceFile(bundleFileOf(deployment), archive);
        await until(`swap ${swap}`, async () =>
          digestOf((await gateway.post('/decide', denied)).body) === swappedFrom ? undefined : true,
        );
      }
      asking = false;
      await workers;
      expect(others).toBe(0);
      // Five bundles, each with one and the same decision for this request, in turns.
      expect([...seen].map(([, decisions]) => [...decisions])).toEqual([
        ['deny'],
        ['allow'],
        ['deny'],
        ['allow'],
        ['deny'],
      ]);
      expect(seen.has(first)).toBe(true);
    },
    minutes,
  );

  it(
    'answers good requests while a hundred connections stay half open',
    async () => {
      const { hostname, port } = new URL(deployment.pdp.url);
      const sockets: Socket[] = [];
      try {
        await Promise.all(
          Array.from(
            { length: 100 },
            () =>
              new Promise<void>((resolve, reject) => {
                const socket = connect(Number(port), hostname, () => {
                  socket.write('POST /decide HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n', () =>
                    resolve(),
                  );
                });
                socket.on('error', reject);
                sockets.push(socket);
              }),
          ),
        );
        const answer = await deployment.gateway('acme').post('/decide', allowed);
        expect(answer.status).toBe(200);
        expect(answer.body).toMatchObject({ decision: 'allow' });
      } finally {
        for (const socket of sockets) socket.on('error', () => undefined).destroy();
      }
    },
    minutes,
  );

  it(
    'verifies whole at the end',
    async () => {
      for (const tenant of ['edict', ...deployment.tenants]) await expectVerified(deployment, tenant);
    },
    minutes,
  );
});
