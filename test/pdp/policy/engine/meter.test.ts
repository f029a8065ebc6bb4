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

describe('the mesh policies, metered', () => {
  it("answer every case as they do unmetered on OPA's own SDK", async () => {
    const folder = path.join(packageFolder(), 'policies', 'cases');
    const { wasm, dataJson } = await readBundle(await readFile(path.join(packageFolder(), 'bundles', 'mesh.tar.gz')));
    const plain = sdk.loadPolicySync(wasm, 64);
    plain.setData(JSON.parse(Buffer.from(dataJson).toString()));
    const engine = await createEngine({ wasm, dataJson, builtins: {}, memoryMaxBytes: 2 ** 26, fuel: 100_000 });
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
