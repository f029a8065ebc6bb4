import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { packageFolder } from '../../../../services/cli/opa-binary.ts';
import { readBundle } from '../../../../services/pdp/policy/bundle-reader.ts';
import { BuiltinError, BuiltinHalt, type Builtins } from '../../../../services/pdp/policy/engine/builtin.ts';
import { createEngine, type Engine, type EngineResult } from '../../../../services/pdp/policy/engine/host.ts';
import { hostBuiltinsOf } from '../../../../services/pdp/policy/engine/load-module.ts';
import { RegoSet, type Value } from '../../../../services/pdp/policy/engine/value.ts';
import { wasmApi } from '../../../../services/pdp/policy/engine/wasm.ts';
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

  it('has room for evaluations beside any data, so that none pays for making a large memory larger', async () => {
    const { wasm } = await readBundle(await makeBundle({ rego: rule('decide := input.a') }));
    for (const units of [1, 4_000_000, 8_100_000, 8_300_000, 12_345_678]) {
      const dataJson = Buffer.from(JSON.stringify({ long: 'x'.repeat(units) }));
      const engine = await createEngine({ wasm, dataJson, builtins: {}, memoryMaxBytes: 2 ** 26, fuel: 500_000 });
      const { heap, memoryBytes } = engine.loaded.image;
      expect(memoryBytes - heap).toBeGreaterThanOrEqual(8 * 1024 * 1024);
      expect(ask(engine, JSON.stringify({ a: 'y'.repeat(1_000) }))).toMatchObject({ outcome: 'result' });
      expect(engine.bytes()).toBe(memoryBytes);
    }
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

  it('says of an input that no memory is left for no more than an evaluation may cost, and never less than nothing', async () => {
    const engine = await engineOf('decide := input.short');
    const result = ask(engine, JSON.stringify({ long: 'x'.repeat(30_000_000) }));
    expect(result).toMatchObject({ outcome: 'fault', code: 'policy_memory', fuelLimit: 500_000 });
    expect(result.fuelUsed).toBeGreaterThanOrEqual(0);
    expect(result.fuelUsed).toBeLessThanOrEqual(500_000);
    expect(textOf(ask(engine, '{"short": 2}'))).toBe('[{"result":2}]');
  });

  it('counts all that an evaluation may cost when it traps: a loop may have had the counter to itself', async () => {
    const engine = await engineOf('decide := sprintf("%d", [1])', {
      sprintf: () => {
        throw new wasmApi.RuntimeError('divide by zero');
      },
    });
    const result = ask(engine, '{}');
    expect(result).toMatchObject({ outcome: 'fault', code: 'policy_error' });
    expect(result.fuelUsed).toBe(result.fuelLimit);
  });

  it.each([
    ['a global variable', [0x03, 0x40, 0x41, 9, 0x24, 1, 0x0b, 0x41, 0, 0x0b]],
    ['a local one', [0x03, 0x40, 0x41, 9, 0x21, 1, 0x0b, 0x41, 0, 0x0b]],
  ])('refuses a module that names %s which only the counter makes exist', async (_what, body) => {
    const section = (id: number, content: readonly number[]): number[] => [id, content.length, ...content];
    const wasm = Buffer.concat([
      Buffer.from('0061736d01000000', 'hex'),
      Buffer.from([
        ...section(1, [1, 0x60, 1, 0x7f, 1, 0x7f]),
        ...section(3, [1, 0]),
        ...section(6, [1, 0x7f, 1, 0x41, 7, 0x0b]),
        ...section(7, [1, 3, 0x72, 0x75, 0x6e, 0, 0]),
        ...section(10, [1, body.length + 1, 0, ...body]),
      ]),
    ]);
    await expect(hostBuiltinsOf(wasm)).rejects.toThrow('policy.wasm is no WebAssembly module');
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

  it('charges a built-in’s argument for what is put in order, beside its length', async () => {
    const numbers = JSON.stringify(Array.from({ length: 500 }, (_, i) => (i * 499) % 503));
    const made = 'set := {x | some x in input}\n\nlist := [x | some x in input]\n\nboth := count(set) + count(list)';
    const used = async (what: string): Promise<number> => {
      const engine = await engineOf(`${made}\n\ndecide := count(sprintf("%v", [${what}])) + both`, {
        sprintf: () => 'x',
      });
      const result = ask(engine, numbers);
      expect(textOf(result)).toBe('[{"result":1001}]');
      return result.fuelUsed;
    };
    // 500 are five doublings of 16.
    expect((await used('set')) - (await used('list'))).toBeGreaterThan(5 * numbers.length);
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

  it('charges a call of a built-in, each byte of its arguments, and each of its result', async () => {
    const engine = await engineOf('decide := crypto.sha256(input.text) == "x"', {
      'crypto.sha256': (_context, text) => text,
    });
    const small = ask(engine, JSON.stringify({ text: 'a' })).fuelUsed;
    const used = (length: number): number => ask(engine, JSON.stringify({ text: 'a'.repeat(length) })).fuelUsed;
    expect(small).toBeGreaterThan(2_000);
    // Read, hashed, printed; beside it the module reads and compares.
    expect(used(2_000) - used(1_000)).toBeGreaterThan(5_000);
    expect(used(2_000)).toBe(used(2_000));
  });

  it('makes no call that cannot be paid for', async () => {
    let calls = 0;
    const engine = await engineOf('decide := count([1 | some i in input.list; crypto.sha256(input.text) != i])', {
      'crypto.sha256': () => {
        calls += 1;
        return 'x';
      },
    });
    const list = Array.from({ length: 1_000 }, (_, i) => String(i));
    expect(textOf(ask(engine, JSON.stringify({ list, text: 'a'.repeat(20_000) })))).toBe('policy_fuel');
    // 20,000 bytes read and hashed: 42,000 units of 500,000.
    expect(calls).toBeGreaterThan(5);
    expect(calls).toBeLessThan(12);
    calls = 0;
    expect(textOf(ask(engine, JSON.stringify({ list, text: 'a'.repeat(400_000) })))).toBe('policy_fuel');
    expect(calls).toBe(0);
    expect(textOf(ask(engine, JSON.stringify({ list: [], text: 'a' })))).toBe('[{"result":0}]');
  });

  it('ends although a built-in swallows that it ran out', async () => {
    const engine = await engineOf('decide := sprintf("%s", [input])', {
      sprintf: ({ spend }) => {
        try {
          spend(10_000_000);
        } catch {
          return 'went on';
        }
        return 'was paid';
      },
    });
    expect(textOf(ask(engine, '"x"'))).toBe('policy_fuel');
  });

  it('knows before it prints what a result takes whose parts are shared', async () => {
    let value: Value = ['x'.repeat(100)];
    for (let depth = 0; depth < 40; depth += 1) value = [value, value];
    const engine = await engineOf('decide := count(sprintf("%s", [input]))', { sprintf: () => value });
    expect(textOf(ask(engine, '"x"'))).toBe('policy_fuel');
  });

  it('gives an evaluation its whole budget, however large its input is', async () => {
    const engine = await engineOf('decide := count(input.numbers)');
    const budgetOf = (text: string): number => {
      const { fuelLimit } = ask(engine, JSON.stringify({ numbers: [1], text }));
      return fuelLimit;
    };
    // Reading is beside it, and what it did not need is gone.
    const [small, large] = [budgetOf(''), budgetOf('a'.repeat(100_000))];
    expect(small).toBeGreaterThan(500_000);
    expect(small).toBeLessThan(510_000);
    expect(large - small).toBeGreaterThan(100_000);
    expect(large - small).toBeLessThan(32 * 100_000);
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
    const result = ask(engine, flood);
    // What reading may cost, and the budget.
    expect(result.fuelLimit).toBeLessThanOrEqual(500_000 + 4_096 + 32 * flood.length);
    expect(result.fuelUsed).toBeLessThanOrEqual(result.fuelLimit);
  });
});
