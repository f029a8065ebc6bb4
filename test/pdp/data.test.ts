import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { makeBundle } from './policy/make-bundles.ts';
import { createPushing, type Pushing } from './pushing.ts';

/** Allows who stands in the pushed data, and says which bundle speaks. */
const regoOf = (code: string): string => `package edict

# METADATA
# entrypoint: true
decide := {"version": 1, "allow": allow, "reasons": [{"code": "${code}"}], "obligations": [], "advice": [], "legs": {"subject": allow}}

default allow := false

allow if data.users[input.subject.id].grade >= data.mesh.least
`;

describe('pushed data, with a whole decision point', () => {
  let pushing: Pushing;
  let start: Pushing['start'];
  let send: Pushing['send'];
  let decide: Pushing['decide'];
  let bundles: { readonly first: Uint8Array; readonly second: Uint8Array; readonly greedy: Uint8Array };
  beforeAll(async () => {
    bundles = {
      first: await makeBundle({ rego: regoOf('first'), data: { mesh: { least: 2 } } }),
      second: await makeBundle({ rego: regoOf('second'), data: { mesh: { least: 3 } }, serial: 2 }),
      greedy: await makeBundle({ rego: regoOf('greedy'), data: { mesh: { least: 3 }, users: {} }, serial: 3 }),
    };
  });
  beforeEach(() => {
    pushing = createPushing();
    ({ start, send, decide } = pushing);
  });
  afterEach(() => pushing.remove());

  it('decides with what was pushed as soon as the push is answered, and says with which', async () => {
    writeFileSync(pushing.bundleFile, bundles.first);
    const url = await start();
    expect((await decide(url, 'bob')).body).toMatchObject({ allow: false });
    expect((await decide(url, 'bob')).body.policy).not.toHaveProperty('data');
    const pushed = await send(url, 'PUT', '/v1/data/users/bob', { grade: 2 });
    expect(pushed).toMatchObject({ status: 200, body: { data: { revision: 0 } } });
    const allowed = await decide(url, 'bob');
    expect(allowed.body).toMatchObject({ allow: true, policy: { data: pushed.body.data } });
    const patch = [
      { op: 'test', path: '/bob/grade', value: 2 },
      { op: 'replace', path: '/bob/grade', value: 1 },
      { op: 'add', path: '/carol', value: { grade: 5 } },
    ];
    const type = 'application/json-patch+json';
    expect(await send(url, 'PATCH', '/v1/data/users', patch, { type })).toMatchObject({
      body: { data: { revision: 1 } },
    });
    expect((await decide(url, 'bob')).body).toMatchObject({ allow: false, policy: { data: { revision: 1 } } });
    expect((await decide(url, 'carol')).body.allow).toBe(true);
    expect(await send(url, 'PATCH', '/v1/data/users', patch, { type })).toMatchObject({ status: 409 });
    expect(await send(url, 'DELETE', '/v1/data/users/carol', undefined)).toMatchObject({
      body: { data: { revision: 2 } },
    });
    expect((await decide(url, 'carol')).body.allow).toBe(false);
    expect(await send(url, 'GET', '/v1/data/users', undefined)).toMatchObject({
      status: 200,
      body: { data: { revision: 2 }, result: { bob: { grade: 1 } } },
    });
    // Another tenant sees nothing of it.
    const other = await decide(url, 'bob', {}, pushing.keys.other.key);
    expect(other.body.policy).not.toHaveProperty('data');
  });

  it('records each change as an activation, and the data in each decision', async () => {
    writeFileSync(pushing.bundleFile, bundles.first);
    const url = await start();
    const { data } = (await send(url, 'PUT', '/v1/data/users/bob', { grade: 2 })).body;
    await decide(url, 'bob');
    await pushing.stop();
    const policies = pushing
      .events()
      .filter(({ data: { tenant } }) => tenant === 'acme')
      .map(({ type, data: { policy } }) => [type, policy?.data]);
    expect(policies).toContainEqual(['edict.activation.v1', undefined]);
    expect(policies).toContainEqual(['edict.activation.v1', data]);
    expect(policies).toContainEqual(['edict.decision.v1', data]);
  });

  it('waits for the revision that a request asks for, and denies when it does not come', async () => {
    writeFileSync(pushing.bundleFile, bundles.first);
    const url = await start();
    await send(url, 'PUT', '/v1/data/users/bob', { grade: 2 });
    const waiting = decide(url, 'bob', { at_least: { data_revision: 1 } });
    await sleep(50);
    await send(url, 'PUT', '/v1/data/users/bob/grade', 7);
    expect((await waiting).body).toMatchObject({ allow: true, policy: { data: { revision: 1 } } });
    const late = await decide(url, 'bob', { at_least: { data_revision: 2 } });
    expect(late).toMatchObject({ status: 200, body: { allow: false, reasons: [{ code: 'policy_stale' }] } });
    const item = { subject: { type: 'user', id: 'bob' }, action: { name: 'read' }, resource: { type: 'x', id: 'y' } };
    const requests = [item, { ...item, at_least: { data_revision: 3 } }, { ...item, at_least: { data_revision: 1 } }];
    const batch = await send(url, 'POST', '/decide/batch', { requests }, { key: pushing.keys.gateway.key });
    expect(batch.body.responses?.map(({ allow }) => allow)).toEqual([true, false, true]);
  });

  it('has it after a restart and beside a new bundle, and refuses a bundle that would own it', async () => {
    writeFileSync(pushing.bundleFile, bundles.first);
    await send(await start(), 'PUT', '/v1/data/users', { bob: { grade: 2 }, carol: { grade: 3 } });
    await pushing.stop();
    const url = await start();
    expect((await decide(url, 'bob')).body).toMatchObject({ allow: true, reasons: [{ code: 'first' }] });
    writeFileSync(pushing.bundleFile, bundles.second);
    while ((await decide(url, 'carol')).body.reasons?.[0]?.code !== 'second') await sleep(20);
    expect((await decide(url, 'carol')).body).toMatchObject({ allow: true, policy: { data: { revision: 0 } } });
    expect((await decide(url, 'bob')).body.allow).toBe(false);
    writeFileSync(pushing.bundleFile, bundles.greedy);
    const headers = { authorization: `Bearer ${pushing.keys.operator.key}` };
    const failed = async (): Promise<string> => (await fetch(`${url}/v1/bundles`, { headers })).text();
    while (!(await failed()).includes('where data of tenant acme was pushed')) await sleep(20);
    expect((await decide(url, 'carol')).body).toMatchObject({ allow: true, reasons: [{ code: 'second' }] });
  });

  it('shows nothing of data whose log is damaged, and says so', async () => {
    writeFileSync(pushing.bundleFile, bundles.first);
    const url = await start();
    await send(url, 'PUT', '/v1/data/users/bob', { grade: 2 });
    for (const grade of [2, 3]) await send(url, 'PUT', '/v1/data/users/carol', { grade });
    const log = join(pushing.home, 'data', 'acme', '0000000000000000.log');
    const bytes = readFileSync(log);
    const at = bytes.indexOf('carol');
    bytes[at] = 0x78;
    writeFileSync(log, bytes);
    await pushing.stop();
    const again = await start();
    const shown = await send(again, 'GET', '/v1/data/users', undefined);
    expect(shown).toMatchObject({ status: 503, body: { code: 'data_unavailable', allow: false } });
    expect(shown.body.detail).toContain('GET /v1/bundles');
    bytes[at] = 0x63;
    writeFileSync(log, bytes);
    while ((await send(again, 'GET', '/v1/data/users/carol', undefined)).status !== 200) await sleep(20);
  });

  it('refuses who may not push, what cannot be pushed, and where a bundle has its own', async () => {
    writeFileSync(pushing.bundleFile, bundles.first);
    const url = await start(', data_max: 2KiB');
    const put = (path: string, body: unknown, options = {}) => send(url, 'PUT', `/v1/data${path}`, body, options);
    expect(await put('/users/bob', {}, { key: 'edict_aaaaaaaaaaaa_' + 'x'.repeat(43) })).toMatchObject({ status: 401 });
    expect(await put('/users/bob', {}, { key: pushing.keys.gateway.key })).toMatchObject({
      status: 403,
      body: { code: 'forbidden', allow: false },
    });
    expect(await put('/mesh/least', 0)).toMatchObject({
      status: 403,
      body: { code: 'data_owned', detail: '/mesh/least belongs to a bundle, whose roots have /mesh; push beside it' },
    });
    expect(await put('', {})).toMatchObject({ status: 403, body: { code: 'data_owned' } });
    expect(await put('/users/bob', '{"a": 1, "a": 2}')).toMatchObject({
      status: 400,
      body: { errors: [{ pointer: '/a' }] },
    });
    expect(await put('/users/bob', '{"a": ')).toMatchObject({ status: 400 });
    expect(await put('/users//bob', {})).toMatchObject({ status: 400 });
    expect(await put('/users/%ff', {})).toMatchObject({ status: 400 });
    expect(await put('/users/bob', {}, { type: 'text/plain' })).toMatchObject({ status: 415 });
    expect(await put('/users/bob', {}, { type: 'application/json-patch+json' })).toMatchObject({ status: 415 });
    expect(await put('/users/bob', JSON.stringify('x'.repeat(600_000)))).toMatchObject({ status: 413 });
    expect(
      await put(
        '/users/bob',
        'x'.repeat(2_000).replace(/.*/, (text) => JSON.stringify(text)),
      ),
    ).toMatchObject({ status: 200 });
    expect(await put('/users/carol', JSON.stringify('x'.repeat(2_000)))).toMatchObject({
      status: 409,
      body: { code: 'data_conflict' },
    });
    expect(await send(url, 'DELETE', '/v1/data/users/nobody', undefined)).toMatchObject({ status: 404 });
    expect(await send(url, 'PATCH', '/v1/data/users', [{ op: 'add', path: 'x', value: 1 }])).toMatchObject({
      status: 400,
      body: { errors: [{ pointer: '/0/path' }] },
    });
    expect(await send(url, 'POST', '/v1/data/users', {})).toMatchObject({ status: 405 });
    expect(await send(url, 'GET', '/v1/database', undefined)).toMatchObject({ status: 404 });
  });

  it('denies a tenant whose data its policy has no memory for, and no other', async () => {
    writeFileSync(pushing.bundleFile, bundles.first);
    const url = await start(', data_max: 4MiB, policy_memory: 9MiB');
    const list = Array.from({ length: 60_000 }, (_, i) => i);
    const statuses: number[] = [];
    for (let i = 0; i < 8 && !statuses.includes(503); i += 1)
      statuses.push((await send(url, 'PUT', `/v1/data/users/list${i}`, list)).status);
    expect(statuses).toContain(503);
    expect(await decide(url, 'bob')).toMatchObject({ status: 503, body: { code: 'policy_unavailable' } });
    expect(await decide(url, 'bob', {}, pushing.keys.other.key)).toMatchObject({ status: 200 });
    const ready = await fetch(`${url}/health/ready`);
    expect(ready.status).toBe(200);
    expect(await ready.json()).toMatchObject({ checks: { data: { facts: { denied: 1 } } } });
    expect((await send(url, 'DELETE', '/v1/data', undefined)).status).toBe(200);
    expect(await decide(url, 'bob')).toMatchObject({ status: 200 });
  });
});
