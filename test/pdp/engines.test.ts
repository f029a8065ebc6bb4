import { writeFileSync } from 'node:fs';
import { answering, makeBundle } from './policy/make-bundles.ts';
import { createPushing, type Pushing } from './pushing.ts';

const REGO = answering('fine', true);

describe('engines of tenants behind HTTP', () => {
  let pushing: Pushing;
  let start: Pushing['start'];
  let bundle: Uint8Array;
  beforeAll(async () => {
    bundle = await makeBundle({ rego: REGO, roots: ['edict'] });
  }, 60_000);
  beforeEach(() => {
    pushing = createPushing();
    ({ start } = pushing);
    writeFileSync(pushing.bundleFile, bundle);
  });
  afterEach(() => pushing.remove());

  const get = async (url: string, path: string): Promise<string> =>
    (await fetch(`${url}${path}`, { headers: { authorization: `Bearer ${pushing.keys.operator.key}` } })).text();
  const enginesOf = async (url: string): Promise<unknown> =>
    (JSON.parse(await get(url, '/v1/bundles')) as { readonly engines: unknown }).engines;

  it('has one at most for all tenants when it may have one, and each gets the answer that is its own', async () => {
    const url = await start(', engines: {max: 1}');
    const { other } = pushing.keys;
    expect(await pushing.send(url, 'PUT', '/v1/data/users/bob', true)).toMatchObject({ status: 200 });
    for (let round = 0; round < 3; round += 1) {
      const acme = await pushing.decide(url, 'bob');
      expect(acme).toMatchObject({ status: 200, body: { allow: true, policy: { data: { revision: 0 } } } });
      const globex = await pushing.decide(url, 'bob', {}, other.key);
      expect(globex).toMatchObject({ status: 200, body: { allow: true } });
      expect(globex.body.policy?.data).toBeUndefined();
      expect(await enginesOf(url)).toMatchObject({
        live: 1,
        tenants: { acme: { state: 'idle', bytes: 0, data: { revision: 0 } }, globex: { state: 'live' } },
      });
    }
    const metrics = await get(url, '/metrics');
    expect(metrics).toMatch(/^edict_engines_live\{.*\} 1$/m);
    expect(Number(/^edict_engines_bytes\{.*\} (\d+)$/m.exec(metrics)?.[1])).toBeGreaterThan(1_000_000);
    expect(Number(/^edict_engines_evicted\{.*\} (\d+)$/m.exec(metrics)?.[1])).toBeGreaterThanOrEqual(5);
  });

  it('refuses with a code of its own where no engine fits, and takes pushes no worse than before', async () => {
    const url = await start(', engines: {memory_max: 1MiB}');
    for (let i = 0; i < 3; i += 1)
      expect(await pushing.decide(url, 'bob')).toMatchObject({
        status: 503,
        body: { code: 'engine_no_room', allow: false },
      });
    const batch = { requests: [{}] };
    const whole = await pushing.send(url, 'POST', '/decide/batch', batch, { key: pushing.keys.gateway.key });
    expect(whole).toMatchObject({ status: 503, body: { code: 'engine_no_room', allow: false } });
    expect(await pushing.send(url, 'PUT', '/v1/data/users/bob', true)).toMatchObject({
      status: 503,
      body: { code: 'engine_no_room' },
    });
    expect(await enginesOf(url)).toMatchObject({ live: 0, tenants: { acme: { state: 'denied' } } });
    expect(JSON.parse(await get(url, '/health/ready'))).toMatchObject({ checks: { data: { facts: { denied: 1 } } } });
    expect(await get(url, '/v1/bundles')).toContain('pdp.engines.memory_max');
  });

  it('shows an operator of a tenant the engine of that tenant only', async () => {
    const url = await start();
    await pushing.decide(url, 'bob');
    const { operatorOfAcme } = pushing.keys;
    const response = await fetch(`${url}/v1/bundles`, { headers: { authorization: `Bearer ${operatorOfAcme.key}` } });
    expect(await response.json()).toMatchObject({ engines: { tenants: { acme: { state: 'live' } } } });
    expect(Object.keys(((await enginesOf(url)) as { tenants: object }).tenants)).toEqual(['acme', 'globex', 'edict']);
  });

  it('makes no engine at its start for a tenant with pushed data, and the right one when it is asked', async () => {
    const url = await start();
    expect(await enginesOf(url)).toMatchObject({ live: 1, tenants: { acme: { state: 'idle' } } });
    await pushing.stop();
    await pushing.send(await start(), 'PUT', '/v1/data/users/bob', true);
    await pushing.stop();
    const again = await start();
    expect(await enginesOf(again)).toMatchObject({ tenants: { acme: { state: 'idle', data: { revision: 0 } } } });
    expect((await pushing.decide(again, 'bob')).body).toMatchObject({ allow: true, policy: { data: { revision: 0 } } });
  }, 120_000);
});
