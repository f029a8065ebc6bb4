import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { createDataBook } from '../../services/pdp/core/data-book.ts';
import { startFileDataStream } from '../../services/pdp/data/file-stream.ts';
import { createLogger } from '../../services/shared/runtime/logger.ts';
import { acquireLock } from '../../services/shared/spool/lock.ts';
import { makeBundle } from './policy/make-bundles.ts';
import { createPushing, type Answer, type Pushing, type RecordedEvent } from './pushing.ts';

/** Allows whom it finds in `data.users`, and says which serial and which push it saw. */
const REGO = `package edict

# METADATA
# entrypoint: true
decide := {"version": 1, "allow": allow, "reasons": [{"code": code}], "obligations": [], "advice": [], "legs": {"subject": allow}}

default allow := false

allow if data.users[input.subject.id]

default pushed := "none"

pushed := format_int(data.users.n, 10)

code := concat("_", ["s", format_int(data.mesh.serial, 10), pushed])
`;

const bundle = (serial: number, options: { readonly expiresAt?: string; readonly users?: object } = {}) =>
  makeBundle({
    rego: REGO,
    serial,
    data: { mesh: { serial }, ...(options.users === undefined ? {} : { users: options.users }) },
    ...(options.expiresAt === undefined ? {} : { expiresAt: options.expiresAt }),
  });

describe('pushed data beside sets of bundles', () => {
  let pushing: Pushing;
  let start: Pushing['start'];
  let send: Pushing['send'];
  let decide: Pushing['decide'];
  let plain: readonly Uint8Array[];
  /** Its roots have `users`. */
  let greedy: Uint8Array;
  beforeAll(async () => {
    plain = await Promise.all([1, 2, 3, 4].map((serial) => bundle(serial)));
    greedy = await bundle(5, { users: {} });
  }, 60_000);
  beforeEach(() => {
    pushing = createPushing();
    ({ start, send, decide } = pushing);
  });
  afterEach(() => pushing.remove());

  const put = (bytes: Uint8Array | undefined): void => writeFileSync(pushing.bundleFile, bytes ?? '');
  /** As an operator sees the bundles. */
  const bundles = async (url: string): Promise<string> => {
    const headers = { authorization: `Bearer ${pushing.keys.operator.key}` };
    return await (await fetch(`${url}/v1/bundles`, { headers })).text();
  };
  const readiness = async (url: string): Promise<string> => await (await fetch(`${url}/health/ready`)).text();
  const codes = ({ body }: Answer): readonly string[] | undefined => body.reasons?.map(({ code }) => code);

  it('permits nothing by an expired set, whatever is pushed', async () => {
    put(await bundle(1, { expiresAt: new Date(Date.now() + 3_000).toISOString() }));
    const url = await start();
    await send(url, 'PUT', '/v1/data/users/bob', true);
    const before = await decide(url, 'bob');
    expect(before.body.allow).toBe(true);
    while ((await decide(url, 'bob')).body.allow === true) await sleep(50);
    const pushed = await send(url, 'PUT', '/v1/data/users/carol', true);
    expect(pushed).toMatchObject({ status: 200, body: { data: { revision: 1 } } });
    const after = await decide(url, 'carol', { at_least: { data_revision: 1 } });
    expect(after).toMatchObject({ status: 200, body: { allow: false, policy: { data: pushed.body.data } } });
    expect(codes(after)).toContain('policy_stale');
  });

  it('counts data that was pushed as no confirmation of a stale set', async () => {
    put(plain[0]);
    const url = await start(', max_staleness: 1s, when_stale: deny');
    await send(url, 'PUT', '/v1/data/users/bob', true);
    expect((await decide(url, 'bob')).body.allow).toBe(true);
    rmSync(pushing.bundleFile);
    await sleep(1_300);
    await send(url, 'PUT', '/v1/data/users/carol', true);
    const late = await decide(url, 'carol');
    expect(late.body).toMatchObject({ allow: false, policy: { data: { revision: 1 } } });
    expect(codes(late)).toContain('policy_stale');
    put(plain[0]);
    while ((await decide(url, 'carol')).body.allow !== true) await sleep(50);
  });

  it('stands beside a set that was kept, and that set keeps what is its own', async () => {
    put(plain[0]);
    await send(await start(), 'PUT', '/v1/data/users/bob', true);
    await pushing.stop();
    rmSync(pushing.bundleFile);
    const url = await start();
    expect((await decide(url, 'bob')).body).toMatchObject({ allow: true, policy: { data: { revision: 0 } } });
    expect((await decide(url, 'carol')).body.allow).toBe(false);
    expect(await send(url, 'PUT', '/v1/data/users/carol', true)).toMatchObject({ status: 200 });
    expect((await decide(url, 'carol')).body).toMatchObject({ allow: true, policy: { data: { revision: 1 } } });
    expect(await send(url, 'PUT', '/v1/data/mesh/serial', 7)).toMatchObject({ status: 403 });
  });

  it('keeps a set that was kept from deciding where its roots have what was pushed', async () => {
    put(greedy);
    await start();
    await pushing.stop();
    rmSync(pushing.bundleFile);
    const stream = await startFileDataStream({
      directory: join(pushing.home, 'data'),
      book: createDataBook({ maxBytes: 10_000, setTimer: () => () => undefined }),
      nowMs: Date.now,
      logger: createLogger({ service: 'test', level: 'silent' }),
    });
    await stream.push('acme', { op: 'put', path: ['users', 'bob'], value: true });
    await stream.close();
    const url = await start();
    expect(await decide(url, 'bob')).toMatchObject({ status: 503, body: { allow: false } });
    expect(await bundles(url)).toContain('where data of tenant acme was pushed');
    const ready = await readiness(url);
    expect(ready).toContain('no bundle is active for 1 of 1 sets');
    expect(ready).not.toContain('acme');
    // What was kept decides as soon as nothing stands in its way.
    await send(url, 'DELETE', '/v1/data/users', undefined);
    while ((await decide(url, 'bob')).status !== 200) await sleep(20);
  });

  it('takes over a set that was refused for pushed data when that is deleted, and not before', async () => {
    put(plain[0]);
    const url = await start();
    await send(url, 'PUT', '/v1/data/users/bob', true);
    await send(url, 'PUT', '/v1/data/users/carol', true);
    put(greedy);
    while (!/"failed":[^}]*where data of tenant acme was pushed/.test(await bundles(url))) await sleep(20);
    expect(await readiness(url)).toContain('"failed":1');
    expect(await readiness(url)).not.toContain('acme');
    await send(url, 'DELETE', '/v1/data/users/bob', undefined);
    await sleep(300);
    expect(codes(await decide(url, 'carol'))).toEqual(['s_1_none']);
    await send(url, 'DELETE', '/v1/data/users', undefined);
    while (codes(await decide(url, 'carol'))?.[0] !== 's_5_none') await sleep(20);
    expect(await bundles(url)).not.toContain('"failed"');
  }, 20_000);

  it('lets a push that is under way be done before a set takes over that would own it', async () => {
    put(plain[0]);
    const url = await start();
    await send(url, 'PUT', '/v1/data/users/bob', true);
    const folder = join(pushing.home, 'data', 'acme');
    mkdirSync(folder, { recursive: true });
    const held = await acquireLock(folder);
    const under = send(url, 'PUT', '/v1/data/users/carol', true);
    await sleep(50);
    put(greedy);
    // Nothing new comes in where a set that is about to decide has its own.
    let refused = 0;
    for (let i = 0; i < 20 && refused === 0; i += 1) {
      const tried = send(url, 'PUT', `/v1/data/users/x${i}`, true);
      refused = (await Promise.race([tried, sleep(100)]))?.status === 403 ? 403 : 0;
      tried.catch(() => undefined);
    }
    expect(refused).toBe(403);
    expect(codes(await decide(url, 'bob'))).toEqual(['s_1_none']);
    await held?.release();
    expect(await under).toMatchObject({ status: 200, body: { data: { revision: 1 } } });
    while (!(await bundles(url)).includes('where data of tenant acme was pushed')) await sleep(20);
    expect((await decide(url, 'carol')).body).toMatchObject({ allow: true, reasons: [{ code: 's_1_none' }] });
    expect(await send(url, 'PUT', '/v1/data/users/dave', true)).toMatchObject({ status: 200 });
  }, 20_000);

  it('loses no push and names what decided, while sets take over, pushes and batches come at once', async () => {
    put(plain[0]);
    const url = await start();
    let over = false;
    const item = { subject: { type: 'user', id: 'bob' }, action: { name: 'read' }, resource: { type: 'x', id: 'y' } };
    const batch = { defaults: item, requests: Array.from({ length: 300 }, () => ({})) };
    const seen: Answer['body'][] = [];
    let answered = -1;
    const pushes = async (): Promise<void> => {
      for (let n = 0; !over; n += 1) {
        expect(await send(url, 'PUT', '/v1/data/users/n', n)).toMatchObject({
          status: 200,
          body: { data: { revision: n } },
        });
        answered = n;
      }
    };
    const decisions = async (): Promise<void> => {
      while (!over) {
        const least = answered;
        const one = await decide(url, 'bob');
        expect(one.status).toBe(200);
        expect(one.body.policy?.data?.revision ?? -1).toBeGreaterThanOrEqual(least);
        seen.push(one.body);
      }
    };
    const batches = async (): Promise<void> => {
      while (!over) {
        const { body } = await send(url, 'POST', '/decide/batch', batch, { key: pushing.keys.gateway.key });
        const serials = body.responses?.map(({ policy }) => policy?.bundles?.[0]?.serial);
        expect(new Set(serials).size).toBe(1);
        seen.push(...(body.responses ?? []));
      }
    };
    const swaps = async (): Promise<void> => {
      for (const [index, bytes] of plain.entries()) {
        put(bytes);
        const code = `s_${index + 1}_`;
        while (codes(await decide(url, 'bob'))?.[0]?.startsWith(code) !== true) await sleep(20);
        await sleep(300);
      }
      over = true;
    };
    await Promise.all([
      pushes(),
      decisions(),
      batches(),
      swaps().finally(() => {
        over = true;
      }),
    ]);
    for (const { reasons, policy } of seen)
      expect(reasons?.[0]?.code).toBe(`s_${policy?.bundles?.[0]?.serial}_${policy?.data?.revision ?? 'none'}`);
    await pushing.stop();
    const named = ({ data: { tenant, policy } }: RecordedEvent): string =>
      JSON.stringify([tenant, policy?.set, policy?.data]);
    const active = new Set<string>();
    for (const event of pushing.events())
      if (event.type === 'edict.activation.v1') active.add(named(event));
      else if (event.type === 'edict.decision.v1') expect(active).toContain(named(event));
  }, 60_000);
});
