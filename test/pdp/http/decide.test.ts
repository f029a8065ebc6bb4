import { AppError } from '../../../services/shared/contracts/errors.ts';
import {
  ALLOW,
  ask,
  DENY,
  lastAnswer,
  post,
  rawConnection,
  REQUEST,
  startEdge,
  type Edge,
  type EdgeOptions,
} from './edge.ts';

let edge: Edge;
const start = async (options?: EdgeOptions): Promise<Edge> => {
  edge = await startEdge(options);
  return edge;
};
afterEach(() => edge.close());

const expectDeny = (body: {
  readonly decision?: string;
  readonly allow?: boolean;
  readonly reasons?: unknown;
}): void => {
  expect(body).toMatchObject({ decision: 'deny', allow: false, reasons: expect.any(Array) as unknown[] });
};

describe('POST /decide', () => {
  it.each(['/decide', '/v1/decide', '/decide?pretty'])('answers an allow at %s', async (path) => {
    await start();
    const { status, headers, body } = await ask(edge, REQUEST, { path });
    expect(status).toBe(200);
    expect(headers.get('content-type')).toBe('application/json');
    expect(headers.get('cache-control')).toBe('no-store');
    expect(body).toEqual({
      decision_id: edge.drafts[0]?.id,
      decision: 'allow',
      allow: true,
      reasons: ALLOW.reasons,
      obligations: [],
      advice: [],
      policy: { bundles: [{ name: 'mesh', digest: `sha256:${'0'.repeat(64)}`, serial: 1 }] },
      audit: { durability: 'spool', emitter: 'ab'.repeat(16), boot: '7', sequence: '1' },
    });
    expect(edge.refusals).toEqual([]);
  });

  it('answers a deny with 200', async () => {
    await start();
    const { status, body } = await ask(edge, { ...REQUEST, subject: { type: 'user', id: 'bob' } });
    expect(status).toBe(200);
    expect(body).toMatchObject({ decision: 'deny', allow: false, reasons: DENY.reasons });
  });

  it('waits for the durability and tells the level that was reached', async () => {
    let reach: (level: 'broker') => void = () => undefined;
    let appended: () => void = () => undefined;
    const isAppended = new Promise<void>((resolve) => (appended = resolve));
    await start({
      record: () => {
        appended();
        return { emitter: 'e', boot: '1', sequence: '1', durable: new Promise((resolve) => (reach = resolve)) };
      },
    });
    const answer = ask(edge, REQUEST);
    await isAppended;
    reach('broker');
    expect((await answer).body['audit']).toMatchObject({ durability: 'broker' });
  });

  it('echoes and records a sane request id and a valid traceparent', async () => {
    await start();
    const traceparent = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01';
    const { headers } = await ask(edge, REQUEST, { headers: { 'x-request-id': 'req-1/ä'.slice(0, 5), traceparent } });
    expect(headers.get('x-request-id')).toBe('req-1');
    expect(JSON.parse(`{${edge.drafts[0]?.members ?? ''}}`)).toMatchObject({
      request_id: 'req-1',
      trace: { traceparent },
    });
  });

  it.each(['x'.repeat(129), 'two words', ''])('neither echoes nor records the request id %j', async (id) => {
    await start();
    const { headers } = await ask(edge, REQUEST, { headers: { 'x-request-id': id, traceparent: '00-zz' } });
    expect(headers.get('x-request-id')).toBeNull();
    expect(edge.drafts[0]?.members).not.toMatch(/request_id|"trace"/);
  });

  it.each<[string, Record<string, string>]>([
    ['no content type', { 'content-type': '' }],
    ['another type', { 'content-type': 'text/plain' }],
    ['a form', { 'content-type': 'application/x-www-form-urlencoded' }],
    ['another charset', { 'content-type': 'application/json; charset=latin1' }],
    ['an encoding', { 'content-encoding': 'gzip' }],
  ])('answers 415 to %s', async (_name, headers) => {
    await start();
    const { status, body } = await ask(edge, REQUEST, { headers });
    expect(status).toBe(415);
    expectDeny(body);
    expect(edge.refusals).toMatchObject([
      { tenant: 'default', caller: 'development', code: 'unsupported_type', status: 415 },
    ]);
  });

  it('takes application/json; charset=utf-8', async () => {
    await start();
    expect(
      (await ask(edge, REQUEST, { headers: { 'content-type': 'application/JSON; charset="UTF-8"' } })).status,
    ).toBe(200);
  });

  it.each<[string, unknown, readonly string[]]>([
    ['a body that is not JSON', '{', ['']],
    ['bytes that are not UTF-8', Buffer.from([0x7b, 0xff]), ['']],
    ['a list', [], ['']],
    ['nothing', {}, ['/subject', '/action', '/resource']],
    ['a misspelt member', { ...REQUEST, agnet: { type: 'agent', id: 'x' } }, ['/agnet']],
    ['__proto__ beside the members', JSON.stringify(REQUEST).replace('{', '{"__proto__":{"agent":1},'), ['/__proto__']],
    [
      'many mistakes at once',
      {
        subject: { type: 1, id: '', x: 1 },
        agent: { type: 'a', chain: [{}] },
        action: { name: null },
        resource: null,
        context: { session_tokens: ['s'] },
        tokens: { subject_token: 1 },
        at_least: { data_revision: -1 },
      },
      [
        '/subject/x',
        '/subject/type',
        '/subject/id',
        '/agent/id',
        '/agent/chain/0/type',
        '/agent/chain/0/id',
        '/action/name',
        '/resource',
        '/tokens/subject_token',
        '/at_least/data_revision',
        '/tokens',
        '/context/session_tokens',
      ],
    ],
    ['tokens', { ...REQUEST, tokens: {} }, ['/tokens']],
    ['session tokens', { ...REQUEST, context: { session_tokens: ['x'] } }, ['/context/session_tokens']],
    ['a member twice', '{"subject":{"type":"user","type":"admin"}}', ['/subject/type']],
    ['a number beyond a double', '{"subject":1e400}', ['/subject']],
  ])('answers 400 to %s, naming everything', async (_name, body, pointers) => {
    await start();
    const answer = await ask(edge, body);
    expect(answer.status).toBe(400);
    expect(answer.headers.get('content-type')).toBe('application/problem+json');
    expectDeny(answer.body);
    expect(answer.body).not.toHaveProperty('decision_id');
    expect(new Set(answer.body.errors?.map(({ pointer }) => pointer))).toEqual(new Set(pointers));
    expect(answer.body.reasons?.length).toBe(answer.body.errors?.length);
    expect(edge.refusals).toMatchObject([{ code: 'request_invalid', status: 400, body: expect.anything() as unknown }]);
    expect(edge.drafts).toEqual([]);
  });

  it('lists at most 64 problems', async () => {
    await start();
    const { body } = await ask(edge, Object.fromEntries(Array.from({ length: 5_000 }, (_, index) => [`k${index}`, 0])));
    expect(body.errors?.length).toBe(64);
  });

  it('takes an empty list of session tokens', async () => {
    await start();
    expect((await ask(edge, { ...REQUEST, context: { session_tokens: [] } })).status).toBe(200);
  });

  it('demands an agent where the caller is set so', async () => {
    await start({ callers: [{ requires_agent: true }] });
    const headers = { authorization: `Bearer ${edge.keys[0] ?? ''}` };
    const { status, body } = await ask(edge, REQUEST, { headers });
    expect(status).toBe(400);
    expect(body.errors).toMatchObject([{ pointer: '/agent', code: 'agent_required' }]);
  });

  it('answers 413 to a body that says it is too large, without reading it', async () => {
    await start();
    const client = await rawConnection(edge);
    client.write(post('', ['Content-Length: 300000']).replace('Content-Length: 0\r\n', ''));
    const { status, body } = lastAnswer(await client.end());
    expect(status).toBe(413);
    expectDeny(body);
    expect(edge.refusals).toMatchObject([{ code: 'too_large', bytes: 300_000 }]);
  });

  it('answers 413 to a chunked body as soon as it is too large, and reads on no more than a little', async () => {
    await start();
    const client = await rawConnection(edge);
    client.write(
      'POST /decide HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n',
    );
    const chunk = `10000\r\n${' '.repeat(0x10000)}\r\n`;
    const flood = setInterval(() => client.write(chunk), 1);
    const received = await client.end();
    clearInterval(flood);
    expect(lastAnswer(received).status).toBe(413);
    expect(edge.refusals[0]?.bytes).toBeLessThan(512 * 1024);
    expect((await ask(edge, REQUEST)).status).toBe(200);
  });

  it('takes a body of exactly 256 KiB', async () => {
    await start();
    const room = 256 * 1024 - JSON.stringify({ ...REQUEST, context: { x: '' } }).length;
    expect((await ask(edge, { ...REQUEST, context: { x: 'x'.repeat(room) } })).status).toBe(200);
    expect((await ask(edge, { ...REQUEST, context: { x: 'x'.repeat(room + 1) } })).status).toBe(413);
  });

  it('takes no more of a tenant than the tenant may send', async () => {
    const inputLimits = (tenant: string) =>
      tenant === 'acme'
        ? { maxBytes: 1_024, maxDepth: 4, maxMembers: 12 }
        : { maxBytes: 256 * 1024, maxDepth: 64, maxMembers: 10_000 };
    await start({ callers: [{ tenant: 'acme' }, { tenant: 'globex' }], http: { inputLimits } });
    const as = (caller: number, body: unknown): ReturnType<typeof ask> =>
      ask(edge, body, { headers: { authorization: `Bearer ${edge.keys[caller]}` } });
    const large = { ...REQUEST, context: { text: 'x'.repeat(1_024) } };
    const deep = { ...REQUEST, context: { a: { b: { c: {} } } } };
    const many = { ...REQUEST, context: { a: 1, b: 2, c: 3, d: 4 } };
    const { status, body } = await as(0, large);
    expect({ status, detail: body['detail'] }).toEqual({ status: 413, detail: 'a body may have 1024 bytes' });
    expect((await as(0, deep)).body.errors).toMatchObject([{ pointer: '/context/a/b/c', code: 'too_deep' }]);
    expect((await as(0, many)).body.errors).toMatchObject([{ code: 'too_many_members' }]);
    for (const each of [large, deep, many]) expect((await as(1, each)).status).toBe(200);
    expect((await as(0, { ...REQUEST, context: { a: { b: {} } } })).status).toBe(200);
  });

  it('takes a chunked body', async () => {
    await start();
    const client = await rawConnection(edge);
    const text = JSON.stringify(REQUEST);
    const head =
      'POST /decide HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n';
    client.write(
      `${head}5\r\n${text.slice(0, 5)}\r\n${(text.length - 5).toString(16)}\r\n${text.slice(5)}\r\n0\r\n\r\n`,
    );
    expect(lastAnswer(await client.end()).status).toBe(200);
  });

  it('answers 408 to a slow body', async () => {
    await start({ http: { bodyTimeoutMs: 40 } });
    const client = await rawConnection(edge);
    client.write(post('', ['Content-Length: 10']).replace('Content-Length: 0\r\n', ''));
    client.write('{"a"');
    const { status, body } = lastAnswer(await client.end());
    expect(status).toBe(408);
    expectDeny(body);
    expect(edge.refusals).toMatchObject([{ code: 'body_timeout', bytes: 4 }]);
  });

  it('survives a client that goes away in the middle of its body', async () => {
    await start();
    const client = await rawConnection(edge);
    client.write(post('', ['Content-Length: 10']).replace('Content-Length: 0\r\n', ''));
    client.socket.destroy();
    expect((await ask(edge, REQUEST)).status).toBe(200);
  });

  it('asks for a body that waits for 100-continue only when it may come', async () => {
    await start();
    const text = JSON.stringify(REQUEST);
    const good = await rawConnection(edge);
    good.write(post(text, ['Expect: 100-continue', 'Connection: close']).slice(0, -text.length));
    await good.until((received) => received.includes('100 Continue'));
    good.write(text);
    expect(lastAnswer(await good.end()).status).toBe(200);
    const bad = await rawConnection(edge);
    bad.write(post('', ['Content-Length: 300000', 'Expect: 100-continue']).replace('Content-Length: 0\r\n', ''));
    const received = await bad.end();
    expect(received).not.toContain('100 Continue');
    expect(lastAnswer(received).status).toBe(413);
  });

  it('answers 500 with the decision that was recorded when the policy has a fault', async () => {
    await start({
      evaluate: () => ({ outcome: 'fault', code: 'policy_error', message: 'conflict', fuelUsed: 1, fuelLimit: 1_000 }),
    });
    const { status, headers, body } = await ask(edge, REQUEST, { headers: { 'x-request-id': 'r' } });
    expect(status).toBe(500);
    expect(headers.get('content-type')).toBe('application/problem+json');
    expect(headers.get('x-request-id')).toBe('r');
    expectDeny(body);
    expect(body).toMatchObject({
      status: 500,
      code: 'policy_error',
      decision_id: edge.drafts[0]?.id,
      audit: { sequence: '1' },
    });
    expect(edge.refusals).toEqual([]);
  });

  it('answers 503 while there is no policy', async () => {
    await start({ http: { policyFor: () => undefined } });
    const { status, headers, body } = await ask(edge, REQUEST);
    expect(status).toBe(503);
    expect(headers.get('retry-after')).toBe('1');
    expect(body).toMatchObject({
      code: 'policy_unavailable',
      reasons: [{ message: expect.stringContaining('GET /v1/bundles') as string }],
    });
    expectDeny(body);
    expect(edge.refusals).toMatchObject([{ code: 'policy_unavailable' }]);
  });

  it.each(['spool_full', 'spool_failed'] as const)(
    'answers 503 and counts a refusal when recording says %s',
    async (code) => {
      await start({
        record: () => {
          throw new AppError(code, 'no');
        },
      });
      const { status, headers, body } = await ask(edge, REQUEST);
      expect(status).toBe(503);
      expect(headers.get('retry-after')).toBe('1');
      expect(body.code).toBe(code);
      expectDeny(body);
      expect(body).not.toHaveProperty('decision_id');
      expect(edge.refusals).toMatchObject([{ code, status: 503 }]);
    },
  );

  it('answers 503 without counting a refusal when the event exists but is not durable', async () => {
    await start({
      record: () => ({
        emitter: 'e',
        boot: '1',
        sequence: '1',
        durable: Promise.reject(new AppError('event_not_durable', 'late')),
      }),
    });
    const { status, body } = await ask(edge, REQUEST);
    expect(status).toBe(503);
    expect(body.code).toBe('event_not_durable');
    expectDeny(body);
    expect(edge.drafts).toHaveLength(1);
    expect(edge.refusals).toEqual([]);
  });

  it('answers 503, not nothing, and counts a refusal when recording fails in a way that nobody foresaw', async () => {
    await start({
      record: () => {
        throw new TypeError('secret detail');
      },
    });
    const { status, body } = await ask(edge, REQUEST);
    expect(status).toBe(503);
    expect(body.code).toBe('internal');
    expect(edge.refusals).toMatchObject([{ code: 'internal', status: 503 }]);
    expectDeny(body);
    expect(JSON.stringify(body)).not.toContain('secret detail');
  });

  it('answers 500 and counts no refusal when answering fails after the event was written', async () => {
    await start({
      record: (_draft, sequence) => ({
        get emitter(): string {
          throw new TypeError('secret detail');
        },
        boot: '1',
        sequence: String(sequence),
        durable: Promise.resolve('spool'),
      }),
    });
    const { status, body } = await ask(edge, REQUEST);
    expect(status).toBe(500);
    expectDeny(body);
    expect(edge.drafts).toHaveLength(1);
    expect(edge.refusals).toEqual([]);
  });

  it('answers 503 and counts a refusal when a fault of ours comes before the policy', async () => {
    await start({
      http: {
        policyFor: () => {
          throw new TypeError('secret detail');
        },
      },
    });
    expect((await ask(edge, REQUEST)).status).toBe(503);
    expect(edge.refusals).toMatchObject([{ code: 'internal', status: 503 }]);
  });

  it('counts decisions, faults and refusals', async () => {
    await start();
    await ask(edge, REQUEST);
    await ask(edge, '{');
    const metrics = await edge.registry.metrics();
    expect(metrics).toContain('edict_decisions_total{tenant="default",decision="allow",service="test"} 1');
    expect(metrics).toContain('edict_refusals_total{code="request_invalid",status="400",service="test"} 1');
    expect(metrics).toContain('edict_decision_duration_seconds_count{service="test"} 1');
    expect(metrics).toContain('edict_requests_in_flight{service="test"} 0');
  });
});
