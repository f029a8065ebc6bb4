import type { Value } from '../../../services/pdp/policy/engine/value.ts';
import type { Material } from './material.ts';
import type { Random } from './random.ts';

/** Makes the arguments of one call. */
export type Generator = (random: Random, material: Material) => readonly Value[];
export type Generators = Readonly<Record<string, Generator>>;
