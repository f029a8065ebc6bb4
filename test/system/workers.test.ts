import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import path from 'node:path';
import { bundleWith, DEMO_BUNDLE, readDemoBundle } from '../../scripts/replay/bundles.ts';
import { createJsonClient } from '../../scripts/replay/client.ts';
import type { AnsweredDecision } from '../../scripts/replay/send.ts';
import { replaceFile } from '../../services/cli/replace-file.ts';
import { newApiKey } from '../../services/shared/callers/api-keys.ts';
import { isObject } from '../../services/shared/contracts/json.ts';
import { childrenOf } from '../support/child-process.ts';
import { startEmbedded, startExternal, type Deployment } from '../support/deployment.ts';
import { healthOf } from '../support/edict-process.ts';
import { expectLedgerHolds } from './support/ledger.ts';
import { REQUESTS, startLoad } from './support/load.ts';
import { expectRowsOnce } from './support/rows.ts';
import { until } from './support/until.ts';

const minutes = 60_000;
const WORKERS = { pdp: { workers: 2 } };

const memberOf = (value: unknown, ...names: readonly string[]): unknown =>
  names.reduce<unknown>((at, name) => (isObject(at) ? at[name] : undefined), value);

/** Slot and boot of each worker, as readiness tells. */
async function slotsOf(deployment: Deployment): Promise<readonly string[]> {
  const health = await healthOf(deployment.pdp.url, 'ready');
  return [0, 1].map((index) => {
    const facts = memberOf(health?.body, 'checks', 'spool', 'facts', `worker_${index}`);
    return `${String(memberOf(facts, 'slot'))}/${String(memberOf(facts, 'boot'))}`;
  });
}

/** What the operator's own new connection is told, by one worker or the other. */
async function askAsOperator(deployment: Deployment, where: string): Promise<unknown> {
  const operator = createJsonClient(deployment.pdp.url, { apiKey: readFileSync(deployment.operatorKeyFile, 'utf8') });
  try {
    return (await operator.get(where)).body;
  } finally {
    operator.close();
  }
}

/** Decisions over new connections, until every worker gave one of them. */
async function untilBothDecide(deployment: Deployment): Promise<ReadonlyMap<string, unknown>> {
  const seen = new Map<string, unknown>();
  await until('both workers decide', async () => {
    const clients = Array.from({ length: 8 }, () => deployment.gateway('acme', 1));
    const answers = await Promise.all(clients.map((client) => client.post('/decide', REQUESTS[0])));
    for (const client of clients) client.close();
    for (const { body } of answers) seen.set(String(memberOf(body, 'audit', 'emitter')), body);
    return seen.size === 2 ? true : undefined;
  });
  return seen;
}

const isGone = (pid: number): boolean => !existsSync(`/proc/${pid}`);

async function untilGone(pids: readonly number[]): Promise<void> {
  await until('no worker is left', () => (pids.every(isGone) ? true : undefined), { limitMs: 10_000 });
}

const emittersIn = (answered: readonly AnsweredDecision[]): ReadonlySet<string> =>
  new Set(answered.map(({ emitter, boot }) => `${emitter}/${boot}`));

describe('two workers on one machine with the embedded database', () => {
  let deployment: Deployment;
  const bundleFile = (): string => path.join(deployment.folder, 'mesh.tar.gz');
  beforeAll(async () => {
    deployment = await startEmbedded({ services: [], settings: WORKERS });
    writeFileSync(bundleFile(), readFileSync(DEMO_BUNDLE));
    deployment.configure({ pdp: { bundles: [bundleFile()] } });
    await Promise.all([deployment.audit.start(), deployment.pdp.start()]);
  }, 2 * minutes);
  afterAll(async () => {
    await deployment.close();
  }, minutes);

  it(
    'answer both, each with an emitter and a slot of its own, and speak for each other',
    async () => {
      expect((await untilBothDecide(deployment)).size).toBe(2);
      expect((await slotsOf(deployment)).toSorted()).toEqual(['0/1', '1/1']);
      const metrics = String(await askAsOperator(deployment, '/metrics'));
      for (const worker of ['0', '1'])
        expect(metrics).toMatch(new RegExp(`edict_decisions_total\\{.*worker="${worker}"\\} [1-9]`));
      expect(metrics).toMatch(/edict_workers_running\{service="pdp"\} 2/);
      expect(await askAsOperator(deployment, '/v1/bundles')).toMatchObject({ workers: { agree: true } });
      expect((await healthOf(deployment.pdp.url, 'live'))?.status).toBe(200);
    },
    minutes,
  );

  it(
    'go on when one is killed: readiness tells, it comes back in its slot, every answered decision is in the ledger',
    async () => {
      const load = startLoad(deployment, { connections: 4, pauseMs: 5 });
      await load.untilAnswered(300);
      const [victim = 0] = childrenOf(deployment.pdp.pid());
      process.kill(victim, 'SIGKILL');
      const red = await until('readiness is red', async () => {
        const health = await healthOf(deployment.pdp.url, 'ready');
        return health?.status === 503 ? health.body : undefined;
      });
      expect(red).toMatchObject({ failing: ['workers'], allow: false });
      await load.untilAnswered(100);
      await deployment.pdp.waitUntil('ready');
      const slots = await slotsOf(deployment);
      expect(slots.some((slot) => slot.endsWith('/2'))).toBe(true);
      expect(new Set(slots.map((slot) => slot.split('/')[0]))).toEqual(new Set(['0', '1']));
      await untilBothDecide(deployment);
      await load.untilAnswered(200);
      const answered = await load.stop();
      expect(Object.keys(load.statuses()).filter((status) => status !== '200' && status !== 'none')).toEqual([]);
      expect(emittersIn(answered).size).toBeGreaterThanOrEqual(2);
      await expectLedgerHolds(deployment, answered);
    },
    2 * minutes,
  );

  it(
    'both take over a new bundle, and `GET /v1/bundles` says when they have',
    async () => {
      const demo = await readDemoBundle();
      await replaceFile(bundleFile(), await bundleWith(demo, { serial: demo.serial + 1 }));
      await until('both have the new bundle', async () => {
        const body = await askAsOperator(deployment, '/v1/bundles');
        const [set] = (memberOf(body, 'sets') ?? []) as readonly unknown[];
        const [bundle] = (memberOf(set, 'active', 'bundles') ?? []) as readonly unknown[];
        return memberOf(bundle, 'serial') === demo.serial + 1 && memberOf(body, 'workers', 'agree') === true
          ? true
          : undefined;
      });
      for (const body of (await untilBothDecide(deployment)).values())
        expect(body).toMatchObject({ policy: { bundles: [{ serial: demo.serial + 1 }] } });
    },
    minutes,
  );

  it(
    'both lose a caller that is taken out of the settings, on SIGHUP as well, and both get it back',
    async () => {
      const { callers, ...rest } = JSON.parse(readFileSync(deployment.configFile, 'utf8')) as {
        readonly callers: readonly { readonly id: string }[];
      };
      const write = (kept: readonly unknown[]): void =>
        writeFileSync(deployment.configFile, JSON.stringify({ ...rest, callers: kept }));
      const statuses = async (): Promise<readonly number[]> =>
        await Promise.all(
          Array.from({ length: 8 }, async () => {
            const gateway = deployment.gateway('acme', 1);
            const { status } = await gateway.post('/decide', REQUESTS[0]);
            gateway.close();
            return status;
          }),
        );
      const untilAll = async (wanted: number): Promise<void> => {
        for (let inARow = 0; inARow < 4;)
          inARow = await until(`all answer ${wanted}`, async () => {
            const found = await statuses();
            return found.every((status) => status === wanted) ? inARow + 1 : undefined;
          });
      };
      write(callers.filter(({ id }) => id !== 'gateway-acme'));
      deployment.pdp.signal('SIGHUP');
      await untilAll(401);
      write(callers);
      await untilAll(200);
      expect(deployment.pdp.isRunning()).toBe(true);
    },
    minutes,
  );

  it(
    'both know what was pushed to one of them',
    async () => {
      const before = readFileSync(deployment.configFile, 'utf8');
      const settings = JSON.parse(before) as { readonly callers: readonly unknown[] };
      const feed = newApiKey();
      const callers = [...settings.callers, { id: 'feed', tenant: 'acme', roles: ['data'], api_keys: [feed.stored] }];
      writeFileSync(deployment.configFile, JSON.stringify({ ...settings, callers }));
      const send = async (method: string, value?: unknown): Promise<unknown> => {
        const response = await fetch(`${deployment.pdp.url}/v1/data/pushed`, {
          method,
          // A connection of its own, so that either worker may answer.
          headers: { authorization: `Bearer ${feed.key}`, 'content-type': 'application/json', connection: 'close' },
          ...(value === undefined ? {} : { body: JSON.stringify(value) }),
        });
        return response.ok ? await response.json() : undefined;
      };
      const pushed = await until('it was pushed', async () => await send('PUT', { limit: 7 }));
      const revision = memberOf(pushed, 'data', 'revision');
      await until('both know it', async () => {
        const all = await Promise.all(Array.from({ length: 8 }, async () => await send('GET')));
        return all.every((each) => memberOf(each, 'data', 'revision') === revision) ? true : undefined;
      });
      writeFileSync(deployment.configFile, before);
    },
    minutes,
  );

  it(
    'start again with the callers of now when the file has become bad meanwhile',
    async () => {
      const good = readFileSync(deployment.configFile, 'utf8');
      writeFileSync(deployment.configFile, '{');
      const [victim = 0] = childrenOf(deployment.pdp.pid());
      process.kill(victim, 'SIGKILL');
      await untilGone([victim]);
      await deployment.pdp.waitUntil('ready');
      await untilBothDecide(deployment);
      writeFileSync(deployment.configFile, good);
    },
    minutes,
  );

  it(
    'leave no process behind a primary that is killed, and a restart continues in the same slots',
    async () => {
      const load = startLoad(deployment, { connections: 2, pauseMs: 15 });
      await load.untilAnswered(200);
      const pids = childrenOf(deployment.pdp.pid());
      expect(pids).toHaveLength(2);
      await deployment.pdp.kill9();
      await untilGone(pids);
      await deployment.pdp.start();
      const slots = await slotsOf(deployment);
      expect(new Set(slots.map((slot) => slot.split('/')[0]))).toEqual(new Set(['0', '1']));
      await load.untilAnswered(200);
      await expectLedgerHolds(deployment, await load.stop());
    },
    2 * minutes,
  );

  it(
    'finish what they accepted at SIGTERM, say so as final, and end with 0',
    async () => {
      const load = startLoad(deployment, { connections: 4 });
      await load.untilAnswered(200);
      const pids = childrenOf(deployment.pdp.pid());
      expect(await deployment.pdp.stop()).toEqual({ code: 0, signal: null });
      expect(pids.every(isGone)).toBe(true);
      const answered = await load.stop();
      expect(Object.keys(load.statuses()).filter((status) => status !== '200' && status !== 'none')).toEqual([]);
      await expectLedgerHolds(deployment, answered);
      const newest = emittersIn(answered);
      const auditor = deployment.auditor('acme');
      const { body } = await auditor.get('/v1/emitters');
      const finals = ((memberOf(body, 'emitters') ?? []) as readonly unknown[]).flatMap((each) =>
        ((memberOf(each, 'boots') ?? []) as readonly unknown[])
          .filter((boot) => memberOf(boot, 'state') === 'final')
          .map((boot) => `${String(memberOf(each, 'emitter'))}/${String(memberOf(boot, 'boot'))}`),
      );
      expect(finals).toEqual(expect.arrayContaining([...newest]));
    },
    2 * minutes,
  );

  it(
    'do not start over and over when they cannot start: one clear error, and the end',
    async () => {
      const taken = createServer();
      await new Promise<void>((resolve) => taken.listen(Number(new URL(deployment.pdp.url).port), resolve));
      try {
        const { code, stderr, stdout } = await deployment.run('serve', 'pdp');
        expect(code).toBe(2);
        expect(stderr.match(/settings_invalid: cannot listen on/g)).toHaveLength(1);
        expect(stdout).not.toContain('started again');
      } finally {
        await new Promise((resolve) => taken.close(resolve));
      }
    },
    minutes,
  );
});

describe('two workers with a broker and a database server', () => {
  it(
    'relay each slot once, also that of a worker that is killed',
    async () => {
      const deployment = await startExternal({ settings: WORKERS });
      try {
        const load = startLoad(deployment, { connections: 2, pauseMs: 15 });
        await load.untilAnswered(300);
        for (const victim of childrenOf(deployment.pdp.pid())) {
          process.kill(victim, 'SIGKILL');
          await load.untilAnswered(100);
          await deployment.pdp.waitUntil('ready');
        }
        await load.untilAnswered(100);
        await expectLedgerHolds(deployment, await load.stop());
        for (const tenant of ['edict', ...deployment.tenants]) await expectRowsOnce(deployment.ledgerUrl, tenant);
      } finally {
        await deployment.close();
      }
    },
    5 * minutes,
  );
});
