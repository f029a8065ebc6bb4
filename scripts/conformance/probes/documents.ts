import { printValue } from '../../../services/pdp/policy/engine/value-text.ts';
import { RegoObject, type Value } from '../../../services/pdp/policy/engine/value.ts';
import type { Generator, Generators } from './generators.ts';
import type { Random } from './random.ts';
import { anyText, anyValue, jsonValue, maybeDamaged, object } from './values.ts';

const YAML = [
  'a: 1',
  'a: b\nc: [1, 2]',
  '- 1\n- two\n- 3.0',
  '{a: 1, b: [x, y]}',
  'a: |\n  text\n  more\n',
  'a: >-\n  folded\n  text',
  '"quoted\\n"',
  "'it''s'",
  'yes',
  'no',
  'on',
  'true',
  'True',
  'TRUE',
  '~',
  'null',
  'Null',
  '',
  '017',
  '0o17',
  '0x1F',
  '0b11',
  '1_000',
  '1e3',
  '.5',
  '-.inf',
  '.NaN',
  '+1',
  '2024-01-01',
  '12:30:45',
  'a: &x 1\nb: *x',
  'a: &x {k: 1}\nb:\n  <<: *x\n  m: 2',
  '? a\n: b',
  '? [1, 2]\n: x',
  '1: a\n2.5: b\ntrue: c',
  'null: x',
  '--- 1\n--- 2',
  '--- a\n...',
  '%YAML 1.1\n---\na',
  '!!str 1',
  '!!int "3"',
  '!custom x',
  '!!binary aGk=',
  'a: 1\na: 2',
  'a:\n	- b',
  'a: b: c',
  '[1, 2',
  '# only a comment',
  'a: "\\u00e9\\x41"',
  'a: 123456789012345678901234567890',
  'a: 1.10',
  '- - 1\n  - 2\n- 3',
  'a:\n- 1\n- 2',
  'key with spaces: v',
  'é: ü',
  '👍: 1',
  'a: "b" # c',
  '"a": \'b\'',
  '@a',
  '`a',
  'a: %b',
];

const yamlText: Generator = (random) => [
  random.chance(0.85)
    ? maybeDamaged(random, random.pick(YAML), ':-#&*!|>\'"%@ \n[]{},?01a')
    : JSON.stringify(anyText(random)),
];

const TYPES = ['string', 'number', 'integer', 'boolean', 'null', 'array', 'object'];
const FORMATS = ['date', 'date-time', 'email', 'hostname', 'ipv4', 'ipv6', 'uri', 'uuid', 'regex', 'time', 'unknown'];

const schema = (random: Random, depth: number): Value => {
  if (random.chance(0.06)) return random.pick<Value>([true, false, object({})]);
  const inner = (): Value => (depth > 0 ? schema(random, depth - 1) : object({ type: random.pick(TYPES) }));
  const members: Record<string, Value> = {};
  if (random.chance(0.75))
    members['type'] = random.chance(0.85) ? random.pick(TYPES) : random.many(1, 2, () => random.pick(TYPES));
  const optional: Readonly<Record<string, () => Value>> = {
    properties: () => object({ a: inner(), b: inner() }),
    required: () => random.many(1, 2, () => random.pick(['a', 'b', 'c'])),
    additionalProperties: () => random.pick<Value>([true, false, object({ type: 'string' })]),
    items: inner,
    minItems: () => random.int(0, 3),
    maxItems: () => random.int(0, 3),
    uniqueItems: () => true,
    minLength: () => random.int(0, 4),
    maxLength: () => random.int(0, 4),
    pattern: () => random.pick(['^a', 'b$', '[0-9]+', '(']),
    minimum: () => random.int(-2, 5),
    maximum: () => random.int(0, 9),
    exclusiveMinimum: () => random.pick<Value>([true, 2]),
    multipleOf: () => random.pick<Value>([2, 3, 0]),
    enum: () => random.many(1, 3, () => jsonValue(random, 1)),
    const: () => jsonValue(random, 1),
    format: () => random.pick(FORMATS),
    allOf: () => [inner(), inner()],
    anyOf: () => [inner(), inner()],
    oneOf: () => [inner(), inner()],
    not: inner,
    minProperties: () => random.int(0, 2),
    maxProperties: () => random.int(0, 2),
    dependencies: () => object({ a: ['b'] }),
    patternProperties: () => object({ '^a': inner() }),
    definitions: () => object({ d: inner() }),
    $ref: () => random.pick(['#/definitions/d', '#', '#/nowhere']),
    if: inner,
    else: inner,
  };
  for (const keyword of random.many(0, 3, () => random.pick(Object.keys(optional)))) {
    const make = optional[keyword];
    if (make !== undefined) members[keyword] = make();
  }
  if (random.chance(0.06)) return RegoObject.of([...Object.entries(members), ['then', inner()]]);
  return object(members);
};

const FORMATTED = [
  '2024-02-29',
  '2024-02-30',
  '2024-01-01T00:00:00Z',
  'a@example.com',
  'example.com',
  '-x.com',
  '127.0.0.1',
  '256.0.0.1',
  '::1',
  'http://x/y',
  'not a uri',
  'f47ac10b-58cc-4372-a567-0e02b2c3d479',
  '12:30:00Z',
  '[a-z',
];

const instance = (random: Random): Value => {
  if (random.chance(0.2)) return random.pick(FORMATTED);
  if (random.chance(0.5)) return object({ a: jsonValue(random, 1), b: jsonValue(random, 1) });
  return jsonValue(random, 2);
};

/** As a value, or as its JSON text. */
const either = (random: Random, value: Value, text: string): Value => (random.chance(0.75) ? value : text);

const SCHEMAS = [
  'type Query { a: Int }',
  'type Query { a(x: Int = 1, y: [String!]!): [Item] } type Item { id: ID! n: Float }',
  'schema { query: Q } type Q { a: String }',
  'interface N { id: ID } type Query implements N { id: ID a: E } enum E { A B }',
  'type Query { u: U } union U = A | B type A { x: Int } type B { y: Int }',
  '"""doc""" type Query { "field doc" a: Int @deprecated(reason: "old") }',
  'input I { a: Int = 1 b: [Int] } type Query { f(i: I): Boolean }',
  'scalar Date type Query { d: Date }',
  'directive @d(x: Int) on FIELD | FIELD_DEFINITION type Query { a: Int @d(x: 1) }',
  'type Query { a: Int } extend type Query { b: String }',
  'type Mutation { m: Int } type Query { q: Int }',
  'type Query { a: Missing }',
  'type Query {',
  'type Query { a: Int } type Query { b: Int }',
  '',
  'union U',
  'type Query { a: Int # comment\n }',
  'subscription',
];

const DOCUMENTS = [
  '{ a }',
  'query { a }',
  'query Q($x: Int = 1) { a(x: $x) { id n } }',
  '{ a { id } b }',
  'mutation { m }',
  '{ u { ... on A { x } ... on B { y } } }',
  '{ ...F } fragment F on Query { a }',
  '{ a @include(if: true) }',
  '{ x: a y: a }',
  '{ f(i: {a: 1, b: [1, 2]}) }',
  'subscription { s }',
  '{ a(x: "str", y: """block\n  text""") }',
  'query A { a } query B { a }',
  '{ }',
  '{ a',
  '{ id a }',
  '{ q }',
  '{ d }',
  '{ a(x: 1.5e3, y: [null, true, ENUM]) }',
  '{ __typename __schema { types { name } } }',
  'query ($v: [Int!]! = [1]) { a }',
  '{ a # comment\n }',
  '',
  '{ missing }',
  '{ a a }',
  '{ a(x: -1) }',
];

const DAMAGE = '{}()[]:!$@.|"a1 \n#';
const graphqlSchema = (random: Random): string => maybeDamaged(random, random.pick(SCHEMAS), DAMAGE, 0.15);
const graphqlQuery = (random: Random): string => maybeDamaged(random, random.pick(DOCUMENTS), DAMAGE, 0.15);
const both: Generator = (random) => [graphqlQuery(random), graphqlSchema(random)];

export const documentGenerators: Generators = {
  'yaml.unmarshal': yamlText,
  'yaml.is_valid': (random, material) => (random.chance(0.9) ? yamlText(random, material) : [anyValue(random)]),
  'json.verify_schema': (random) => {
    const made = schema(random, 2);
    return [either(random, made, printValue(made))];
  },
  'json.match_schema': (random) => {
    const [document, made] = [instance(random), schema(random, 2)];
    return [either(random, document, printValue(document)), either(random, made, printValue(made))];
  },
  'graphql.parse': both,
  'graphql.parse_and_verify': both,
  'graphql.is_valid': both,
  'graphql.parse_query': (random) => [graphqlQuery(random)],
  'graphql.parse_schema': (random) => [graphqlSchema(random)],
  'graphql.schema_is_valid': (random) => [graphqlSchema(random)],
};
