import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { createDataBook } from '../../../services/pdp/core/data-book.ts';
import { applyChange, type DataChange } from '../../../services/pdp/core/pushed-data.ts';
import { startActivePolicy, type ActivePolicy } from '../../../services/pdp/policy/active-policy.ts';
import { createMemoryPool } from '../../../services/pdp/policy/engine/memory-pool.ts';
import {
  createTenantPolicies,
  type TenantPolicies,
  type TenantPoliciesOptions,
} from '../../../services/pdp/policy/tenant-policies.ts';
import { createWorkQueue, TURN_MS } from '../../../services/pdp/policy/work-queue.ts';
import { inputFor, makeBundle } from './make-bundles.ts';

const MIB = 1024 * 1024;
const NOW_MS = 1_767_225_600_000;

/** Says which serial and which push it saw; a runaway, a conflict or a large result for those who ask for it. */
const REGO = `package edict

# METADATA
# entrypoint: true
decide := {"version": 1, "allow": false, "reasons": [{"code": code}], "obligations": [], "advice": [], "legs": {}}

code := concat("_", ["s", format_int(data.mesh.serial, 10), pushed])

default pushed := "none"

pushed := format_int(data.users.n, 10) if not input.context.bad

pushed := sprintf("%d", [x]) if {
	input.context.bad == "conflict"
	some x in [1, 2]
}

pushed := "endless" if {
	input.context.bad == "endless"
	count({[a, b, c] | some a in numbers.range(1, 500); some b in numbers.range(1, 500); some c in [a, b]}) < 0
}

pushed := sprintf("%d", [count(numbers.range(1, 900000))]) if input.context.bad == "large"
`;

const bundle = (serial: number, big?: readonly unknown[]): Promise<Uint8Array> =>
  makeBundle({ rego: REGO, serial, data: { mesh: { serial, ...(big === undefined ? {} : { big }) } } });

const textOf = (bad?: string): string => {
  const input = inputFor();
  return JSON.stringify(bad === undefined ? input : { ...input, context: { bad } });
};
const INPUT = textOf();

const MAX_BYTES = 16 * MIB;

describe('engines of tenants', () => {
  let folder: string;
  let common: string;
  let own: string;
  let policy: ActivePolicy;
  let one: Uint8Array;
  let two: Uint8Array;
  let four: Uint8Array;
  let large: Uint8Array;
  let failed: string[];
  let revision: number;
  const close: (() => Promise<void>)[] = [];
  const book = () => createDataBook({ maxBytes: MAX_BYTES, setTimer: () => () => undefined });
  let data: ReturnType<typeof book>;

  beforeAll(async () => {
    const rows = Array.from({ length: 60_000 }, (_, i) => ({ i, name: `row number ${i}`, tags: ['a', 'b', 'c'] }));
    [one, two, large, four] = await Promise.all([bundle(1), bundle(2), bundle(3, rows), bundle(4)]);
  }, 60_000);
  beforeEach(async () => {
    folder = await mkdtemp(path.join(os.tmpdir(), 'edict-engines-'));
    [common, own] = [path.join(folder, 'common.tar.gz'), path.join(folder, 'own.tar.gz')];
    await writeFile(common, one);
    await writeFile(own, one);
    data = book();
    [failed, revision] = [[], 0];
  });
  afterEach(async () => {
    for (const each of close.splice(0)) await each();
    await rm(folder, { recursive: true, force: true });
  });

  const push = (tenant: string, name: string, value: unknown): number => {
    const change = { op: 'put', path: ['users', name], value } as DataChange;
    const { data: before, recent } = data.stateOf(tenant);
    data.restore(tenant, { data: applyChange(before, change, (revision += 1), MAX_BYTES), recent });
    return revision;
  };

  /** `tenants` have a set of their own, all from one file. */
  const start = async (
    limits: Partial<TenantPoliciesOptions['limits']> = {},
    more: {
      readonly tenants?: readonly string[];
      readonly memoryMiB?: number;
      readonly waitMs?: number;
      readonly monotonicMs?: () => number;
    } = {},
  ): Promise<TenantPolicies> => {
    const { tenants = [], memoryMiB = 64, waitMs = 60_000, monotonicMs = () => performance.now() } = more;
    const policies = createTenantPolicies({
      snapshotOf: (tenant) => policy.current(tenant),
      dataOf: data.of,
      limits: { maxEngines: 16, maxBytes: 1_024 * MIB, ...limits },
      waitMs,
      monotonicMs,
      inTurns: createWorkQueue(monotonicMs),
      onFailed: (tenant, reason) => failed.push(`${tenant}: ${reason}`),
    });
    policy = await startActivePolicy({
      bundles: [{ path: common }],
      tenants: Object.fromEntries(tenants.map((tenant) => [tenant, [{ path: own }]])),
      pollMs: 3_600_000,
      nowMs: () => 1_000,
      loading: { limits: { memoryMaxBytes: memoryMiB * MIB, fuel: 100_000, pool: createMemoryPool() } },
      onActivated: ({ snapshot, previous }) => policies.activated(snapshot, previous),
    });
    close.push(policy.close);
    return policies;
  };

  const decide = (policies: TenantPolicies, tenant: string, input = INPUT): string => {
    const result = policies.current(tenant)?.evaluate(input, NOW_MS);
    if (result === undefined) return policies.whyNot(tenant);
    return result.outcome === 'answer' ? `${result.value.reasons[0]?.code}` : result.code;
  };
  /** As a request does it. */
  const ask = async (policies: TenantPolicies, tenant: string, input = INPUT): Promise<string> => {
    if (policies.current(tenant) === undefined) await policies.ready(tenant);
    return decide(policies, tenant, input);
  };

  it('decides for 200 tenants with 16 engines, each with its own data, in memory that stays the same', async () => {
    const policies = await start();
    const names = Array.from({ length: 200 }, (_, i) => `t${i}`);
    const expected = new Map<string, string>();
    for (const [i, name] of names.entries()) {
      // Every other tenant pushes; some so much that it is not copied but read again.
      if (i % 2 === 0) push(name, 'n', i);
      if (i % 20 === 0) push(name, 'many', Object.fromEntries(Array.from({ length: 50 }, (_, k) => [`k${k}`, [k]])));
      expected.set(name, `s_1_${i % 2 === 0 ? i : 'none'}`);
    }
    const sizes: number[] = [];
    for (let i = 0; i < 10_000; i += 1) {
      const name = names[i % names.length] ?? '';
      if (i % 997 === 0) {
        push(name, 'n', i);
        expected.set(name, `s_1_${i}`);
      }
      expect(await ask(policies, name)).toBe(expected.get(name));
      expect(policies.current(name)?.data).toEqual(data.of(name).identity);
      expect(policies.status().live).toBeLessThanOrEqual(16);
      if (i % 500 !== 499) continue;
      await nextTurn();
      const { external, arrayBuffers } = process.memoryUsage();
      sizes.push(external + arrayBuffers);
    }
    const { made, evicted, bytes } = policies.status();
    // All but what loading the set left for the first.
    expect(made).toBe(10_001);
    expect(evicted).toBe(made - 17);
    expect(bytes).toBeLessThan(16 * 12 * MIB);
    // Garbage that is not collected yet counts, so no single value is right.
    const middle = [...sizes].sort((a, b) => a - b)[sizes.length / 2] ?? 0;
    expect(Math.max(...sizes.slice(4))).toBeLessThan(middle + 128 * MIB);
    expect(failed).toEqual([]);
  }, 300_000);

  it('takes over what loading the set made, and copies nothing for the first tenant', async () => {
    const policies = await start();
    const before = policies.status();
    expect(before).toMatchObject({ live: 1, evicted: 0 });
    expect(await ask(policies, 'a')).toBe('s_1_none');
    expect(policies.status()).toMatchObject({ live: 1, bytes: before.bytes, evicted: 0 });
    expect(policy.current('a')?.unclaimed.bytes()).toBe(0);
  });

  it('keeps what one tenant does to its engine from all others', async () => {
    const policies = await start({}, { tenants: ['a'] });
    const revisionOfB = push('b', 'n', 7);
    expect([await ask(policies, 'a'), await ask(policies, 'b')]).toEqual(['s_1_none', 's_1_7']);
    const ofB = policies.current('b');
    const facts = policies.factsOf('b');
    expect(facts).toMatchObject({ state: 'live', data: { revision: revisionOfB } });
    const { made } = policies.status();
    const check = async (): Promise<void> => {
      expect(await ask(policies, 'b')).toBe('s_1_7');
      expect(policies.current('b')).toBe(ofB);
      expect(policies.factsOf('b')).toEqual(facts);
    };
    for (const [bad, code] of [
      ['endless', 'policy_fuel'],
      ['conflict', 'policy_error'],
      ['large', 'policy_memory'],
    ] as const) {
      for (let i = 0; i < 20; i += 1) {
        // Whether memory or fuel ends it depends on the module, not on the test.
        expect(['policy_fuel', code]).toContain(await ask(policies, 'a', textOf(bad)));
        await check();
      }
      expect(await ask(policies, 'a')).toBe('s_1_none');
    }
    push('a', 'n', 9);
    expect(await ask(policies, 'a')).toBe('s_1_9');
    await check();
    expect(policies.status().made).toBe(made);
    await writeFile(own, two);
    await policy.refresh();
    await check();
    expect(await ask(policies, 'a')).toBe('s_2_9');
    await check();
    await writeFile(own, 'no bundle');
    await policy.refresh();
    await policy.refresh();
    expect(await ask(policies, 'a')).toBe('s_2_9');
    await check();
    expect(failed).toEqual([]);
  });

  it('compiles a bundle once for all tenants that have it as their own, and each decides by its own data', async () => {
    const tenants = Array.from({ length: 40 }, (_, i) => `t${i}`);
    const policies = await start({ maxEngines: 4 }, { tenants });
    const left = (): number =>
      tenants.reduce((sum, tenant) => sum + (policy.current(tenant)?.unclaimed.bytes() ?? 0), 0);
    expect(left()).toBeGreaterThan(0);
    expect(await ask(policies, 't0')).toBe('s_1_none');
    // What loading left was one instance for all of them.
    expect(left()).toBe(0);
    for (const [i, tenant] of tenants.entries()) push(tenant, 'n', i);
    for (let round = 0; round < 3; round += 1)
      for (const [i, tenant] of tenants.entries()) expect(await ask(policies, tenant)).toBe(`s_1_${i}`);
    expect(policies.status().live).toBe(4);
  });

  it('lets whoever holds a policy decide with it to the end, after its engine went and after a reload', async () => {
    const policies = await start({ maxEngines: 1 });
    push('a', 'n', 1);
    const held = policies.current('a');
    expect(await ask(policies, 'b')).toBe('s_1_none');
    expect(policies.factsOf('a').state).toBe('idle');
    expect(held?.evaluate(INPUT, NOW_MS)).toMatchObject({ value: { reasons: [{ code: 's_1_1' }] } });
    await writeFile(common, two);
    await policy.refresh();
    expect(await ask(policies, 'a')).toBe('s_2_1');
    expect(held?.evaluate(INPUT, NOW_MS)).toMatchObject({ value: { reasons: [{ code: 's_1_1' }] } });
    expect(policies.status().live).toBe(1);
  });

  it('denies with a reason, and crashes nothing, where not even one engine fits', async () => {
    const policies = await start({ maxBytes: MIB });
    expect(policies.status()).toMatchObject({ live: 0, bytes: 0 });
    for (let i = 0; i < 3; i += 1) expect(await ask(policies, 'a')).toBe('engine_no_room');
    expect(failed).toHaveLength(1);
    expect(policies.failures().get('a')).toMatch(/more than pdp\.engines\.memory_max/);
    expect(policies.factsOf('a')).toMatchObject({ state: 'denied', bytes: 0 });
  });

  it('denies only the tenant whose data do not fit, until they do', async () => {
    const policies = await start({ maxBytes: 24 * MIB });
    expect(await ask(policies, 'b')).toBe('s_1_none');
    push('a', 'n', 1);
    push(
      'a',
      'list',
      Array.from({ length: 200_000 }, (_, i) => i),
    );
    expect(await ask(policies, 'a')).toBe('engine_no_room');
    expect(await ask(policies, 'b')).toBe('s_1_none');
    push('a', 'list', []);
    expect(await ask(policies, 'a')).toBe('s_1_1');
    expect(policies.failures().size).toBe(0);
  });

  describe('with large data', () => {
    it('answers others while one is made, and lets its requests wait', async () => {
      const policies = await start({}, { tenants: ['a'], memoryMiB: 512 });
      await writeFile(own, large);
      await policy.refresh();
      push('a', 'n', 5);
      expect(await ask(policies, 'a')).toBe('s_3_5');
      // It took over what loading made: after a fault it has to be copied.
      expect(await ask(policies, 'b')).toBe('s_1_none');
      expect(await ask(policies, 'a', textOf('conflict'))).toBe('policy_error');
      expect(policies.current('a')).toBeUndefined();
      expect([policies.whyNot('a'), policies.factsOf('a').state]).toEqual(['engine_busy', 'making']);
      let isDone = false;
      const waiting = Promise.all(Array.from({ length: 60 }, async () => policies.ready('a'))).then(
        () => (isDone = true),
      );
      // No others' places are taken by those who wait.
      for (let i = 0; i < 4; i += 1) void policies.ready('a');
      expect(policies.ready('a')).toBeUndefined();
      let between = 0;
      for (; !isDone; between += 1) {
        expect(await ask(policies, 'b')).toBe('s_1_none');
        await nextTurn();
      }
      await waiting;
      expect(between).toBeGreaterThan(0);
      expect(await ask(policies, 'a')).toBe('s_3_5');
    }, 60_000);

    it('makes the engine of the set that took over meanwhile', async () => {
      const policies = await start({}, { tenants: ['a'], memoryMiB: 512 });
      await writeFile(own, large);
      await policy.refresh();
      expect(await ask(policies, 'a', textOf('conflict'))).toBe('policy_error');
      expect(policies.current('a')).toBeUndefined();
      const waiting = policies.ready('a');
      await writeFile(own, four);
      await policy.refresh();
      await waiting;
      expect(await ask(policies, 'a')).toBe('s_4_none');
    }, 60_000);

    it('waits no longer than it may', async () => {
      // Each look at the clock takes a whole turn's time, so that each step has a turn of its own.
      let clockMs = 0;
      const monotonicMs = () => (clockMs += TURN_MS);
      const policies = await start({}, { tenants: ['a'], memoryMiB: 512, waitMs: 1, monotonicMs });
      await writeFile(own, large);
      await policy.refresh();
      expect(await ask(policies, 'a', textOf('conflict'))).toBe('policy_error');
      expect(policies.current('a')).toBeUndefined();
      await policies.ready('a');
      expect(decide(policies, 'a')).toBe('engine_busy');
      while (policies.current('a') === undefined) await nextTurn();
      expect(await ask(policies, 'a')).toBe('s_3_none');
    }, 60_000);

    it('reads many pushed members in turns, as it reads them at once', async () => {
      const policies = await start({}, { memoryMiB: 256 });
      push('a', 'n', 1);
      expect(await ask(policies, 'a')).toBe('s_1_1');
      push('a', 'many', Object.fromEntries(Array.from({ length: 30_000 }, (_, i) => [`user ${i}`, { grade: i % 7 }])));
      expect(policies.current('a')).toBeUndefined();
      push('a', 'n', 2);
      expect(await ask(policies, 'a')).toBe('s_1_2');
      expect(policies.current('a')?.data?.revision).toBe(3);
    });
  });
});
