import type { Evaluate, EvaluationResult } from '../../../services/pdp/core/evaluate.ts';
import { createMemo, type RememberedInput, type RememberedPolicy } from '../../../services/pdp/core/memo.ts';
import type { PolicyOutput } from '../../../services/shared/contracts/policy-io.ts';

const outputOf = (code: string): PolicyOutput => ({
  version: 1,
  allow: true,
  reasons: [{ code }],
  obligations: [],
  advice: [],
  legs: { subject: true },
});
const answer = (code: string): EvaluationResult => ({
  outcome: 'answer',
  value: outputOf(code),
  fuelUsed: 7,
  fuelLimit: 1_000,
  drawn: undefined,
});
const inputOf = (value: Readonly<Record<string, unknown>>): RememberedInput => ({
  text: JSON.stringify(value),
  document: () => value,
});

/** A policy that reads `a` and counts how often it is asked. */
const policyOf = (give: (n: number) => EvaluationResult = () => answer('ok'), overrides: object = {}) => {
  let asked = 0;
  const evaluate: Evaluate = () => give((asked += 1));
  const policy: RememberedPolicy = { evaluate, reads: new Map([['a', true]]), ...overrides };
  return { policy, asked: () => asked };
};
const roomy = { maxEntries: 100, maxBytes: 1_000_000 };

describe('the memo', () => {
  it('gives an answer again to an input that is the same in what is read, at no fuel', () => {
    const memo = createMemo(roomy);
    const { policy, asked } = policyOf();
    const [first, wasKnown] = memo.evaluate('t', policy, inputOf({ a: 1, b: 1 }), 1);
    const [second, isKnown] = memo.evaluate('t', policy, inputOf({ b: 2, a: 1 }), 2);
    expect([wasKnown, isKnown, asked()]).toEqual([false, true, 1]);
    expect(first).toEqual(answer('ok'));
    expect(second).toEqual({ ...answer('ok'), fuelUsed: 0 });
    expect(memo.evaluate('t', policy, inputOf({ a: 2, b: 1 }), 3)[1]).toBe(false);
    expect(memo.stats()).toMatchObject({ hits: 1, misses: 2, entries: 2 });
  });

  it('goes by the text where all of the input is read, and remembers nothing where more than that is', () => {
    const memo = createMemo(roomy);
    const whole = policyOf(undefined, { reads: true });
    const text = {
      text: '{"a":1}',
      document: (): object => {
        throw new Error('asked for');
      },
    };
    expect(memo.evaluate('t', whole.policy, text, 1)[1]).toBe(false);
    expect(memo.evaluate('t', whole.policy, text, 1)[1]).toBe(true);
    const chance = policyOf(undefined, { reads: undefined });
    for (let n = 0; n < 3; n += 1) expect(memo.evaluate('t', chance.policy, inputOf({}), 1)[1]).toBe(false);
    expect(chance.asked()).toBe(3);
    expect(memo.stats()).toMatchObject({ hits: 1, misses: 1, entries: 1 });
  });

  it('never remembers a fault, what drew, or what threw', () => {
    const memo = createMemo(roomy);
    const fault: EvaluationResult = { outcome: 'fault', code: 'policy_fuel', message: '', fuelUsed: 1, fuelLimit: 1 };
    const drew: EvaluationResult = { ...answer('ok'), drawn: { 'rand.intn': { '[1]': '0' } } } as EvaluationResult;
    const { policy, asked } = policyOf((n) => {
      if (n === 1) throw new Error('broken');
      return n === 2 ? fault : n === 3 ? drew : answer('ok');
    });
    const input = inputOf({ a: 1 });
    expect(() => memo.evaluate('t', policy, input, 1)).toThrow('broken');
    expect(memo.evaluate('t', policy, input, 1)).toEqual([fault, false]);
    expect(memo.evaluate('t', policy, input, 1)).toEqual([drew, false]);
    expect(memo.evaluate('t', policy, input, 1)[1]).toBe(false);
    expect(memo.evaluate('t', policy, input, 1)[1]).toBe(true);
    expect(asked()).toBe(4);
  });

  it('keeps tenants apart, and begins anew with another policy', () => {
    const memo = createMemo(roomy);
    const [one, other] = [policyOf(() => answer('one')), policyOf(() => answer('other'))];
    const input = inputOf({ a: 1 });
    memo.evaluate('t', one.policy, input, 1);
    expect(memo.evaluate('u', one.policy, input, 1)[1]).toBe(false);
    expect(memo.stats().entries).toBe(2);
    expect(memo.evaluate('t', other.policy, input, 1)).toEqual([answer('other'), false]);
    expect(memo.stats().entries).toBe(2);
    expect(memo.evaluate('t', other.policy, input, 1)[1]).toBe(true);
    expect(memo.evaluate('u', one.policy, input, 1)[1]).toBe(true);
    expect(memo.evaluate('t', one.policy, input, 1)[1]).toBe(false);
  });

  it('has at most so many entries, and gives up what nobody asks for', () => {
    const memo = createMemo({ ...roomy, maxEntries: 10 });
    const { policy } = policyOf();
    const ask = (a: number) => memo.evaluate('t', policy, inputOf({ a }), 1)[1];
    for (let a = 0; a < 1_000; a += 1) {
      ask(a);
      ask(0);
      expect(memo.stats().entries).toBeLessThanOrEqual(10);
    }
    expect(ask(0)).toBe(true);
    expect(ask(1)).toBe(false);
    expect(memo.stats().entries).toBe(10);
  });

  it('makes room also when all entries are in use', () => {
    const memo = createMemo({ ...roomy, maxEntries: 50 });
    const { policy } = policyOf();
    const ask = (a: number) => memo.evaluate('t', policy, inputOf({ a }), 1)[1];
    for (let a = 0; a < 50; a += 1) ask(a);
    for (let a = 0; a < 50; a += 1) expect(ask(a)).toBe(true);
    for (let a = 50; a < 60; a += 1) ask(a);
    for (let a = 50; a < 60; a += 1) expect(ask(a)).toBe(true);
    expect(memo.stats().entries).toBe(50);
  });

  it('has at most so many bytes, and nothing that is larger by itself', () => {
    const memo = createMemo({ ...roomy, maxBytes: 20_000 });
    const { policy } = policyOf((n) => answer('x'.repeat((n % 5) * 1_000)));
    for (let a = 0; a < 500; a += 1) {
      memo.evaluate(`t${a % 3}`, policy, inputOf({ a }), 1);
      expect(memo.stats().bytes).toBeLessThanOrEqual(20_000);
    }
    expect(memo.stats().entries).toBeGreaterThan(2);
    const huge = policyOf(() => answer('x'.repeat(20_000)));
    const before = memo.stats().entries;
    memo.evaluate('huge', huge.policy, inputOf({ a: 1 }), 1);
    expect(memo.evaluate('huge', huge.policy, inputOf({ a: 1 }), 1)[1]).toBe(false);
    expect(memo.stats().entries).toBe(before);
  });

  it('lets a tenant with much drive out itself, not one with little', () => {
    const memo = createMemo({ ...roomy, maxEntries: 20 });
    const { policy } = policyOf();
    for (let a = 0; a < 5; a += 1) memo.evaluate('small', policy, inputOf({ a }), 1);
    for (let a = 0; a < 1_000; a += 1) memo.evaluate('noisy', policy, inputOf({ a }), 1);
    for (let a = 0; a < 5; a += 1) expect(memo.evaluate('small', policy, inputOf({ a }), 1)[1]).toBe(true);
    expect(memo.stats().entries).toBe(20);
  });
});
