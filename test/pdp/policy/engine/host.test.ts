import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { packageFolder } from '../../../../services/cli/opa-binary.ts';
import { readBundle } from '../../../../services/pdp/policy/bundle-reader.ts';
import { BuiltinError, BuiltinHalt, type Builtins } from '../../../../services/pdp/policy/engine/builtin.ts';
import { createEngine, type Engine, type EngineResult } from '../../../../services/pdp/policy/engine/host.ts';
import { RegoSet } from '../../../../services/pdp/policy/engine/value.ts';
import { makeBundle } from '../make-bundles.ts';

const rule = (body: string): string => `package edict\n\n# METADATA\n# entrypoint: true\n${body}\n`;

const engineOf = async (rego: string, builtins: Builtins = {}, data: object = {}): Promise<Engine> => {
  const { wasm, dataJson } = await readBundle(await makeBundle({ rego: rule(rego), data }));
  return createEngine({ wasm, dataJson, builtins, memoryMaxBytes: 64 * 1024 * 1024, fuel: 500_000 });
};
const ask = (engine: Engine, input: string | undefined, format: 'json' | 'rego' = 'json'): EngineResult => {
  const entrypoint = engine.entrypoints.get('edict/decide') ?? -1;
  return engine.evaluate({ entrypoint, input, nowMs: 1_767_225_600_123, format });
};
const textOf = (result: EngineResult): string => (result.outcome === 'result' ? result.text : result.code);

describe('an engine', () => {
  it('tells an absent input from a null, and a set from an array', async () => {
    const engine = await engineOf('decide := {"is": input, "set": {2, 1}, "array": [1]}');
    expect(textOf(ask(engine, undefined))).toBe('[]');
    expect(textOf(ask(engine, 'null', 'rego'))).toMatch(/^\{\{"result": ?\{/);
    expect(textOf(ask(engine, 'null', 'rego'))).toContain('"is": null');
    expect(textOf(ask(engine, '{3}', 'rego'))).toContain('{3}');
    expect(textOf(ask(engine, 'false'))).toContain('"is":false');
  });

  it('takes texts beyond ASCII and inputs beyond the memory that is there', async () => {
    const engine = await engineOf('decide := input.short');
    expect(textOf(ask(engine, JSON.stringify({ short: 'é😀x' })))).toBe('[{"result":"é😀x"}]');
    const long = { short: 1, long: '€'.repeat(4_000_000) };
    const { entrypoints, evaluate } = engine;
    const entrypoint = entrypoints.get('edict/decide') ?? -1;
    const small = ask(engine, '{"short": 2}');
    expect(textOf(evaluate({ entrypoint, input: JSON.stringify(long), nowMs: 0 }))).toBe('[{"result":1}]');
    expect(ask(engine, '{"short": 2}')).toEqual(small);
  });

  it('gives a built-in its arguments as values, and its value back to the policy', async () => {
    const seen: unknown[] = [];
    const engine = await engineOf('decide := {"s": sprintf(input.f, input.a), "u": yaml.unmarshal("x")}', {
      sprintf: ({ nowNs }, format, args) => {
        seen.push(nowNs, format, args);
        return 'grüß "dich"';
      },
      'yaml.unmarshal': () => RegoSet.of([2, 1]),
    });
    expect(textOf(ask(engine, '{"f": "%v é", "a": [{1}, 9007199254740993, "x"]}', 'rego'))).toMatch(
      /"s": ?"grüß \\"dich\\""/,
    );
    expect(seen.slice(0, 2)).toEqual([1_767_225_600_123_000_000n, '%v é']);
    expect(seen[2]).toMatchObject([{ items: [1] }, { text: '9007199254740993' }, 'x']);
  });

  it('sees undefined where a built-in has no value, and a fault where it halts or breaks', async () => {
    const failures: Record<string, () => never> = {
      error: () => {
        throw new BuiltinError('wrong type');
      },
      halt: () => {
        throw new BuiltinHalt('too large');
      },
      bug: () => {
        throw new TypeError('boom');
      },
    };
    const engine = await engineOf('decide := sprintf(input, [])', {
      sprintf: (_context, name) => failures[typeof name === 'string' ? name : '']?.() ?? 'fine',
    });
    expect(textOf(ask(engine, '"error"'))).toBe('[]');
    expect(ask(engine, '"halt"')).toMatchObject({ code: 'policy_error', message: 'a built-in: too large' });
    expect(ask(engine, '"bug"')).toMatchObject({ outcome: 'fault', code: 'policy_error' });
    expect(textOf(ask(engine, '"x"'))).toBe('[{"result":"fine"}]');
  });

  it('draws once for the same arguments in one evaluation, and says what was drawn', async () => {
    let next = 0;
    const engine = await engineOf('decide := [rand.intn("a", 9), rand.intn(lower("A"), 9), rand.intn("b", 9)]', {
      'rand.intn': () => (next += 1),
    });
    expect(ask(engine, '1')).toMatchObject({
      text: '[{"result":[1,1,2]}]',
      drawn: { 'rand.intn': { '["a",9]': '1', '["b",9]': '2' } },
    });
    expect(textOf(ask(engine, '1'))).toBe('[{"result":[3,3,4]}]');
  });

  it('names the file and row of a conflict', async () => {
    const engine = await engineOf('decide := 1 if input.x\n\ndecide := 2 if input.y');
    expect(textOf(ask(engine, '{"x": 1}'))).toBe('[{"result":1}]');
    expect(ask(engine, '{"x": 1, "y": 1}')).toMatchObject({
      outcome: 'fault',
      code: 'policy_error',
      at: { file: expect.stringContaining('edict.rego') as string, row: expect.any(Number) as number },
    });
  });

  it('has the same data after every kind of fault', async () => {
    const data = { table: Object.fromEntries(Array.from({ length: 300 }, (_, i) => [`k${i}`, [i, `v${i}`]])) };
    const engine = await engineOf(
      'decide := data.table[input.k] if not input.twice\n\ndecide := x if {\n\tinput.twice\n\tsome x in [1, 2]\n}',
      {},
      data,
    );
    for (let i = 0; i < 300; i += 1) {
      expect(textOf(ask(engine, '{"twice": true}'))).toBe('policy_error');
      expect(textOf(ask(engine, `{"k": "k${i}"}`))).toBe(`[{"result":[${i},"v${i}"]}]`);
    }
    expect(engine.instances()).toBe(301);
  });

  it('refuses a module whose built-ins nobody supplies, with their names', async () => {
    await expect(engineOf('decide := [sprintf("%v", [1]), yaml.marshal(1)]')).rejects.toThrow(
      'policy.wasm needs built-ins that are not supplied: sprintf, yaml.marshal',
    );
  });

  it('bounds what crafted keys can cost', async () => {
    const { wasm, dataJson } = await readBundle(await readFile(path.join(packageFolder(), 'bundles', 'mesh.tar.gz')));
    const engine = await createEngine({
      wasm,
      dataJson,
      builtins: {},
      memoryMaxBytes: 64 * 1024 * 1024,
      fuel: 500_000,
    });
    // Keys that all fall into one bucket of 1,024 (FNV-1a, 32 bits): each insertion walks over all before it.
    const hash = (text: string): number => {
      let value = 0x811c9dc5;
      for (const char of text) value = Math.imul(value ^ char.charCodeAt(0), 0x01000193) >>> 0;
      return value;
    };
    const keys: string[] = [];
    for (let i = 0; keys.length < 1_500; i += 1) {
      const key = i.toString(36);
      if (hash(key) % 1_024 === 0) keys.push(key);
    }
    const flood = JSON.stringify({ context: Object.fromEntries(keys.map((key) => [key, 0])) });
    const startedMs = performance.now();
    const result = ask(engine, flood);
    expect(performance.now() - startedMs).toBeLessThan(1_000);
    expect(result.fuelUsed).toBeLessThanOrEqual(500_000 + 4 * flood.length);
  });
});
