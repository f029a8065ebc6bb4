import { RegoObject, RegoSet, type Value } from '../../../services/pdp/policy/engine/value.ts';
import type { Generators } from './generators.ts';
import type { Random } from './random.ts';
import { anyValue, collection, maybeDamaged } from './values.ts';

const address = (random: Random): string =>
  random.chance(0.65)
    ? random.pick(['10.0.0.', '10.0.1.', '192.168.1.', '0.0.0.', '255.255.255.', '224.0.0.']) +
      String(random.pick([0, 1, 2, 4, 8, 16, 64, 127, 128, 200, 255, 256]))
    : random.pick([
        '::',
        '::1',
        '2001:db8::',
        '2001:db8::1',
        'fe80::1',
        '::ffff:10.0.0.1',
        '::ffff:a00:1',
        '2001:0DB8::1',
        '1::2::3',
      ]);

const lengthFor = (random: Random, ip: string): number =>
  random.chance(0.9)
    ? random.pick(ip.includes(':') ? [64, 112, 120, 126, 127, 128] : [24, 25, 28, 30, 31, 32])
    : random.pick([0, 8, 33, 129]);

const range = (random: Random): string => {
  const ip = address(random);
  const text = random.chance(0.88) ? `${ip}/${lengthFor(random, ip)}` : ip;
  return maybeDamaged(random, text, '0123456789./:af', 0.12);
};

/** Ranges of 256 addresses at most: OPA lists each one. */
const smallRange = (random: Random): string => {
  const ip = address(random);
  const length = ip.includes(':') ? random.pick([120, 124, 127, 128]) : random.pick([24, 28, 30, 31, 32]);
  const text = `${ip}/${length}`;
  return random.chance(0.15) ? text.replace(/\d$/, '') + random.pick(['', '/', 'x', ' ']) : text;
};

const entry = (random: Random): Value => {
  if (random.chance(0.75)) return range(random);
  return random.chance(0.9) ? [range(random), random.int(0, 9)] : anyValue(random, 1);
};

const entries = (random: Random): Value => {
  const make = (): Value => entry(random);
  switch (random.int(0, 3)) {
    case 0:
      return range(random);
    case 1:
      return random.many(0, 4, make);
    case 2:
      return RegoSet.of(random.many(0, 4, make));
    default:
      return RegoObject.of(random.many(0, 4, () => [random.pick(['a', 'b', 'c', 'd']), make()]));
  }
};

export const networkGenerators: Generators = {
  'net.cidr_contains_matches': (random) => [entries(random), entries(random)],
  'net.cidr_expand': (random) => [smallRange(random)],
  'net.cidr_is_valid': (random) => [range(random)],
  'net.cidr_merge': (random) => [collection(random, () => range(random))],
};
