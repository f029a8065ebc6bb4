import { numberOf, RegoNumber, RegoObject, RegoSet, type Value } from '../../../services/pdp/policy/engine/value.ts';
import type { Random } from './random.ts';

/** A text as a number: what a policy or a caller may write, not only what JavaScript makes of it. */
export const number = (text: string): Value => numberOf(text);
export const object = (members: Readonly<Record<string, Value>>): RegoObject => RegoObject.of(Object.entries(members));

/** What numbers go wrong with: signs, ends of 32, 53, 64 and 128 bits, fractions that end nowhere, exponents. */
export const NUMBERS: readonly Value[] = [
  '0',
  '1',
  '-1',
  '2',
  '3',
  '7',
  '10',
  '42',
  '100',
  '255',
  '256',
  '1000',
  '65535',
  '-7',
  '-255',
  '1.0',
  '1.5',
  '-1.5',
  '2.5',
  '0.1',
  '0.5',
  '-0.5',
  '3.14159',
  '100.25',
  '1.10',
  '0.000001',
  '0.0000001',
  '2147483647',
  '2147483648',
  '-2147483648',
  '4294967296',
  '9007199254740991',
  '9007199254740993',
  '9223372036854775807',
  '9223372036854775808',
  '-9223372036854775808',
  '-9223372036854775809',
  '18446744073709551615',
  '18446744073709551616',
  '123456789012345678901234567890',
  '1e3',
  '1E3',
  '1.5e3',
  '1e-3',
  '1e15',
  '1e20',
  '1e21',
  '1.7976931348623157e308',
  '5e-324',
  '123456.789e-2',
].map(number);

export const anyNumber = (random: Random): Value =>
  random.chance(0.5) ? random.pick(NUMBERS) : random.int(-1000, 1000);

const WORDS = [
  '',
  'a',
  'b',
  'ab',
  'abc',
  'aaa',
  'foo',
  'bar',
  'foo/bar',
  'a.b.c',
  'Hello, World',
  'x y',
  ' padded ',
  '	',
  '\n',
  'ä',
  'ß',
  'ﬁ',
  '日本語',
  'é',
  'é',
  '👍',
  '👩‍👩‍👧',
  '\0',
  '',
  '',
  '',
  '\u2028',
  '﻿',
  '�',
  '"quoted"',
  "it's",
  '\\',
  '\\n',
  '<b>&amp;</b>',
  '%',
  '%20',
  '+',
  'a+b',
  'a=b&c=d',
  '{}',
  '[1,2]',
  'null',
  'true',
  '0',
  '1',
  '-1',
  '1.5',
  '1e3',
  '0x10',
  '007',
  '1_000',
  'NaN',
  'Infinity',
  '10KB',
  '10Ki',
  '1.2.3',
  '127.0.0.1',
  '::1',
];

export const anyText = (random: Random): string =>
  random.chance(0.7)
    ? random.pick(WORDS)
    : random.many(0, 4, () => random.pick(WORDS)).join(random.pick(['', ' ', ',', '/', '.']));

export const anyScalar = (random: Random): Value => {
  switch (random.int(0, 5)) {
    case 0:
      return null;
    case 1:
      return random.chance(0.5);
    case 2:
    case 3:
      return anyNumber(random);
    default:
      return anyText(random);
  }
};

/** A value of any type; sets and keys of any type only when JSON need not hold it. */
export const anyValue = (random: Random, depth = 3, isJson = false): Value => {
  const inner = (): Value => anyValue(random, depth - 1, isJson);
  if (depth === 0 || random.chance(0.4)) return anyScalar(random);
  switch (random.int(0, isJson ? 1 : 2)) {
    case 0:
      return random.many(0, 4, inner);
    case 1:
      return RegoObject.of(
        random.many(0, 4, () => [isJson || random.chance(0.8) ? anyText(random) : inner(), inner()] as const),
      );
    default:
      return RegoSet.of(random.many(0, 4, inner));
  }
};

export const jsonValue = (random: Random, depth = 3): Value => anyValue(random, depth, true);

/** An array or a set of what `make` gives. */
export const collection = (random: Random, make: () => Value): Value => {
  const items = random.many(0, 5, make);
  return random.chance(0.5) ? items : RegoSet.of(items);
};

/** Swaps, drops, doubles or changes characters: texts that are nearly right find more than texts of noise. */
export const damaged = (random: Random, text: string, alphabet: string): string => {
  const characters = Array.from(text);
  for (let left = random.int(1, 2); left > 0; left -= 1) {
    const at = random.int(0, Math.max(0, characters.length - 1));
    const other = random.pick(Array.from(alphabet));
    switch (random.int(0, 3)) {
      case 0:
        characters.splice(at, 1);
        break;
      case 1:
        characters.splice(at, 0, other);
        break;
      case 2:
        characters.splice(at, 1, other);
        break;
      default:
        characters.splice(at, 0, characters[at] ?? other);
    }
  }
  return characters.join('');
};

export const maybeDamaged = (random: Random, text: string, alphabet: string, probability = 0.35): string =>
  random.chance(probability) ? damaged(random, text, alphabet) : text;

/** One number spelt in other ways: `1.0` and `1` are one number, and `10e-1` is too. */
export const respelt = (random: Random, value: number): Value =>
  random.chance(0.8) ? value : new RegoNumber(random.pick([`${value}.0`, `${value}e0`, `${value * 10}e-1`]));
