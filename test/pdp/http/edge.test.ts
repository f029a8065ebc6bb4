import { setTimeout as delay } from 'node:timers/promises';
import { ask, lastAnswer, post, rawConnection, REQUEST, startEdge, type Edge, type EdgeOptions } from './edge.ts';

let edge: Edge;
const start = async (options?: EdgeOptions): Promise<void> => {
  edge = await startEdge(options);
};
afterEach(() => edge.close());
const bearer = (index = 0): Record<string, string> => ({ authorization: `Bearer ${edge.keys[index] ?? ''}` });

describe('the HTTP edge', () => {
  it.each([
    ['GET', '/', 404],
    ['POST', '/decide/', 404],
    ['POST', '/Decide', 404],
    ['POST', '/decide/../decide', 200],
    ['POST', '/v1/%64ecide', 404],
    ['GET', '/decide', 405],
    ['PUT', '/decide/batch', 405],
    ['DELETE', '/v1/decide', 405],
    ['POST', '/health/live', 405],
    ['POST', '/metrics', 405],
    ['OPTIONS', '/decide', 405],
    ['BREW', '/decide', 400],
  ])('%s %s is %i, a deny, and counted', async (method, path, status) => {
    await start();
    const client = await rawConnection(edge);
    const body = JSON.stringify(REQUEST);
    // The client library would resolve dots by itself, so this is sent as it stands.
    const target = path.replace('/decide/../decide', '/decide');
    client.write(post(body, ['Connection: close'], target).replace('POST', method));
    const answer = lastAnswer(await client.end());
    expect(answer.status).toBe(status);
    if (status === 200) return;
    expect(answer.body).toMatchObject({ decision: 'deny', allow: false, reasons: expect.any(Array) as unknown[] });
    expect(edge.refusals).toMatchObject([{ tenant: 'edict', caller: '-', status }]);
  });

  it('names the methods of a path', async () => {
    await start();
    const response = await fetch(`${edge.url}/decide`);
    expect(response.headers.get('allow')).toBe('POST');
    await response.text();
  });

  it.each([
    ['localhost', 200],
    ['LOCALHOST:7180', 200],
    ['127.0.0.1', 200],
    ['[::1]:1', 200],
    ['pdp.test', 200],
    ['evil.example', 403],
    ['localhost.evil.example', 403],
    ['127.0.0.1@evil', 403],
    ['', 403],
  ])('an open listener answers to Host %j with %i', async (host, status) => {
    await start({ http: { allowedHosts: ['pdp.test'] } });
    const client = await rawConnection(edge);
    client.write(post(JSON.stringify(REQUEST), ['Connection: close']).replace('Host: localhost', `Host: ${host}`));
    expect(lastAnswer(await client.end()).status).toBe(status);
  });

  it('refuses a request without Host on an open listener', async () => {
    await start();
    const client = await rawConnection(edge);
    client.write(post(JSON.stringify(REQUEST), ['Connection: close']).replace('Host: localhost\r\n', ''));
    const { status, body } = lastAnswer(await client.end());
    expect(status).toBe(403);
    expect(body).toMatchObject({ decision: 'deny', code: 'host_refused' });
  });

  it('answers 429 to a tenant that used its fuel, and to no other', async () => {
    const clock = { ms: 0 };
    await start({
      callers: [{ tenant: 'acme' }, { tenant: 'acme' }, { tenant: 'globex' }],
      settings: { tenants: { acme: { fuel_per_second: 1_000_000 }, globex: {} } },
      monotonicMs: () => clock.ms,
      evaluate: () => ({
        outcome: 'fault',
        code: 'policy_fuel',
        message: 'm',
        fuelUsed: 1_000_000,
        fuelLimit: 1_000_000,
      }),
    });
    const body = JSON.stringify(REQUEST);
    expect((await ask(edge, body, { headers: bearer(0) })).status).toBe(500);
    for (const caller of [0, 1]) {
      const refused = await ask(edge, body, { headers: bearer(caller) });
      expect(refused.status).toBe(429);
      expect(refused.headers.get('retry-after')).toBe('4');
      expect(refused.body).toMatchObject({
        decision: 'deny',
        allow: false,
        code: 'fuel_exhausted',
        detail: expect.stringContaining('fuel_per_second') as string,
        reasons: [{ code: 'fuel_exhausted', message: expect.stringContaining('Retry-After') as string }],
      });
      expect(refused.body).not.toHaveProperty('decision_id');
    }
    expect((await ask(edge, body, { headers: bearer(2) })).status).toBe(500);
    expect(edge.refusals.map(({ tenant, caller, code, status }) => ({ tenant, caller, code, status }))).toEqual([
      { tenant: 'acme', caller: 'gw-0', code: 'fuel_exhausted', status: 429 },
      { tenant: 'acme', caller: 'gw-1', code: 'fuel_exhausted', status: 429 },
    ]);
    expect(edge.drafts.map(({ tenant }) => tenant)).toEqual(['acme', 'globex']);
    clock.ms = 4_001;
    expect((await ask(edge, body, { headers: bearer(0) })).status).toBe(500);
  });

  it('tests in the order of the contract', async () => {
    await start({ callers: [{ roles: ['audit'] }, { rate_per_s: 1 }] });
    const bad = { path: '/decide', headers: { 'content-type': 'text/plain' } };
    const big = 'x'.repeat(300_000);
    expect((await ask(edge, big, { path: '/nothing' })).status).toBe(404);
    expect((await ask(edge, big, bad)).status).toBe(401);
    expect((await ask(edge, big, { headers: { ...bad.headers, ...bearer(0) } })).status).toBe(403);
    expect((await ask(edge, big, { headers: { ...bad.headers, ...bearer(1) } })).status).toBe(413);
    const limited = await ask(edge, big, { headers: { ...bad.headers, ...bearer(1) } });
    expect(limited.status).toBe(429);
    expect(limited.headers.get('retry-after')).toBe('1');
    expect(limited.body).toMatchObject({ decision: 'deny', allow: false, code: 'rate_limited' });
    expect(edge.refusals.map(({ caller, tenant }) => `${caller} ${tenant}`)).toEqual([
      '- edict',
      '- edict',
      'gw-0 default',
      'gw-1 default',
      'gw-1 default',
    ]);
  });

  it('tells a caller without a key how to send one', async () => {
    await start({ callers: [{}] });
    const { status, headers, body } = await ask(edge, REQUEST);
    expect(status).toBe(401);
    expect(headers.get('www-authenticate')).toBe('Bearer');
    expect(body).toMatchObject({ decision: 'deny', allow: false, code: 'unauthenticated' });
    expect((await ask(edge, REQUEST, { headers: { authorization: 'Bearer edict_x' } })).status).toBe(401);
    expect((await ask(edge, REQUEST, { headers: bearer() })).status).toBe(200);
  });

  it('takes the tenant from the key, and any Host where callers have one', async () => {
    await start({ callers: [{ tenant: 'acme' }] });
    const client = await rawConnection(edge);
    client.write(
      post(JSON.stringify(REQUEST), ['Connection: close', `Authorization: Bearer ${edge.keys[0] ?? ''}`]).replace(
        'Host: localhost',
        'Host: pdp.internal',
      ),
    );
    expect(lastAnswer(await client.end()).status).toBe(200);
    expect(edge.drafts).toMatchObject([{ tenant: 'acme' }]);
  });

  it('sheds load above max_in_flight, and lets in again afterwards', async () => {
    const releases: (() => void)[] = [];
    let appended: () => void = () => undefined;
    const isAppended = new Promise<void>((resolve) => (appended = resolve));
    await start({
      http: { maxInFlight: 1 },
      record: () => {
        appended();
        return {
          emitter: 'e',
          boot: '1',
          sequence: '1',
          durable: new Promise((resolve) => releases.push(() => resolve('spool'))),
        };
      },
    });
    const first = ask(edge, REQUEST);
    await isAppended;
    const second = await ask(edge, REQUEST);
    expect(second.status).toBe(503);
    expect(second.headers.get('retry-after')).toBe('1');
    expect(second.body).toMatchObject({ decision: 'deny', code: 'overloaded' });
    for (const release of releases) release();
    expect((await first).status).toBe(200);
    const third = ask(edge, REQUEST);
    while (releases.length < 2) await delay(1);
    for (const release of releases) release();
    expect((await third).status).toBe(200);
  });

  it('serves a good request beside a hundred half-open connections, and ends those', async () => {
    await start({ http: { headersTimeoutMs: 150 } });
    const halfOpen = await Promise.all(Array.from({ length: 100 }, () => rawConnection(edge)));
    halfOpen.forEach((client, index) => {
      if (index % 2 === 0) client.write('POST /decide HTTP/1.1\r\nHost: localhost\r\nX-Slow: ');
    });
    expect((await ask(edge, REQUEST)).status).toBe(200);
    const received = await Promise.all(halfOpen.map((client) => client.end()));
    const { status, body } = lastAnswer(received[0] ?? '');
    expect(status).toBe(408);
    expect(body).toMatchObject({ decision: 'deny', allow: false, reasons: [{ code: 'request_timeout' }] });
    expect((await ask(edge, REQUEST)).status).toBe(200);
  });

  it.each<[string, string, number]>([
    ['what is not HTTP', 'hello\r\n\r\n', 400],
    ['TLS', '\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03', 400],
    ['a head that is too large', `GET / HTTP/1.1\r\nHost: localhost\r\nX: ${'x'.repeat(20_000)}\r\n\r\n`, 431],
    ['two lengths', 'POST /decide HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx', 400],
    [
      'length and chunks',
      'POST /decide HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n',
      400,
    ],
    [
      'a bad chunk',
      'POST /decide HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n',
      400,
    ],
    ['two hosts', 'GET /health/live HTTP/1.1\r\nHost: localhost\r\nhOST: localhost\r\nConnection: close\r\n\r\n', 400],
    [
      'two hosts and an expectation',
      'POST /decide HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n',
      400,
    ],
    ['a tunnel', 'CONNECT evil.example:443 HTTP/1.1\r\nHost: evil.example\r\n\r\n', 405],
    [
      'another expectation',
      'POST /decide HTTP/1.1\r\nHost: localhost\r\nExpect: wonders\r\nContent-Length: 2\r\n\r\n',
      417,
    ],
  ])('answers %s with a whole deny', async (_name, sent, status) => {
    await start();
    const client = await rawConnection(edge);
    client.write(Buffer.from(sent, 'latin1'));
    const answer = lastAnswer(await client.end());
    expect(answer.status).toBe(status);
    expect(answer.body).toMatchObject({ decision: 'deny', allow: false, reasons: expect.any(Array) as unknown[] });
    expect(edge.refusals.some((refusal) => refusal.status === status)).toBe(true);
    expect((await ask(edge, REQUEST)).status).toBe(200);
  });

  it('asks a client of HTTP/1.1 for its body, and never one of HTTP/1.0, which knows no such answer', async () => {
    await start();
    const request = post(JSON.stringify(REQUEST), ['Expect: 100-continue', 'Connection: close']);
    for (const version of ['HTTP/1.1', 'HTTP/1.0']) {
      const client = await rawConnection(edge);
      client.write(request.replace('HTTP/1.1', version));
      const answer = await client.end();
      expect(answer.startsWith('HTTP/1.1 100 Continue')).toBe(version === 'HTTP/1.1');
      expect(lastAnswer(answer).status).toBe(200);
    }
  });

  it('answers pipelined requests in order, and garbage after them last', async () => {
    let release: () => void = () => undefined;
    const held = new Promise<void>((resolve) => (release = resolve));
    await start({
      record: (_draft, sequence) => ({
        emitter: 'e',
        boot: '1',
        sequence: String(sequence),
        durable: sequence === 1 ? held.then(() => 'spool' as const) : Promise.resolve('spool'),
      }),
    });
    const bob = JSON.stringify({ ...REQUEST, subject: { type: 'user', id: 'bob' } });
    const client = await rawConnection(edge);
    client.write(`${post(JSON.stringify(REQUEST))}${post(bob)}NOT HTTP\r\n\r\n`);
    while (edge.drafts.length < 2) await delay(1);
    release();
    const received = await client.end();
    const statuses = [...received.matchAll(/HTTP\/1\.1 (\d{3})/g)].map(([, status]) => status);
    expect(statuses.slice(0, 2)).toEqual(['200', '200']);
    expect(received.indexOf('"decision":"allow"')).toBeLessThan(received.indexOf('"decision":"deny"'));
    expect(statuses).toEqual(['200', '200', '400']);
  });

  it('keeps the connection of a small refused body, and closes that of a large one', async () => {
    await start();
    const small = await rawConnection(edge);
    small.write(post('{}', [], '/nothing'));
    await small.until((received) => received.includes('"allow":false'));
    small.write(post(JSON.stringify(REQUEST), ['Connection: close']));
    expect(lastAnswer(await small.end()).status).toBe(200);
    const large = await rawConnection(edge);
    large.write(post('x'.repeat(100_000), [], '/nothing'));
    const received = await large.end();
    expect(received).toContain('connection: close');
    expect(lastAnswer(received).status).toBe(404);
  });

  it('serves health to anybody, metrics and bundles to operators', async () => {
    await start({ callers: [{ roles: ['decide'] }, { roles: ['operate'], tenant: 'acme' }] });
    expect(await (await fetch(`${edge.url}/health/live`)).json()).toEqual({ status: 'ok' });
    expect((await fetch(`${edge.url}/health/ready`)).status).toBe(200);
    for (const path of ['/metrics', '/v1/bundles']) {
      const anonymous = await fetch(`${edge.url}${path}`);
      expect(anonymous.status).toBe(401);
      expect(await anonymous.json()).toMatchObject({ decision: 'deny' });
      expect((await fetch(`${edge.url}${path}`, { headers: bearer(0) })).status).toBe(403);
    }
    expect(await (await fetch(`${edge.url}/metrics`, { headers: bearer(1) })).text()).toContain(
      'edict_requests_in_flight',
    );
    expect(await (await fetch(`${edge.url}/v1/bundles`, { headers: bearer(1) })).json()).toEqual({
      tenant: 'acme',
      sets: [],
    });
  });

  it('shows the metrics of a tenant to its own operators and to those of the system tenant', async () => {
    const roles = ['decide', 'operate'] as const;
    await start({
      callers: ['acme', 'globex', 'edict'].map((tenant) => ({ tenant, roles: [...roles] })),
    });
    for (const index of [0, 1]) expect((await ask(edge, REQUEST, { headers: bearer(index) })).status).toBe(200);
    const tenantsSeenBy = async (index: number): Promise<readonly string[]> => {
      const text = await (await fetch(`${edge.url}/metrics`, { headers: bearer(index) })).text();
      expect(text).toContain('edict_decision_duration_seconds_count{service="test"} 2');
      return [...text.matchAll(/tenant="([^"]*)"/g)].map(([, tenant]) => tenant ?? '');
    };
    expect(await tenantsSeenBy(0)).toEqual(['acme']);
    expect(await tenantsSeenBy(1)).toEqual(['globex']);
    expect(await tenantsSeenBy(2)).toEqual(['acme', 'globex']);
  });

  it('names failing checks with 503, as a deny', async () => {
    await start({ http: { checks: { spool: () => ({ ok: false, reason: 'full' }) } } });
    const response = await fetch(`${edge.url}/health/ready`);
    expect(response.status).toBe(503);
    expect(await response.json()).toMatchObject({ failing: ['spool'], decision: 'deny', allow: false, reasons: [{}] });
  });

  it('answers a fault of a side route as a deny without its text', async () => {
    await start({
      http: {
        bundleStatus: () => {
          throw new Error('secret detail');
        },
      },
    });
    const response = await fetch(`${edge.url}/v1/bundles`);
    expect(response.status).toBe(500);
    const text = await response.text();
    expect(JSON.parse(text)).toMatchObject({ decision: 'deny', allow: false, code: 'internal' });
    expect(text).not.toContain('secret detail');
  });

  it('finishes what was accepted when it closes', async () => {
    let release: () => void = () => undefined;
    await start({
      record: () => ({
        emitter: 'e',
        boot: '1',
        sequence: '1',
        durable: new Promise((resolve) => (release = () => resolve('spool'))),
      }),
    });
    const answer = ask(edge, REQUEST);
    while (edge.drafts.length === 0) await delay(1);
    const closed = edge.close();
    release();
    expect((await answer).status).toBe(200);
    await closed;
  });
});
