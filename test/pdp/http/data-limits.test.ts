import { ask, startEdge, type Edge } from './edge.ts';

describe('the bounds of /v1/data', () => {
  let edge: Edge;
  afterEach(() => edge.close());

  const put = (caller: number) =>
    ask(edge, '1', {
      path: '/v1/data/a',
      method: 'PUT',
      headers: { authorization: `Bearer ${edge.keys[caller]}`, 'content-type': 'application/json' },
    });
  const conflict = { kind: 'conflict', pointer: '', message: 'no' } as const;
  const dataOf = () => ({ document: {}, identity: undefined });
  const isKnown = () => true;

  it.each(['GET', 'PUT', 'PATCH', 'DELETE'])('refuses a %s with a condition that it would not keep', async (method) => {
    let pushes = 0;
    const push = () => {
      pushes += 1;
      return Promise.resolve(conflict);
    };
    edge = await startEdge({ callers: [{ roles: ['data'] }], http: { data: { push, dataOf, isKnown } } });
    for (const header of ['if-match', 'if-none-match']) {
      const headers = {
        authorization: `Bearer ${edge.keys[0]}`,
        'content-type': method === 'PATCH' ? 'application/json-patch+json' : 'application/json',
        [header]: '"1"',
      };
      const body = method === 'PUT' || method === 'PATCH' ? '[]' : null;
      const answer = await fetch(`${edge.url}/v1/data/a`, { method, headers, body });
      expect(answer.status).toBe(400);
      expect(await answer.json()).toMatchObject({ code: 'precondition_unsupported' });
    }
    expect(pushes).toBe(0);
  });

  it('takes a push from its caller’s quota', async () => {
    edge = await startEdge({
      callers: [{ roles: ['data'], rate_per_s: 1 }],
      monotonicMs: () => 0,
      http: { data: { push: () => Promise.resolve(conflict), dataOf, isKnown } },
    });
    expect((await put(0)).status).toBe(409);
    expect(await put(0)).toMatchObject({ status: 429, body: { code: 'rate_limited' } });
  });

  it('has eight of a tenant at once, and takes those of others meanwhile', async () => {
    const held: (() => void)[] = [];
    edge = await startEdge({
      callers: [{ roles: ['data'] }, { roles: ['data'], tenant: 'globex' }],
      http: {
        data: {
          push: (tenant) =>
            tenant === 'globex'
              ? Promise.resolve(conflict)
              : new Promise((resolve) => held.push(() => resolve(conflict))),
          dataOf,
          isKnown,
        },
      },
    });
    const pushes = Array.from({ length: 8 }, () => put(0));
    while (held.length < 8) await new Promise((resolve) => setImmediate(resolve));
    expect(await put(0)).toMatchObject({ status: 503, body: { code: 'overloaded' } });
    expect((await put(1)).status).toBe(409);
    for (const done of held.splice(0)) done();
    expect((await Promise.all(pushes)).map(({ status }) => status)).toEqual(Array(8).fill(409));
    const after = put(0);
    while (held.length < 1) await new Promise((resolve) => setImmediate(resolve));
    for (const done of held) done();
    expect((await after).status).toBe(409);
  });
});
