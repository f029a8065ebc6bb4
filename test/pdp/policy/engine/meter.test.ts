import { readdir, readFile } from 'node:fs/promises';
import path from 'node:path';
import * as opaWasm from '@open-policy-agent/opa-wasm';
import { packageFolder } from '../../../../services/cli/opa-binary.ts';
import { readBundle } from '../../../../services/pdp/policy/bundle-reader.ts';
import { createEngine } from '../../../../services/pdp/policy/engine/host.ts';
import { FUEL_EXPORT, meterModule } from '../../../../services/pdp/policy/engine/meter.ts';
import { wasmApi } from '../../../../services/pdp/policy/engine/wasm.ts';

const HEADER = [0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00];
const section = (id: number, content: readonly number[]): number[] => [id, content.length, ...content];

/** Exports `run: (i32) -> i32` with this body; one type, one function, one global. */
const moduleOf = (body: readonly number[], locals: readonly number[] = [0]): Uint8Array =>
  Uint8Array.from([
    ...HEADER,
    ...section(1, [1, 0x60, 1, 0x7f, 1, 0x7f]),
    ...section(3, [1, 0]),
    ...section(6, [1, 0x7f, 1, 0x41, 7, 0x0b]),
    ...section(7, [1, 3, 0x72, 0x75, 0x6e, 0, 0]),
    ...section(10, [1, locals.length + body.length, ...locals, ...body]),
  ]);

/** Counts its argument down to zero: `loop (local.get 0) 1 sub (local.tee 0) br_if 0 end (local.get 0)`. */
const COUNT_DOWN = [0x03, 0x40, 0x20, 0, 0x41, 1, 0x6b, 0x22, 0, 0x0d, 0, 0x0b, 0x20, 0, 0x0b];

/** `local.get 0, i32.const 1, i32.sub, local.tee 0`. */
const DECREMENT = [0x20, 0, 0x41, 1, 0x6b, 0x22, 0];

/** Sections must come in the order of their ids: the one of types, of 8 bytes, before what was put in front of it. */
const withTypesFirst = (bytes: Uint8Array, inserted: number): Uint8Array => {
  const [from, types] = [HEADER.length, HEADER.length + inserted];
  const end = types + 2 + (bytes[types + 1] ?? 0);
  return Uint8Array.from([
    ...bytes.subarray(0, from),
    ...bytes.subarray(types, end),
    ...bytes.subarray(from, types),
    ...bytes.subarray(end),
  ]);
};

interface Counted {
  readonly run: (value: number) => number;
  readonly fuel: { value: number };
}

const instanceOf = async (bytes: Uint8Array): Promise<Counted> => {
  const { exports } = new wasmApi.Instance(await wasmApi.compile(meterModule(bytes).wasm), {});
  return { run: exports['run'] as Counted['run'], fuel: exports[FUEL_EXPORT] as Counted['fuel'] };
};

describe('a metered module', () => {
  it('takes one unit for each pass of a loop', async () => {
    const { run, fuel } = await instanceOf(moduleOf(COUNT_DOWN));
    for (const passes of [1, 2, 10, 1_000]) {
      fuel.value = 5_000;
      expect(run(passes)).toBe(0);
      expect(fuel.value).toBe(5_000 - passes);
    }
  });

  it('traps on the pass that nothing is left for, not before', async () => {
    const { run, fuel } = await instanceOf(moduleOf(COUNT_DOWN));
    fuel.value = 10;
    expect(run(10)).toBe(0);
    fuel.value = 10;
    expect(() => run(11)).toThrow('unreachable');
    expect(fuel.value).toBeLessThan(0);
  });

  it('begins with something, so that a start function may loop', async () => {
    const { fuel } = await instanceOf(moduleOf(COUNT_DOWN));
    expect(fuel.value).toBeGreaterThan(1_000_000);
  });

  it('ends an endless loop', async () => {
    const { run, fuel } = await instanceOf(moduleOf([0x03, 0x40, 0x0c, 0, 0x0b, 0x20, 0, 0x0b]));
    fuel.value = 100_000;
    expect(() => run(1)).toThrow('unreachable');
  });

  it('steps over the immediates of everything that may stand before a loop', async () => {
    // A constant whose bytes look like a loop; a branch table; a select; a saturating truncation; sign extension.
    const before = Buffer.from(
      '42838040' +
        '1a' + // i64.const, drop
        '440340034003400340' +
        'fc02' +
        '1a' + // f64.const, i32.trunc_sat_f64_s, drop
        '0240' +
        '2000' +
        '0e010000' +
        '0b' + // block, local.get 0, br_table, end
        '410141024103' +
        '1c017f' +
        '1a' + // three i32.const, select i32, drop
        '4101' +
        'c0' +
        '1a', // i32.const, i32.extend8_s, drop
      'hex',
    );
    const { run, fuel } = await instanceOf(moduleOf([...before, ...COUNT_DOWN]));
    fuel.value = 100;
    expect(run(5)).toBe(0);
    expect(fuel.value).toBe(95);
  });

  it.each([
    // loop: n − 1 → n; zero: return 7.
    ['a return', [0x03, 0x40, ...DECREMENT, 0x45, 0x04, 0x40, 0x41, 7, 0x0f, 0x0b, 0x0c, 0, 0x0b, 0x41, 9, 0x0b], 7],
    // block: loop: n − 1 → n; zero: out of the block; again.
    ['a jump', [0x02, 0x40, 0x03, 0x40, ...DECREMENT, 0x45, 0x0d, 1, 0x0c, 0, 0x0b, 0x0b, 0x41, 8, 0x0b], 8],
    // block: loop: n − 1 → n; by a table, 0: out of the block, else again.
    ['a table', [0x02, 0x40, 0x03, 0x40, ...DECREMENT, 0x0e, 1, 1, 0, 0x0b, 0x0b, 0x41, 8, 0x0b], 8],
    // The end of a loop that gives a value.
    ['its end', [0x03, 0x7f, ...DECREMENT, 0x0d, 0, 0x41, 6, 0x0b, 0x0b], 6],
  ])('has counted all passes when a loop without calls is left by %s', async (_way, body, result) => {
    const { run, fuel } = await instanceOf(moduleOf(body, [2, 1, 0x7e, 2, 0x7f]));
    for (const passes of [1, 3, 50]) {
      fuel.value = 5_000;
      expect(run(passes)).toBe(result);
      expect(fuel.value).toBe(5_000 - passes);
    }
    fuel.value = 10;
    expect(() => run(11)).toThrow('unreachable');
    expect(fuel.value).toBeLessThan(0);
  });

  it('counts the passes of a loop in a loop, also where the inner one leaves both', async () => {
    // n = argument; loop: m = 3; loop: m − 1 → m; n = 2 and m = 1: return 5; m: again; end; n − 1 → n: again.
    const inner = [0x20, 1, 0x41, 1, 0x6b, 0x22, 1, 0x41, 1, 0x46, 0x20, 0, 0x41, 2, 0x46, 0x71];
    const begin = [0x03, 0x40, 0x41, 3, 0x21, 1, 0x03, 0x40];
    const rest = [0x04, 0x40, 0x41, 5, 0x0f, 0x0b, 0x20, 1, 0x0d, 0, 0x0b, ...DECREMENT, 0x0d, 0, 0x0b, 0x41, 4, 0x0b];
    const body = [...begin, ...inner, ...rest];
    const { run, fuel } = await instanceOf(moduleOf(body, [1, 1, 0x7f]));
    fuel.value = 5_000;
    expect(run(1)).toBe(4);
    expect(fuel.value).toBe(5_000 - (1 + 3));
    fuel.value = 5_000;
    expect(run(4)).toBe(5);
    expect(fuel.value).toBe(5_000 - (3 + 3 + 3 + 2));
  });

  it('pays for asking for memory, however little, and more the more there is', async () => {
    // loop: memory.grow 0; n − 1 → n: again.
    const body = [0x03, 0x40, 0x41, 0, 0x40, 0, 0x1a, ...DECREMENT, 0x0d, 0, 0x0b, 0x20, 0, 0x0b];
    const costs = async (pages: number): Promise<number> => {
      const text = (name: string): number[] => [name.length, ...Buffer.from(name)];
      const imported = section(2, [1, ...text('env'), ...text('memory'), 2, 0, 1]);
      const bytes = Uint8Array.from([...HEADER, ...imported, ...moduleOf(body).subarray(HEADER.length)]);
      const ordered = withTypesFirst(bytes, imported.length);
      const memory = new wasmApi.Memory({ initial: pages, maximum: pages });
      const { exports } = new wasmApi.Instance(await wasmApi.compile(meterModule(ordered).wasm), { env: { memory } });
      const [run, fuel] = [exports['run'] as Counted['run'], exports[FUEL_EXPORT] as Counted['fuel']];
      fuel.value = 1_000_000;
      run(10);
      return 1_000_000 - fuel.value;
    };
    expect(await costs(1)).toBe(10 * (1 + 4_096 + 8));
    expect(await costs(100)).toBe(10 * (1 + 4_096 + 800));
  });

  it.each([
    ['beside each other', Array.from({ length: 50_000 }, () => [0x03, 0x40, 0x0b]).flat()],
    [
      'in each other, with jumps out of all',
      [
        ...Array.from({ length: 20_000 }, () => [0x03, 0x40]),
        ...Array.from({ length: 20_000 }, () => [0x0f]),
        ...Array.from({ length: 20_000 }, () => [0x0b]),
      ].flat(),
    ],
    [
      'in each other, with calls',
      [
        ...Array.from({ length: 20_000 }, () => [0x03, 0x40]),
        ...Array.from({ length: 20_000 }, () => [0x41, 0, 0x10, 0, 0x1a]),
        ...Array.from({ length: 20_000 }, () => [0x0b]),
      ].flat(),
    ],
  ])('is made in time that grows with its size alone: loops %s', (_how, loops) => {
    const body = [...loops, 0x41, 0, 0x0b];
    const long = (value: number): number[] => [(value & 0x7f) | 0x80, ((value >> 7) & 0x7f) | 0x80, value >> 14];
    const code = [1, ...long(body.length + 1), 0, ...body];
    const head = moduleOf([]);
    const bytes = Uint8Array.from([
      ...head.subarray(0, head.indexOf(10, head.length - 5)),
      10,
      ...long(code.length),
      ...code,
    ]);
    expect(meterModule(bytes).wasm.length).toBeGreaterThan(bytes.length);
  });

  it('is the policy module with a little more', async () => {
    const { wasm } = await readBundle(await readFile(path.join(packageFolder(), 'bundles', 'mesh.tar.gz')));
    const metered = meterModule(wasm);
    expect(metered.memoryPages).toBeGreaterThan(0);
    expect(metered.wasm.length).toBeGreaterThan(wasm.length);
    expect(metered.wasm.length).toBeLessThan(wasm.length * 1.1);
    await expect(wasmApi.compile(metered.wasm)).resolves.toBeDefined();
  });
});

interface Sdk {
  readonly loadPolicySync: (
    wasm: Uint8Array,
    memory: number,
  ) => { evaluate(input: unknown, entrypoint: string): unknown; setData(data: unknown): void };
}
const { default: sdk } = opaWasm as unknown as { readonly default: Sdk };

/** Functions of no arguments with these bodies; `run` is the last one. A table holds those of `inTable`. */
const functionsOf = (bodies: readonly (readonly number[])[], inTable: readonly number[] = []): Uint8Array => {
  const code = bodies.flatMap((body) => [...length(body.length + 2), 0, ...body, 0x0b]);
  return Uint8Array.from([
    ...HEADER,
    ...section(1, [1, 0x60, 0, 0]),
    ...section(3, [bodies.length, ...bodies.map(() => 0)]),
    ...section(4, [1, 0x70, 0, inTable.length]),
    ...section(6, [1, 0x7f, 1, 0x41, 7, 0x0b]),
    ...section(7, [1, 3, 0x72, 0x75, 0x6e, 0, bodies.length - 1]),
    ...section(9, [1, 0, 0x41, 0, 0x0b, inTable.length, ...inTable]),
    10,
    ...length(code.length + 1),
    bodies.length,
    ...code,
  ]);
};
const length = (value: number): number[] => [(value & 0x7f) | 0x80, value >> 7];
const call = (index: number): number[] => [0x10, index];
const callIndirect = [0x41, 0, 0x11, 0, 0];

describe('a function that calls', () => {
  it('others twice, and those others twice, runs out of fuel although nothing loops', async () => {
    const bodies = Array.from({ length: 40 }, (_, at) => (at === 0 ? [0x01] : [...call(at - 1), ...call(at - 1)]));
    const { run, fuel } = await instanceOf(functionsOf(bodies));
    fuel.value = 100_000;
    expect(() => run(0)).toThrow('unreachable');
  });

  it.each([
    ['itself', [call(0)], []],
    ['another that calls it', [call(1), call(0)], []],
    ['itself through a table', [callIndirect], [0]],
    ['one through a table that calls it', [callIndirect, call(0)], [1]],
  ])('%s runs out of fuel before the stack does', async (_what, bodies, inTable) => {
    const { run, fuel } = await instanceOf(functionsOf(bodies, inTable));
    fuel.value = 100;
    expect(() => run(0)).toThrow('unreachable');
    expect(fuel.value).toBeLessThan(0);
  });

  it('pays a unit for 64 instructions, as if every branch were taken', async () => {
    const nothing = Array.from({ length: 1_000 }, () => 0x01);
    const { run, fuel } = await instanceOf(functionsOf([nothing]));
    fuel.value = 100;
    run(0);
    expect(fuel.value).toBe(100 - Math.ceil(1_001 / 64));
  });

  it('pays nothing for a little, which its callers pay for', async () => {
    const little = Array.from({ length: 100 }, () => 0x01);
    const { run, fuel } = await instanceOf(functionsOf([little, [...call(0), ...call(0), ...call(0)]]));
    fuel.value = 100;
    run(0);
    expect(fuel.value).toBe(100 - Math.ceil((3 * 101 + 4) / 64));
  });

  it('what is not there is refused', () => {
    expect(() => meterModule(functionsOf([call(9)]))).toThrow('a call of function 9, which is not there');
  });
});

describe('the mesh policies, metered', () => {
  it("answer every case as they do unmetered on OPA's own SDK", async () => {
    const folder = path.join(packageFolder(), 'policies', 'cases');
    const { wasm, dataJson } = await readBundle(await readFile(path.join(packageFolder(), 'bundles', 'mesh.tar.gz')));
    const plain = sdk.loadPolicySync(wasm, 64);
    plain.setData(JSON.parse(Buffer.from(dataJson).toString()));
    const engine = await createEngine({ wasm, dataJson, builtins: {}, memoryMaxBytes: 2 ** 26, fuel: 1_000_000 });
    const entrypoint = engine.entrypoints.get('edict/decide') ?? -1;
    let compared = 0;
    for (const file of (await readdir(folder)).filter((name) => name.endsWith('.json'))) {
      const { defaults, cases } = JSON.parse(await readFile(path.join(folder, file), 'utf8')) as {
        readonly defaults?: object;
        readonly cases: readonly { readonly input: object }[];
      };
      for (const each of cases) {
        const input = { ...defaults, ...each.input };
        const result = engine.evaluate({ entrypoint, input: JSON.stringify(input), nowMs: 0 });
        const text = result.outcome === 'result' ? result.text : '[]';
        expect(JSON.parse(text)).toEqual(plain.evaluate(input, 'edict/decide'));
        compared += 1;
      }
    }
    expect(compared).toBeGreaterThan(20);
  });
});

describe('a module is refused', () => {
  it.each([
    ['with an instruction that is not known', moduleOf([0xfd, 0x0c, 0x0b]), 'instruction 0xfd is not known'],
    [
      'with an exception, which is not known either',
      moduleOf([0x06, 0x40, 0x0b, 0x0b]),
      'instruction 0x6 is not known',
    ],
    [
      'with an extended instruction that is not known',
      moduleOf([0xfc, 0x12, 0x0b]),
      'instruction 0xfc 18 is not known',
    ],
    ['that copies memory', moduleOf([0xfc, 0x0a, 0, 0, 0x0b]), 'instruction 0xfc 10 is not known'],
    ['that fills memory', moduleOf([0xfc, 0x0b, 0, 0x0b]), 'instruction 0xfc 11 is not known'],
    ['that changes a table', moduleOf([0x26, 0, 0x0b]), 'instruction 0x26 is not known'],
    ['that makes a reference of a function', moduleOf([0xd2, 0, 0x0b]), 'instruction 0xd2 is not known'],
    [
      'with a memory of its own',
      Uint8Array.from([...HEADER, ...section(1, [1, 0x60, 0, 0]), ...section(5, [1, 0, 1])]),
      'the module brings a memory of its own',
    ],
    ['that ends within an instruction', moduleOf([0x41]), 'the module ends too early'],
    ['that ends within a number', moduleOf([0x41, 0x80, 0x80]), 'the module ends too early'],
    ['of another version', Uint8Array.from([0, 0x61, 0x73, 0x6d, 2, 0, 0, 0]), 'no WebAssembly module of version 1'],
    ['of no bytes', new Uint8Array(), 'no WebAssembly module of version 1'],
    ['without code', Uint8Array.from(HEADER), 'the module has no code'],
    ['whose section is longer than it', Uint8Array.from([...HEADER, 1, 100, 0]), 'the module ends too early'],
    [
      'with two sections of code',
      Uint8Array.from([...moduleOf(COUNT_DOWN), ...section(10, [0])]),
      'section 10 appears twice',
    ],
  ])('%s', (_what, bytes, message) => {
    expect(() => meterModule(bytes)).toThrow(message);
  });
});
