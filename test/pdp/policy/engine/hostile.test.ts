import { createHash } from 'node:crypto';
import { collidingKeys } from '../../../../scripts/bench/flood-keys.ts';
import { readBundle } from '../../../../services/pdp/policy/bundle-reader.ts';
import { BUILTINS } from '../../../../services/pdp/policy/engine/builtins.ts';
import { createEngine, type Engine, type EngineResult } from '../../../../services/pdp/policy/engine/host.ts';
import { DEFAULT_FUEL } from '../../../../services/pdp/policy/wasm-evaluator.ts';
import { makeBundle } from '../make-bundles.ts';

const rule = (body: string): string => `package edict\n\n# METADATA\n# entrypoint: true\n${body}\n`;

const engineOf = async (rego: string, fuel = DEFAULT_FUEL, data: object = {}): Promise<Engine> => {
  const { wasm } = await readBundle(await makeBundle({ rego: rule(rego) }));
  const dataJson = Buffer.from(JSON.stringify(data));
  return createEngine({ wasm, dataJson, builtins: BUILTINS, memoryMaxBytes: 256 * 1024 * 1024, fuel });
};
const ask = (engine: Engine, input: string): EngineResult =>
  engine.evaluate({ entrypoint: engine.entrypoints.get('edict/decide') ?? -1, input, nowMs: 0 });
const textOf = (result: EngineResult): string => (result.outcome === 'result' ? result.text : result.code);

describe('an evaluation of hostile input', () => {
  it('takes numbers of 400 digits as numbers', async () => {
    const engine = await engineOf(
      'decide := {"text": sprintf("%v", [input]), "more": input > 1, "plus": input + 1 > 1}',
    );
    const digits = '7'.repeat(400);
    const told = (input: string): unknown => JSON.parse(textOf(ask(engine, input)));
    expect(told(digits)).toEqual([{ result: { text: digits, more: true, plus: true } }]);
    expect(told(`-${digits}.5e-3`)).toMatchObject([{ result: { more: false } }]);
    expect(told('2')).toEqual([{ result: { text: '2', more: true, plus: true } }]);
  });

  it.each([
    ['arrays', '['.repeat(200_000) + ']'.repeat(200_000)],
    ['objects', '{"a":'.repeat(100_000) + '1' + '}'.repeat(100_000)],
    ['what does not end', '['.repeat(200_000)],
  ])('ends for 100,000 and more %s in each other, and answers the next', async (_what, deep) => {
    const engine = await engineOf('decide := {"is": json.marshal(input) == "1", "same": input == [input]}');
    const result = ask(engine, deep);
    if (result.outcome === 'fault') expect(['policy_error', 'policy_fuel', 'policy_memory']).toContain(result.code);
    expect(textOf(ask(engine, '1'))).toBe('[{"result":{"is":true,"same":false}}]');
  });

  it('ends for 5,000 keys of one bucket within its limit, and answers the next', async () => {
    const engine = await engineOf('decide := count([1 | some key, _ in input.members; input.members[key] == 1])');
    const flood = JSON.stringify({ members: Object.fromEntries(collidingKeys(5_000).map((key) => [key, 1])) });
    const result = ask(engine, flood);
    expect(['policy_fuel', '[{"result":5000}]']).toContain(textOf(result));
    expect(result.fuelUsed).toBeLessThanOrEqual(DEFAULT_FUEL + 4_096 + 32 * flood.length);
    expect(textOf(ask(engine, '{"members": {"a": 1, "b": 2}}'))).toBe('[{"result":1}]');
  });

  it('pays for a text of 10 MB that a built-in gets, or makes no call', async () => {
    const text = 'abcdefgh'.repeat(1_310_720);
    const rego = 'decide := crypto.sha256(data.text) if input == 1\n\ndecide := "small" if input == 2';
    const frugal = await engineOf(rego, DEFAULT_FUEL, { text });
    expect(textOf(ask(frugal, '1'))).toBe('policy_fuel');
    expect(textOf(ask(frugal, '2'))).toBe('[{"result":"small"}]');
    const generous = await engineOf(rego, 100_000_000, { text });
    const digest = createHash('sha256').update(text).digest('hex');
    expect(textOf(ask(generous, '1'))).toBe(`[{"result":"${digest}"}]`);
  });

  it('does not read a result that is larger than it may be, and answers the next with the same instance', async () => {
    const { wasm } = await readBundle(await makeBundle({ rego: rule('decide := data.texts[input]') }));
    const dataJson = Buffer.from(JSON.stringify({ texts: { huge: 'é'.repeat(5_000_000), fits: 'x'.repeat(1_000) } }));
    const wrapped = '[{"result":""}]'.length;
    const limits = { memoryMaxBytes: 256 * 1024 * 1024, fuel: 1_000_000_000, resultMaxBytes: 1_000 + wrapped };
    const engine = await createEngine({ wasm, dataJson, builtins: BUILTINS, ...limits });
    const before = engine.instances();
    for (let i = 0; i < 3; i += 1) {
      const result = ask(engine, '"huge"');
      expect(result).toMatchObject({ outcome: 'fault', code: 'policy_output_invalid' });
      expect(result).toMatchObject({ message: 'the result is larger than 1015 bytes' });
      expect(result.fuelUsed).toBeGreaterThan(10_000);
      expect(textOf(ask(engine, '"fits"'))).toHaveLength(1_000 + wrapped);
    }
    expect(engine.instances()).toBe(before);
  });

  it.each([
    ['invalid UTF-8', Buffer.from([0x22, 0xff, 0xc0, 0x80, 0x22])],
    ['a lone surrogate', Buffer.from('"\\ud800"')],
    ['half a character', Buffer.from([0x22, 0xf0, 0x9f, 0x22])],
  ])('is over %s, and answers the next', async (_what, bytes) => {
    const engine = await engineOf('decide := {"upper": upper(input), "hash": crypto.sha256(input), "n": count(input)}');
    const entrypoint = engine.entrypoints.get('edict/decide') ?? -1;
    const before = textOf(ask(engine, '"a"'));
    engine.evaluate({ entrypoint, input: bytes, nowMs: 0 });
    expect(textOf(ask(engine, '"a"'))).toBe(before);
    expect(before).toContain('"n":1');
  });
});
