import { writeFileSync } from 'node:fs';
import { makeBundle } from './policy/make-bundles.ts';
import { createPushing, type Answer, type Pushing } from './pushing.ts';

/** Says a reason of as many letters as it is asked for, and takes as many steps. */
const REGO = `package edict

# METADATA
# entrypoint: true
decide := {"version": 1, "allow": true, "reasons": [{"code": "c", "message": text}], "obligations": [], "advice": [], "legs": {"subject": true}}

default text := ""

text := concat("", ["x" | some _ in numbers.range(1, input.context.letters)])
`;
const MIB = 1024 * 1024;

describe('limits of tenants and bundles, behind HTTP', () => {
  let pushing: Pushing;
  let start: Pushing['start'];
  beforeEach(() => {
    pushing = createPushing();
    ({ start } = pushing);
  });
  afterEach(() => pushing.remove());

  const write = async (limits?: object): Promise<void> =>
    writeFileSync(pushing.bundleFile, await makeBundle({ rego: REGO, ...(limits === undefined ? {} : { limits }) }));
  const ask = (url: string, letters: number, tenant: 'acme' | 'globex', more: object = {}): Promise<Answer> =>
    pushing.decide(
      url,
      'bob',
      { context: { letters, ...more } },
      pushing.keys[tenant === 'acme' ? 'gateway' : 'other'].key,
    );
  const codeOf = async (answer: Promise<Answer>): Promise<string> => {
    const { status, body } = await answer;
    return `${status} ${body.code ?? (body.allow === true ? 'allow' : 'deny')}`;
  };
  const limitsIn = async (url: string): Promise<Record<string, unknown>> => {
    const headers = { authorization: `Bearer ${pushing.keys.operator.key}` };
    const { engines } = (await (await fetch(`${url}/v1/bundles`, { headers })).json()) as {
      readonly engines: { readonly tenants: Readonly<Record<string, { readonly limits: unknown }>> };
    };
    return Object.fromEntries(Object.entries(engines.tenants).map(([tenant, { limits }]) => [tenant, limits]));
  };

  it('bind one tenant and not another with the same bundles, and stand in events and in GET /v1/bundles', async () => {
    await write();
    const url = await start(
      '',
      '{acme: {fuel: 30000, policy_result: 1KiB, input: {max: 1KiB, members: 20}}, globex: {}}',
    );
    for (const tenant of ['acme', 'globex'] as const) expect(await codeOf(ask(url, 10, tenant))).toBe('200 allow');
    expect(await codeOf(ask(url, 4_000, 'acme'))).toBe('500 policy_fuel');
    expect(await codeOf(ask(url, 4_000, 'globex'))).toBe('200 allow');
    expect(await codeOf(ask(url, 10, 'acme', { text: 'x'.repeat(1_024) }))).toBe('413 too_large');
    expect(await codeOf(ask(url, 10, 'globex', { text: 'x'.repeat(1_024) }))).toBe('200 allow');
    const many = { list: Object.fromEntries(Array.from({ length: 20 }, (_, i) => [`k${i}`, i])) };
    expect(await codeOf(ask(url, 10, 'acme', many))).toBe('400 request_invalid');
    expect(await codeOf(ask(url, 10, 'globex', many))).toBe('200 allow');
    const common = { input: { maxBytes: 262_144, maxDepth: 64, maxMembers: 10_000 } };
    expect(await limitsIn(url)).toEqual({
      acme: {
        input: { maxBytes: 1_024, maxDepth: 64, maxMembers: 20 },
        bundles: { test: { fuel: 30_000, memoryMaxBytes: 64 * MIB, resultMaxBytes: 1_024 } },
      },
      globex: { ...common, bundles: { test: { fuel: 1_000_000, memoryMaxBytes: 64 * MIB, resultMaxBytes: MIB } } },
      edict: { ...common, bundles: { test: { fuel: 1_000_000, memoryMaxBytes: 64 * MIB, resultMaxBytes: MIB } } },
    });
    const limits = pushing
      .events()
      .flatMap(({ data }) =>
        data.evaluation === undefined ? [] : [[data.tenant, data.evaluation.fuel_limit] as const],
      );
    // What reading the input took comes on top of the budget.
    for (const [tenant, limit] of limits) {
      expect(limit - (tenant === 'acme' ? 30_000 : 1_000_000)).toBeGreaterThan(0);
      expect(limit - (tenant === 'acme' ? 30_000 : 1_000_000)).toBeLessThan(30_000);
    }
    expect(limits.length).toBeGreaterThanOrEqual(6);
  });

  it('bind a result, which is a fault of the policy, and the next request has its answer', async () => {
    await write();
    const url = await start('', '{acme: {policy_result: 1KiB}, globex: {}}');
    expect(await codeOf(ask(url, 2_000, 'acme'))).toBe('500 policy_output_invalid');
    expect(await codeOf(ask(url, 10, 'acme'))).toBe('200 allow');
    expect(await codeOf(ask(url, 2_000, 'globex'))).toBe('200 allow');
  });

  it('are those that a bundle asks for where they are less, and never more', async () => {
    await write({ fuel: 30_000, policy_memory: '1GiB', input: { max: '1KiB' } });
    const url = await start('', '{acme: {}, globex: {fuel: 20000}}');
    expect(await codeOf(ask(url, 4_000, 'acme'))).toBe('500 policy_fuel');
    expect(await codeOf(ask(url, 10, 'acme', { text: 'x'.repeat(1_024) }))).toBe('413 too_large');
    const input = { maxBytes: 1_024, maxDepth: 64, maxMembers: 10_000 };
    expect(await limitsIn(url)).toMatchObject({
      acme: { input, bundles: { test: { fuel: 30_000, memoryMaxBytes: 64 * MIB } } },
      globex: { input, bundles: { test: { fuel: 20_000, memoryMaxBytes: 64 * MIB } } },
    });
  });

  it('with no room for the bundle’s data deny their tenant alone, and say why', async () => {
    await write();
    const url = await start('', '{acme: {policy_memory: 2MiB}, globex: {}}');
    expect(await codeOf(ask(url, 10, 'acme'))).toBe('503 policy_unavailable');
    expect(await codeOf(ask(url, 10, 'globex'))).toBe('200 allow');
    const headers = { authorization: `Bearer ${pushing.keys.operatorOfAcme.key}` };
    expect(await (await fetch(`${url}/v1/bundles`, { headers })).text()).toContain('more than the 2097152 that it may');
  });
});
