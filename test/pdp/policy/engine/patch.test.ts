import fc from 'fast-check';
import { readBundle } from '../../../../services/pdp/policy/bundle-reader.ts';
import {
  createEngine,
  engineFrom,
  type Engine,
  type EngineResult,
} from '../../../../services/pdp/policy/engine/host.ts';
import type { DataPatch } from '../../../../services/pdp/policy/engine/instance.ts';
import type { LoadedModule } from '../../../../services/pdp/policy/engine/load-module.ts';
import { parseValue } from '../../../../services/pdp/policy/engine/value-text.ts';
import { makeBundle } from '../make-bundles.ts';

const MIB = 1024 * 1024;
const REGO = `package edict

# METADATA
# entrypoint: true
decide := {"p": p, "q": q, "base": data.base.k} if not input.twice

decide := x if {
	input.twice
	some x in [1, 2]
}

default p := "absent"

p := data.p

default q := "absent"

q := data.q
`;
const BASE = { base: { k: 'v'.repeat(50), big: Array.from({ length: 100 }, (_, i) => ({ i, s: `s${i}` })) } };

let wasm: Uint8Array;
beforeAll(async () => {
  ({ wasm } = await readBundle(await makeBundle({ rego: REGO, data: BASE })));
});

const engineOn = (data: object, memoryMaxBytes = 32 * MIB): Promise<Engine> =>
  createEngine({ wasm, dataJson: Buffer.from(JSON.stringify(data)), builtins: {}, memoryMaxBytes, fuel: 2_000_000 });

const ask = (engine: Engine, input = '{}'): EngineResult => {
  const entrypoint = engine.entrypoints.get('edict/decide') ?? -1;
  return engine.evaluate({ entrypoint, input, nowMs: 0, format: 'rego' });
};
const textOf = (engine: Engine, input = '{}'): string => {
  const result = ask(engine, input);
  return result.outcome === 'result' ? result.text : result.code;
};
/** Order inside an object is that of a hash table, so values are compared. */
const see = (engine: Engine) => parseValue(textOf(engine));
const fault = (engine: Engine) => expect(textOf(engine, '{"twice": true}')).toBe('policy_error');

interface Change {
  readonly path: readonly string[];
  readonly value: fc.JsonValue | undefined;
}

/** The document after a change whose path goes through objects. */
const applied = (document: Record<string, unknown>, { path, value }: Change): Record<string, unknown> => {
  const [name = '', ...rest] = path;
  const below = Object.hasOwn(document, name) ? document[name] : undefined;
  if (rest.length === 0 && value === undefined) {
    const { [name]: _gone, ...others } = document;
    return others;
  }
  if (rest.length === 0) return { ...document, [name]: value };
  if (below === undefined && value === undefined) return document;
  return { ...document, [name]: applied((below ?? {}) as Record<string, unknown>, { path: rest, value }) };
};
const goesThroughObjects = (document: unknown, path: readonly string[]): boolean => {
  const [name, ...rest] = path;
  if (document === undefined) return true;
  if (typeof document !== 'object' || document === null || Array.isArray(document)) return false;
  if (name === undefined) return true;
  const below: unknown = Object.hasOwn(document, name) ? (document as Record<string, unknown>)[name] : undefined;
  return goesThroughObjects(below, rest);
};
const patchOf = ({ path, value }: Change): DataPatch => ({
  path,
  json: value === undefined ? undefined : JSON.stringify(value),
});
const wholeOf = (document: Record<string, unknown>): readonly DataPatch[] =>
  Object.entries(document).flatMap(([name, value]) =>
    name === 'base' ? [] : [patchOf({ path: [name], value: value as fc.JsonValue })],
  );

/** The same value, its members in the opposite order. */
const backwards = (value: unknown): unknown =>
  typeof value !== 'object' || value === null || Array.isArray(value)
    ? value
    : Object.fromEntries(
        Object.entries(value)
          .reverse()
          .map(([member, below]) => [member, backwards(below)]),
      );

const name = fc.constantFrom('a', 'b', 'é"\\', '__proto__', '0');
const change: fc.Arbitrary<Change> = fc.record({
  path: fc.tuple(fc.constantFrom('p', 'q'), fc.array(name, { maxLength: 3 })).map(([first, rest]) => [first, ...rest]),
  value: fc.option(fc.jsonValue({ maxDepth: 3 }), { nil: undefined, freq: 4 }),
});

/** Changes the data, and does all the work that it makes. */
const changeNow = (engine: Engine, ...args: Parameters<Engine['changeData']>): void => {
  engine.changeData(...args);
  engine.work(() => true);
};

describe('an engine whose data is changed in place', () => {
  it('sees what an engine sees that read the changed data anew', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.tuple(change, fc.constantFrom('ask', 'fault', 'nothing')), { minLength: 1, maxLength: 90 }),
        async (steps) => {
          const engine = (await engineOn(BASE)).fork();
          let document: Record<string, unknown> = BASE;
          for (const [step, between] of steps) {
            if (!goesThroughObjects(document, step.path.slice(0, -1))) continue;
            document = applied(document, step);
            const now = document;
            changeNow(engine, [patchOf(step)], () => wholeOf(now));
            if (between === 'ask') textOf(engine);
            if (between === 'fault') fault(engine);
          }
          const fresh = await engineOn(document);
          expect(see(engine)).toEqual(see(fresh));
          fault(engine);
          expect(see(engine)).toEqual(see(fresh));
        },
      ),
      { numRuns: 30 },
    );
  });

  it.each([true, false])('takes the same fuel whatever led to its data (known layout: %s)', async (isKnown) => {
    const laidOut = (module: LoadedModule): LoadedModule => ({
      ...module,
      image: { ...module.image, isKnownLayout: isKnown },
    });
    const limits = { builtins: {}, memoryMaxBytes: 32 * MIB, fuel: 2_000_000 };
    const base = (await engineOn(BASE)).loaded;
    expect(base.image.isKnownLayout).toBe(true);
    const loaded = laidOut(base);
    await fc.assert(
      fc.asyncProperty(
        fc.array(
          fc.record({
            at: fc.constantFrom(['p'], ['p', 'é"\\'], ['q', 'a', 'b']),
            from: fc.nat(120),
            count: fc.nat(60),
            value: fc.option(fc.constantFrom<fc.JsonValue>(1, 'x', [], { k: { l: 1 } }), { nil: undefined, freq: 2 }),
            between: fc.constantFrom('ask', 'fault', 'nothing'),
          }),
          { minLength: 1, maxLength: 12 },
        ),
        async (steps) => {
          const engine = engineFrom(loaded, limits);
          let document: Record<string, unknown> = BASE;
          for (const { at, from, count, value, between } of steps) {
            const patches: DataPatch[] = [];
            for (let n = from; n < from + count; n += 1) {
              const step: Change = { path: [...at, `n${n}`], value };
              document = applied(document, step);
              patches.push(patchOf(step));
            }
            const now = document;
            changeNow(engine, patches, () => wholeOf(now));
            if (between === 'ask') textOf(engine);
            if (between === 'fault') fault(engine);
          }
          // All at once, in another order than the fresh one reads it.
          const anew = engineFrom(loaded, limits);
          const whole = wholeOf(backwards(document) as Record<string, unknown>);
          changeNow(anew, whole, () => whole);
          const fresh = engineFrom(laidOut((await engineOn(document)).loaded), limits);
          const costOf = (asked: Engine) => [textOf(asked), ask(asked).fuelUsed];
          const cost = costOf(fresh);
          // The order of members, too, is that of the tables.
          expect(costOf(engine)).toEqual(cost);
          expect(costOf(anew)).toEqual(cost);
          fault(engine);
          expect(costOf(engine)).toEqual(cost);
        },
      ),
      { numRuns: 25 },
    );
  });

  it('keeps its memory and speed over thousands of changes, and its data right', async () => {
    const engine = (await engineOn(BASE, 16 * MIB)).fork();
    let document: Record<string, unknown> = BASE;
    for (let i = 0; i < 6_000; i += 1) {
      const value = i % 7 === 0 ? undefined : Array.from({ length: i % 50 }, (_, n) => `value ${i} ${'x'.repeat(n)}`);
      const step: Change = { path: ['p', `k${(i * 7_919) % 40}`, 'list'], value };
      document = applied(document, step);
      const now = document;
      changeNow(engine, [patchOf(step)], () => wholeOf(now));
      if (i % 100 === 0) fault(engine);
      else if (i % 10 === 0) textOf(engine);
    }
    expect(see(engine)).toEqual(see(await engineOn(document)));
    // One for the fork, one after each of 60 faults, and few because the data was built anew.
    expect(engine.instances()).toBeLessThan(200);
  });

  it('leaves the engine that it was forked from, and other forks, as they were', async () => {
    const engine = await engineOn({ ...BASE, p: { a: 1 } });
    const [one, two] = [engine.fork(), engine.fork()];
    changeNow(one, [{ path: ['p', 'a'], json: '2' }], () => [{ path: ['p', 'a'], json: '2' }]);
    expect(textOf(one)).toContain('"a": 2');
    expect(textOf(two)).toContain('"a": 1');
    expect(textOf(engine)).toContain('"a": 1');
  });

  it('has limits of its own where it is given some, and the same answers', async () => {
    const engine = await engineOn(BASE, 32 * MIB);
    const limits = { memoryMaxBytes: 32 * MIB, fuel: 2_000_000, resultMaxBytes: MIB };
    const outcome = (limited: Engine): string => {
      const result = ask(limited);
      return result.outcome === 'result' ? result.text : `${result.code} of ${result.fuelLimit >= 100_000}`;
    };
    const whole = outcome(engine);
    expect(outcome(engine.fork({ ...limits, fuel: 10 }))).toBe('policy_fuel of false');
    expect(outcome(engine.fork({ ...limits, resultMaxBytes: whole.length - 1 }))).toBe('policy_output_invalid of true');
    expect(outcome(engine.fork({ ...limits, resultMaxBytes: whole.length }))).toBe(whole);
    const large = JSON.stringify({ x: Array.from({ length: 400_000 }, (_, i) => i) });
    const [less, more] = [{ memoryMaxBytes: 12 * MIB }, { memoryMaxBytes: 64 * MIB }];
    const refused = ask(engine.fork({ ...limits, ...less }), large);
    expect(refused).toMatchObject({ outcome: 'fault', code: 'policy_memory' });
    // Reading up to there was work, which somebody must pay for.
    expect(refused.fuelUsed).toBe(refused.fuelLimit);
    expect(ask(engine.fork({ ...limits, ...more }), large)).toMatchObject({ outcome: 'result' });
    expect(outcome(engine)).toBe(whole);
  });

  it('refuses to be set up where it may have less than the data takes', async () => {
    const engine = await engineOn(BASE, 32 * MIB);
    const fork = engine.fork({ memoryMaxBytes: MIB, fuel: 1_000_000, resultMaxBytes: MIB });
    expect(() => fork.work(() => true)).toThrow(/an instance of policy.wasm has \d+ bytes, more than the 1048576/);
    expect(ask(fork)).toMatchObject({ outcome: 'fault' });
    expect(ask(engine)).toMatchObject({ outcome: 'result' });
  });

  it('takes the memory of a large evaluation for no part of the data', async () => {
    const engine = (await engineOn(BASE, 64 * MIB)).fork();
    const large = JSON.stringify({ x: 'x'.repeat(12 * MIB) });
    for (let i = 0; i < 12; i += 1) {
      expect(textOf(engine, large)).toContain('"base"');
      changeNow(engine, [{ path: ['p'], json: `${i}` }], () => [{ path: ['p'], json: `${i}` }]);
    }
    expect(textOf(engine)).toContain('"p": 11');
  });

  it('refuses data beyond its memory', async () => {
    const engine = (await engineOn(BASE, 16 * MIB)).fork();
    const json = JSON.stringify(Array.from({ length: 400_000 }, (_, i) => i));
    const patches = [{ path: ['p'], json }];
    expect(() => changeNow(engine, patches, () => patches)).toThrow(/cannot hold the data in 16777216 bytes/);
  });
});
