import type { DecidingPolicy } from '../../../services/pdp/core/decide.ts';
import { AppError } from '../../../services/shared/contracts/errors.ts';
import { ALLOW, ask, REQUEST, startEdge, type Answer, type Edge, type EdgeOptions } from './edge.ts';

let edge: Edge;
const start = async (options?: EdgeOptions): Promise<void> => {
  edge = await startEdge(options);
};
afterEach(() => edge.close());
const batch = (body: unknown, path = '/decide/batch'): Promise<Answer> => ask(edge, body, { path });
const responses = ({ body }: Answer) => body['responses'] as readonly Answer['body'][];
const BOB = { type: 'user', id: 'bob' };

describe('POST /decide/batch', () => {
  it.each(['/decide/batch', '/v1/decide/batch'])(
    'answers in order, each with its own id and event, at %s',
    async (path) => {
      await start();
      const answer = await batch({ defaults: REQUEST, requests: [{}, { subject: BOB }, {}] }, path);
      expect(answer.status).toBe(200);
      expect(answer.body).toMatchObject({ decision: 'deny', allow: false, reasons: [{ code: 'batch_item_denied' }] });
      expect(responses(answer).map(({ decision }) => decision)).toEqual(['allow', 'deny', 'allow']);
      expect(responses(answer).map((item) => item['decision_id'])).toEqual(edge.drafts.map(({ id }) => id));
      expect(responses(answer)[2]?.['audit']).toMatchObject({ sequence: '3' });
    },
  );

  it('is an allow as a whole only when every item is', async () => {
    await start();
    const { body } = await batch({ requests: [REQUEST, REQUEST] });
    expect(body).toMatchObject({ decision: 'allow', allow: true, reasons: [] });
  });

  it('replaces whole members of the defaults', async () => {
    await start();
    await batch({
      defaults: { ...REQUEST, context: { purpose: 'p', session: 's' } },
      requests: [{ context: { purpose: 'q' } }],
    });
    const { input } = JSON.parse(`{${edge.drafts[0]?.members ?? ''}}`) as { input: { context: unknown } };
    expect(input.context).toEqual({ purpose: 'q' });
  });

  it('denies a bad item in its place, without id, and counts it as a refusal', async () => {
    await start();
    const sent = JSON.stringify({ defaults: REQUEST, requests: [{}, { subject: 1 }, 'x', { tokens: {} }, {}] });
    const answer = await batch(sent);
    expect(answer.status).toBe(200);
    expect(responses(answer).map(({ decision }) => decision)).toEqual(['allow', 'deny', 'deny', 'deny', 'allow']);
    expect(responses(answer)[1]).toMatchObject({
      allow: false,
      reasons: [{ code: 'wrong_type' }],
      obligations: [],
      errors: [{ pointer: '/subject' }],
    });
    expect(responses(answer)[1]).not.toHaveProperty('decision_id');
    expect(edge.refusals.map(({ code, status }) => `${code} ${status}`)).toEqual(Array(3).fill('request_invalid 400'));
    for (const { bytes, body } of edge.refusals) {
      expect(bytes).toBe(Buffer.byteLength(sent));
      expect(String(body)).toBe(sent);
    }
    expect(edge.drafts).toHaveLength(2);
  });

  it('takes no item that its tenant might not send alone', async () => {
    await start({ http: { inputLimits: () => ({ maxBytes: 400, maxDepth: 4, maxMembers: 10 }) } });
    const of = (context: unknown) => ({ requests: [{ ...REQUEST, context }, REQUEST] });
    const first = async (context: unknown) => {
      const answer = await batch(of(context));
      expect(responses(answer)[1]).toMatchObject({ allow: true });
      return responses(answer)[0]?.errors?.map(({ code }) => code);
    };
    expect(await first({ text: 'x'.repeat(400) })).toEqual(['too_large']);
    expect(await first({ a: 1, b: 2 })).toEqual(['too_many_members']);
    const deep = await batch(of({ a: { b: { c: {} } } }));
    expect(deep).toMatchObject({ status: 400, body: { errors: [{ pointer: '/requests/0/context/a/b/c' }] } });
    const defaults = await batch({ defaults: { context: { a: { b: { c: {} } } } }, requests: [REQUEST] });
    expect(defaults).toMatchObject({ status: 400, body: { errors: [{ pointer: '/defaults', code: 'too_deep' }] } });
  });

  it('denies the items for which no fuel is left, and the next request', async () => {
    const clock = { ms: 0 };
    await start({
      settings: { tenants: { default: { fuel_per_second: 1_000 } } },
      monotonicMs: () => clock.ms,
      evaluate: () => ({ outcome: 'answer', value: ALLOW, fuelUsed: 400, fuelLimit: 1_000, drawn: undefined }),
    });
    const answer = await batch({ defaults: REQUEST, requests: [{}, {}, {}, {}, {}] });
    expect(answer.status).toBe(200);
    expect(responses(answer).map(({ decision }) => decision)).toEqual(['allow', 'allow', 'allow', 'deny', 'deny']);
    expect(responses(answer)[3]).toMatchObject({ allow: false, reasons: [{ code: 'fuel_exhausted' }] });
    expect(responses(answer)[3]).not.toHaveProperty('decision_id');
    expect(edge.refusals.map(({ code, status }) => `${code} ${status}`)).toEqual(Array(2).fill('fuel_exhausted 429'));
    expect(edge.drafts).toHaveLength(3);
    expect((await batch({ requests: [REQUEST] })).status).toBe(429);
    clock.ms = 300;
    expect((await batch({ requests: [REQUEST] })).status).toBe(200);
  });

  it('denies the rest in its place when the tenant is denied meanwhile', async () => {
    let evaluated = 0;
    const policy: DecidingPolicy = {
      evaluate: () => {
        evaluated += 1;
        return { outcome: 'answer', value: ALLOW, fuelUsed: 1, fuelLimit: 1_000, drawn: undefined };
      },
      engine: 'fake/1',
      entrypoint: 'edict/decide',
      bundles: [{ name: 'mesh', digest: `sha256:${'0'.repeat(64)}`, serial: 1 }],
      setDigest: `sha256:${'1'.repeat(64)}`,
    };
    await start({
      http: { policyFor: () => (evaluated < 2 ? policy : undefined) },
    });
    const answer = await batch({ defaults: REQUEST, requests: [{}, {}, {}, {}] });
    expect(answer.status).toBe(200);
    expect(responses(answer).map(({ decision }) => decision)).toEqual(['allow', 'allow', 'deny', 'deny']);
    expect(responses(answer)[2]).toMatchObject({ allow: false, reasons: [{ code: 'policy_unavailable' }] });
    expect(edge.refusals.map(({ code, status }) => `${code} ${status}`)).toEqual(
      Array(2).fill('policy_unavailable 503'),
    );
    expect(edge.drafts).toHaveLength(2);
  });

  it('gives the decision of a faulted item in its place', async () => {
    await start({
      evaluate: () => ({ outcome: 'fault', code: 'policy_memory', message: 'm', fuelUsed: 1, fuelLimit: 1_000 }),
    });
    const answer = await batch({ requests: [REQUEST] });
    expect(answer.status).toBe(200);
    expect(responses(answer)[0]).toMatchObject({
      decision: 'deny',
      reasons: [{ code: 'policy_memory' }],
      decision_id: edge.drafts[0]?.id,
    });
  });

  it.each<[string, unknown, readonly string[]]>([
    ['a list', [], ['']],
    ['no requests', {}, ['/requests']],
    ['an empty list', { requests: [] }, ['/requests']],
    ['1,001 requests', { requests: Array(1_001).fill(REQUEST) }, ['/requests']],
    ['unknown members', { requests: [REQUEST], default: {} }, ['/default']],
    ['unknown defaults', { requests: [REQUEST], defaults: { agnet: {} } }, ['/defaults/agnet']],
    ['defaults that are no object', { requests: [REQUEST], defaults: [] }, ['/defaults']],
    ['a member twice', '{"requests":[{"a":1,"a":2}]}', ['/requests/0/a']],
  ])('answers 400 to %s', async (_name, body, pointers) => {
    await start();
    const answer = await batch(body);
    expect(answer.status).toBe(400);
    expect(answer.body).toMatchObject({ decision: 'deny', allow: false });
    expect(answer.body.errors?.map(({ pointer }) => pointer)).toEqual(pointers);
    expect(edge.drafts).toEqual([]);
  });

  it('takes a thousand requests and lets others in between', async () => {
    let clock = 0;
    let inBatch = 0;
    const done: string[] = [];
    await start({
      monotonicMs: () => (clock += 1),
      record: (draft, sequence) => {
        if (draft.members.includes('"id":"bob"')) inBatch += 1;
        return { emitter: 'e', boot: '1', sequence: String(sequence), durable: Promise.resolve('spool') };
      },
    });
    const large = batch({
      defaults: { ...REQUEST, subject: BOB },
      requests: Array.from({ length: 1_000 }, () => ({})),
    }).then((answer) => {
      done.push('batch');
      return answer;
    });
    const small = ask(edge, REQUEST).then(() => done.push('single'));
    const answer = await large;
    await small;
    expect(responses(answer)).toHaveLength(1_000);
    expect(inBatch).toBe(1_000);
    expect(done[0]).toBe('single');
  });

  it('bounds each merged item and all of them together', async () => {
    await start();
    const context = (bytes: number) => ({ x: 'x'.repeat(bytes) });
    const items = await batch({
      defaults: { ...REQUEST, context: context(200_000) },
      requests: [{}, { resource: { type: 'dataset', id: 'x', properties: context(100_000) } }, { context: {} }],
    });
    expect(items.status).toBe(200);
    expect(responses(items).map(({ decision }) => decision)).toEqual(['allow', 'deny', 'allow']);
    expect(responses(items)[1]?.reasons).toMatchObject([{ code: 'too_large' }]);
    const together = await batch({
      defaults: { ...REQUEST, context: context(200_000) },
      requests: Array.from({ length: 100 }, () => ({})),
    });
    expect(together.status).toBe(413);
    expect(together.body).toMatchObject({ decision: 'deny', code: 'too_large' });
    const body = await batch({ requests: [{ ...REQUEST, context: context(1_048_576) }] });
    expect(body.status).toBe(413);
  });

  it('bounds the depth of what comes from the defaults, and the members of an item', async () => {
    await start();
    let deep: unknown = {};
    for (let depth = 0; depth < 64; depth += 1) deep = { d: deep };
    expect((await batch({ defaults: { context: deep }, requests: [REQUEST] })).status).toBe(400);
    const members = Object.fromEntries(Array.from({ length: 10_000 }, (_, index) => [`k${index}`, 0]));
    const answer = await batch({ requests: [REQUEST, { ...REQUEST, context: members }] });
    expect(responses(answer)[1]?.reasons).toMatchObject([{ code: 'too_many_members' }]);
  });

  it('answers 503 as a whole when one event cannot be recorded or is not durable', async () => {
    await start({
      record: (_draft, sequence) => {
        if (sequence === 3) throw new AppError('spool_full', 'no');
        return {
          emitter: 'e',
          boot: '1',
          sequence: String(sequence),
          durable: sequence === 2 ? Promise.reject(new AppError('spool_failed', 'x')) : Promise.resolve('spool'),
        };
      },
    });
    const whole = await batch({ defaults: REQUEST, requests: [{}, {}, {}, {}] });
    expect(whole.status).toBe(503);
    expect(whole.body).toMatchObject({ decision: 'deny', allow: false, code: 'spool_full' });
    expect(whole.headers.get('retry-after')).toBe('1');
    expect(whole.body).not.toHaveProperty('responses');
    await edge.close();
    await start({
      record: (_draft, sequence) => ({
        emitter: 'e',
        boot: '1',
        sequence: String(sequence),
        durable: sequence === 2 ? Promise.reject(new AppError('event_not_durable', 'x')) : Promise.resolve('spool'),
      }),
    });
    const late = await batch({ defaults: REQUEST, requests: [{}, {}, {}] });
    expect(late.status).toBe(503);
    expect(late.body.code).toBe('event_not_durable');
    expect(edge.refusals).toEqual([]);
  });
});
