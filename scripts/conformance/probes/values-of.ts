import { RegoObject, type Value } from '../../../services/pdp/policy/engine/value.ts';
import type { Generator, Generators } from './generators.ts';
import type { Random } from './random.ts';
import { anyNumber, anyText, anyValue, collection, jsonValue, object, respelt } from './values.ts';

const near = (random: Random): Value =>
  random.chance(0.85) ? respelt(random, random.int(-30, 30)) : anyNumber(random);

const NODES: readonly Value[] = ['a', 'b', 'c', 'd', 1, 2, null, ['a']];

const graph = (random: Random): Value =>
  RegoObject.of(
    random.many(0, 5, () => [
      random.pick(NODES),
      random.chance(0.92) ? collection(random, () => random.pick(NODES)) : random.pick<Value>([null, 'a', object({})]),
    ]),
  );

const subsetOf = (random: Random, value: Value): Value => {
  if (value instanceof RegoObject)
    return RegoObject.of(
      value.entries
        .filter(() => random.chance(0.7))
        .map(([key, member]) => [key, random.chance(0.8) ? subsetOf(random, member) : anyValue(random, 1)]),
    );
  if (Array.isArray(value)) {
    const from = random.int(0, value.length);
    return value.slice(from, random.int(from, value.length)) as Value;
  }
  return value;
};

const cast: Generator = (random) => [anyValue(random, 2)];

const OPS = ['add', 'remove', 'replace', 'move', 'copy', 'test', 'unknown'];
const SEGMENTS = ['a', 'b', 'c', '0', '1', '2', '-', '-1', '01', '', 'a~1b', 'm~0n', '~2', 'é'];

const path = (random: Random): Value =>
  random.chance(0.8)
    ? random.many(0, 3, () => `/${random.pick(SEGMENTS)}`).join('')
    : random.chance(0.7)
      ? random.many(0, 3, () => (random.chance(0.6) ? random.pick(SEGMENTS) : anyValue(random, 1)))
      : anyText(random);

const document = (random: Random): Value => {
  const leaf = (): Value => (random.chance(0.6) ? random.int(0, 3) : anyValue(random, 1));
  return object({
    a: random.chance(0.5) ? random.many(0, 3, leaf) : leaf(),
    b: object({ a: leaf(), c: collection(random, leaf) }),
    'a/b': leaf(),
    'm~n': leaf(),
  });
};

const patch = (random: Random): Value =>
  random.many(0, 3, () => {
    const op = random.pick(OPS);
    const members: Record<string, Value> = { op, path: path(random) };
    if (random.chance(0.9) && ['add', 'replace', 'test'].includes(op))
      members['value'] = random.chance(0.5) ? random.int(0, 3) : anyValue(random, 2);
    if (random.chance(0.9) && ['move', 'copy'].includes(op)) members['from'] = path(random);
    return object(members);
  });

const INDENTS: readonly Value[] = ['', ' ', '  ', '\t', '>>', 'é'];

const marshalOptions = (random: Random): Value => {
  const options: Record<string, Value> = {};
  if (random.chance(0.6)) options['pretty'] = random.chance(0.8);
  if (random.chance(0.6)) options['indent'] = random.pick(INDENTS);
  if (random.chance(0.5)) options['prefix'] = random.pick(INDENTS);
  if (random.chance(0.08)) options['unknown'] = 1;
  if (random.chance(0.08)) options['indent'] = 2;
  return object(options);
};

export const valueGenerators: Generators = {
  'numbers.range_step': (random) => [
    near(random),
    near(random),
    random.chance(0.9) ? random.int(-3, 9) : anyNumber(random),
  ],
  'rand.intn': (random) => [anyText(random), random.chance(0.7) ? random.int(-3, 3) : anyNumber(random)],
  'graph.reachable_paths': (random) => [graph(random), collection(random, () => random.pick(NODES))],
  'object.subset': (random) => {
    const whole = random.chance(0.6) ? document(random) : anyValue(random, 3);
    return [whole, random.chance(0.75) ? subsetOf(random, whole) : anyValue(random, 2)];
  },
  'json.patch': (random) => [random.chance(0.85) ? document(random) : anyValue(random, 2), patch(random)],
  'json.marshal_with_options': (random) => [anyValue(random, 3), marshalOptions(random)],
  cast_array: cast,
  cast_boolean: cast,
  cast_null: cast,
  cast_object: cast,
  cast_set: cast,
  cast_string: cast,
  'yaml.marshal': (random) => [random.chance(0.8) ? jsonValue(random, 3) : anyValue(random, 3)],
};
