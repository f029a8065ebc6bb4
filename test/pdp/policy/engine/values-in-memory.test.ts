import { collidingKeys } from '../../../../scripts/bench/flood-keys.ts';
import { readBundle } from '../../../../services/pdp/policy/bundle-reader.ts';
import { createEngine, type Engine } from '../../../../services/pdp/policy/engine/host.ts';
import { makeBundle } from '../make-bundles.ts';

const FUEL = 50_000_000;
const REGO =
  'package edict\n\n# METADATA\n# entrypoint: true\ndecide := {"all": input, "at": [p | walk(input, [p, _])]}\n';

const engineOf = async (): Promise<Engine> => {
  const { wasm, dataJson } = await readBundle(await makeBundle({ rego: REGO }));
  return createEngine({ wasm, dataJson, builtins: {}, memoryMaxBytes: 64 * 1024 * 1024, fuel: FUEL });
};

/** Numbers in turn that look like chance and are the same in each run (mulberry32). */
const chance = (seed: number): ((below: number) => number) => {
  let state = seed;
  return (below) => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return Math.floor((((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296) * below);
  };
};

const PIECES = ['a', 'Z', '0', ' ', '~', '\\"', '\\\\', '\\/', '\\n', '\\b', '\\u0000', '\\u00e9', '\\ud83d\\ude00'];
const WIDE = ['é', '€', '😀', '\u007f', '\uffff'];
const NUMBERS = [
  '0',
  '-0',
  '-1',
  '999999999',
  '-999999999',
  '1000000000',
  '9007199254740993',
  '1e3',
  '-2.50E-7',
  '0.1',
];

const randomJson = (next: (below: number) => number, depth: number): string => {
  const text = (): string =>
    `"${Array.from({ length: next(6) }, () => [...PIECES, ...WIDE][next(PIECES.length + WIDE.length)]).join('')}"`;
  const space = (): string => ['', '', ' ', '\n\t\r '][next(4)] ?? '';
  const count = next(4) === 0 ? next(40) : next(5);
  switch (next(depth > 4 ? 4 : 7)) {
    case 0:
      return ['true', 'false', 'null'][next(3)] ?? '';
    case 1:
      return NUMBERS[next(NUMBERS.length)] ?? '';
    case 2:
    case 3:
      return text();
    case 4:
      return `[${space()}${Array.from({ length: count }, () => randomJson(next, depth + 1)).join(`${space()},`)}]`;
    default: {
      const members = Array.from(
        { length: count },
        () => `${text()}${space()}:${space()}${randomJson(next, depth + 1)}`,
      );
      return `{${members.join(`,${space()}`)}${space()}}`;
    }
  }
};

describe('an input that the host reads', () => {
  it('is in memory as the module would have it, in the same order', async () => {
    const engine = await engineOf();
    const entrypoint = engine.entrypoints.get('edict/decide') ?? -1;
    const ask = (input: string | Uint8Array): string => {
      const result = engine.evaluate({ entrypoint, input, nowMs: 0, format: 'rego' });
      return result.outcome === 'result' ? result.text : result.code;
    };
    const next = chance(4_711);
    let longest = 0;
    for (let round = 0; round < 150; round += 1) {
      const json = randomJson(next, 0);
      const expected = ask(`${json} and what the host leaves to the module`);
      expect(expected).toContain('"all"');
      expect(ask(json)).toBe(expected);
      expect(ask(Buffer.from(json))).toBe(expected);
      longest = Math.max(longest, json.length);
    }
    expect(longest).toBeGreaterThan(1_000);
  });

  it.each([
    '{"a":1,}',
    '[1,]',
    '01',
    '1.',
    '[1 2]',
    '"\\ud800"',
    '{1: 2}',
    '{1, 2}',
    '"a',
    '{"a":',
    'nul',
    '-',
    '"\\x"',
  ])('is left to the module when it is no JSON: %s', async (text) => {
    const engine = await engineOf();
    const entrypoint = engine.entrypoints.get('edict/decide') ?? -1;
    const asked = [text, Buffer.from(text)].map((input) => {
      const result = engine.evaluate({ entrypoint, input, nowMs: 0, format: 'rego' });
      return result.outcome === 'result' ? result.text : result.message;
    });
    expect(asked[0]).toBe(asked[1]);
    expect(engine.evaluate({ entrypoint, input: '1', nowMs: 0 }).outcome).toBe('result');
  });

  it('costs what its text says, and ends when keys fall into one bucket', async () => {
    const engine = await engineOf();
    const entrypoint = engine.entrypoints.get('edict/decide') ?? -1;
    const fuelOf = (input: string) => engine.evaluate({ entrypoint, input, nowMs: 0 });
    expect(fuelOf('[1]').fuelUsed).toBe(fuelOf('[1]').fuelUsed);
    // A bucket is sorted: in this order each key is held against all before it.
    const keys = [...collidingKeys(5_000)].sort();
    const flood = JSON.stringify(Object.fromEntries(keys.map((key) => [key, 1])));
    const result = fuelOf(flood);
    expect(result).toMatchObject({ outcome: 'fault', code: 'policy_fuel' });
    expect(result.fuelUsed).toBe(4_096 + 32 * flood.length);
    expect(fuelOf('1').outcome).toBe('result');
  });
});

describe('an answer that the host prints', () => {
  it('has the text that the module prints', async () => {
    const engine = await engineOf();
    const entrypoint = engine.entrypoints.get('edict/decide') ?? -1;
    const ask = (input: string): string => {
      const result = engine.evaluate({ entrypoint, input, nowMs: 0 });
      return result.outcome === 'result' ? result.text : result.code;
    };
    const next = chance(815);
    for (let round = 0; round < 200; round += 1) {
      const json = randomJson(next, 3);
      const small = ask(`{"in":${json}}`);
      const part = /"all":\{"in":(.*?)\}(?:,"at"|\}\]$)/s.exec(small)?.[1] ?? 'no answer';
      // What is beside it makes it too long for the host.
      const large = ask(`{"in":${json},"long":"${'x'.repeat(5_000)}"}`);
      expect(large).toContain(`"in":${part}`);
    }
  });
});
