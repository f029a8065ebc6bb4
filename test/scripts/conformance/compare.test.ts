import { isSameAnswer, type Answer } from '../../../scripts/conformance/probes/compare.ts';
import { PROBED_BUILTINS } from '../../../scripts/conformance/probes/generate.ts';
import { randomOf } from '../../../scripts/conformance/probes/random.ts';
import { parseValue } from '../../../services/pdp/policy/engine/value-text.ts';
import { BUILTINS } from '../../../services/pdp/policy/engine/builtins.ts';

const answer = (text: string): Answer => {
  if (text === 'undefined') return { kind: 'undefined' };
  if (text === 'error') return { kind: 'error', message: 'any' };
  return { kind: 'value', value: parseValue(text) };
};

it.each([
  ['1', '1.0', true],
  ['{1,2}', '[1,2]', false],
  ['9007199254740993', '9007199254740992', false],
  ['undefined', 'undefined', true],
  ['undefined', 'false', false],
  ['undefined', 'error', false],
  ['1', 'undefined', false],
  ['error', 'undefined', true],
  ['error', 'error', true],
  ['error', '1', false],
])('OPA gives %s and we %s', (wanted, given, isSame) => {
  expect(isSameAnswer('sprintf', answer(wanted), answer(given))).toBe(isSame);
});

it('two drawn UUIDs are as good as equal, a UUID of another version is not', () => {
  const [one, other] = ['"0b0e6f0c-8d3e-4c7b-9d1a-1f2e3d4c5b6a"', '"5d1f2a3b-1c2d-4e5f-8a9b-0c1d2e3f4a5b"'];
  expect(isSameAnswer('uuid.rfc4122', answer(one), answer(other))).toBe(true);
  expect(isSameAnswer('uuid.rfc4122', answer(one), answer(other.replace('-4', '-1')))).toBe(false);
});

const tokenOf = (alg: string, signature: string): string =>
  `"${Buffer.from(`{"alg":"${alg}"}`).toString('base64url')}.e30.${signature}"`;

it('a token of ECDSA may have another signature of the same length, one of HMAC may not', () => {
  const same = (alg: string, other: string): boolean =>
    isSameAnswer('io.jwt.encode_sign', answer(tokenOf(alg, 'AAAA')), answer(tokenOf(alg, other)));
  expect(same('ES256', 'BBBB')).toBe(true);
  expect(same('ES256', 'BBBBB')).toBe(false);
  expect(same('HS256', 'BBBB')).toBe(false);
});

it('the errors of a schema may come in another order, with another verdict they may not', () => {
  const same = (given: string): boolean =>
    isSameAnswer('json.match_schema', answer('[false,["a","b"]]'), answer(given));
  expect(same('[false,["b","a"]]')).toBe(true);
  expect(same('[true,["b","a"]]')).toBe(false);
  expect(same('[false,["b"]]')).toBe(false);
});

it('one seed draws one sequence', () => {
  const draw = (seed: number): readonly number[] =>
    randomOf(seed)
      .many(5, 5, () => 0)
      .map(() => randomOf(seed).next());
  expect(draw(7)).toEqual(draw(7));
  expect(draw(7)).not.toEqual(draw(8));
});

it('probes every built-in that is supplied, but the one that prints', () => {
  const missing = Object.keys(BUILTINS).filter((name) => !PROBED_BUILTINS.includes(name));
  expect(missing.filter((name) => name !== 'internal.print')).toEqual([]);
});
