import type { Value } from '../../../services/pdp/policy/engine/value.ts';
import { awsGenerators } from './aws.ts';
import { cryptoGenerators } from './crypto.ts';
import { documentGenerators } from './documents.ts';
import { encodingGenerators } from './encoding.ts';
import type { Generators } from './generators.ts';
import type { Material } from './material.ts';
import { networkGenerators } from './network.ts';
import { randomOf, seedOf } from './random.ts';
import { textGenerators } from './text.ts';
import { timeGenerators } from './time.ts';
import { tokenGenerators } from './tokens.ts';
import { valueGenerators } from './values-of.ts';
import { anyValue } from './values.ts';

const GENERATORS: Generators = {
  ...awsGenerators,
  ...cryptoGenerators,
  ...documentGenerators,
  ...encodingGenerators,
  ...networkGenerators,
  ...textGenerators,
  ...timeGenerators,
  ...tokenGenerators,
  ...valueGenerators,
  'opa.runtime': () => [],
};

/** Sorted. */
export const PROBED_BUILTINS: readonly string[] = Object.keys(GENERATORS).sort();

/** How often one argument is a value of any type at all. */
const HOSTILE = 0.06;

/** The arguments of `count` calls; the same ones for the same seed. A built-in without arguments is called once. */
export const probesOf = (name: string, count: number, seed: number, material: Material): (readonly Value[])[] => {
  const generate = GENERATORS[name];
  if (generate === undefined) throw new RangeError(`no probes of ${name}`);
  const random = randomOf(seedOf(name) ^ seed);
  const probes = Array.from({ length: count }, () => {
    const args = [...generate(random, material)];
    if (args.length > 0 && random.chance(HOSTILE)) args[random.int(0, args.length - 1)] = anyValue(random, 2);
    return args;
  });
  return probes[0]?.length === 0 ? [[]] : probes;
};
