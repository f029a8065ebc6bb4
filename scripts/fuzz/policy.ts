import type { Random } from '../conformance/probes/random.ts';
import { printValue } from '../../services/pdp/policy/engine/value-text.ts';
import { anyValue, jsonValue, object } from '../conformance/probes/values.ts';
import type { Value } from '../../services/pdp/policy/engine/value.ts';

/** A rule as its parts, so that a smaller policy can be made of fewer of them. */
export interface Rule {
  /** What stands before the body, such as `p := x`. */
  readonly head: string;
  readonly body: readonly string[];
}

export interface FuzzCase {
  readonly rules: readonly Rule[];
  readonly data: Value;
  readonly input: Value;
}

/** OPA reads no byte-order mark in a source. */
export const sourceOf = (rules: readonly Rule[]): string =>
  [
    'package t',
    ...rules.map(({ head, body }) => (body.length === 0 ? head : `${head} if {\n\t${body.join('\n\t')}\n}`)),
  ]
    .join('\n\n')
    .replaceAll('\ufeff', String.raw`\ufeff`);

/** `index`: a whole number (`fraction-index`). */
type Kind = 'number' | 'index' | 'text' | 'flag' | 'list' | 'set' | 'object' | 'any';

interface Scope {
  readonly random: Random;
  /** Variables that have a value by now, with their kinds. */
  readonly variables: (readonly [name: string, kind: Kind])[];
  readonly functions: readonly string[];
  names: number;
}

const KINDS: readonly Exclude<Kind, 'index'>[] = ['number', 'text', 'flag', 'list', 'set', 'object', 'any'];

const PATHS = [
  'a',
  'b',
  'c',
  'a.b',
  'b[0]',
  'c.a',
  'list',
  'list[1]',
  'map',
  'map.k',
  'text',
  'num',
  'missing',
  'a["x y"]',
];

const reference = ({ random }: Scope): string => {
  const root = random.pick(['input', 'input', 'data.d']);
  return random.chance(0.9) ? `${root}.${random.pick(PATHS)}` : root;
};

const fresh = (scope: Scope): string => {
  scope.names += 1;
  return `v${scope.names}`;
};

/** Each call with the kinds of its arguments; `#` marks where they stand. */
const CALLS: Readonly<Record<Exclude<Kind, 'index'>, readonly (readonly [form: string, ...kinds: readonly Kind[]])[]>> =
  {
    number: [
      ['# + #', 'number', 'number'],
      ['# - #', 'number', 'number'],
      ['# * #', 'number', 'number'],
      ['# / #', 'number', 'number'],
      ['# % #', 'number', 'number'],
      ['abs(#)', 'number'],
      ['round(#)', 'number'],
      // `floor-ceil`.
      ['ceil(#)', 'index'],
      ['floor(#)', 'index'],
      ['count(#)', 'list'],
      ['sum(#)', 'list'],
      ['product(#)', 'list'],
      ['max(#)', 'list'],
      ['min(#)', 'set'],
      ['to_number(#)', 'any'],
      ['indexof(#, "a")', 'text'],
      ['bits.and(#, #)', 'index', 'index'],
      ['bits.lsh(#, 3)', 'index'],
      ['bits.negate(#)', 'index'],
      ['strings.count(#, "a")', 'text'],
      ['time.parse_duration_ns(#)', 'text'],
    ],
    text: [
      ['lower(#)', 'text'],
      ['upper(#)', 'text'],
      ['concat(#, #)', 'text', 'list'],
      ['replace(#, #, #)', 'text', 'text', 'text'],
      ['substring(#, #, #)', 'text', 'index', 'index'],
      ['trim(#, #)', 'text', 'text'],
      ['trim_left(#, #)', 'text', 'text'],
      ['trim_prefix(#, #)', 'text', 'text'],
      ['trim_suffix(#, #)', 'text', 'text'],
      ['trim_space(#)', 'text'],
      ['format_int(#, 16)', 'index'],
      ['type_name(#)', 'any'],
      ['base64.encode(#)', 'text'],
      ['urlquery.encode(#)', 'text'],
      ['strings.reverse(#)', 'text'],
      ['sprintf("%v|%v", [#, #])', 'text', 'text'],
      ['sprintf("%d %s", [#, #])', 'number', 'text'],
      ['hex.encode(#)', 'text'],
      ['yaml.marshal(#)', 'list'],
    ],
    flag: [
      ['contains(#, #)', 'text', 'text'],
      ['startswith(#, #)', 'text', 'text'],
      ['endswith(#, #)', 'text', 'text'],
      ['regex.match("^[a-z]+", #)', 'text'],
      ['glob.match("*.b", ["."], #)', 'text'],
      ['is_number(#)', 'any'],
      ['is_string(#)', 'any'],
      ['is_set(#)', 'any'],
      ['is_object(#)', 'any'],
      ['# in #', 'any', 'list'],
      ['object.subset(#, #)', 'object', 'object'],
      ['semver.is_valid(#)', 'any'],
      ['net.cidr_is_valid(#)', 'text'],
    ],
    list: [
      ['split(#, #)', 'text', 'text'],
      ['array.concat(#, #)', 'list', 'list'],
      ['array.slice(#, #, #)', 'list', 'index', 'index'],
      ['array.reverse(#)', 'list'],
      ['sort(#)', 'list'],
      ['regex.split("[,/]", #)', 'text'],
      ['regex.find_n("[a-z]", #, 2)', 'text'],
      ['numbers.range(1, 4)'],
      ['[x | some x in #]', 'list'],
      ['[[i, x] | some i, x in #]', 'list'],
      ['[#, #]', 'any', 'any'],
    ],
    set: [
      ['# | #', 'set', 'set'],
      ['# & #', 'set', 'set'],
      ['# - #', 'set', 'set'],
      ['{x | some x in #}', 'list'],
      ['{#, #}', 'any', 'any'],
      ['object.keys(#)', 'object'],
      ['{[i, x] | some i, x in #}', 'object'],
      ['net.cidr_merge([#])', 'text'],
    ],
    object: [
      ['object.union(#, #)', 'object', 'object'],
      ['object.remove(#, #)', 'object', 'list'],
      ['object.filter(#, #)', 'object', 'list'],
      ['{k: v | some k, v in #}', 'object'],
      ['{#: #}', 'any', 'any'],
      ['json.patch(#, [{"op": "add", "path": "/n", "value": #}])', 'object', 'any'],
      ['json.filter(#, ["a/b"])', 'object'],
      ['json.remove(#, ["a"])', 'object'],
      ['urlquery.decode_object(#)', 'text'],
    ],
    any: [
      ['object.get(#, #, #)', 'object', 'any', 'any'],
      ['#[#]', 'list', 'index'],
      ['#[#]', 'object', 'any'],
      ['yaml.unmarshal(#)', 'text'],
    ],
  };

const literal = ({ random }: Scope, kind: Kind): string => {
  for (let tries = 0; tries < 20; tries += 1) {
    const value = anyValue(random, 2);
    const text = printValue(value);
    const isKind =
      kind === 'any' ||
      (kind === 'number' && /^[-\d]/.test(text)) ||
      (kind === 'text' && text.startsWith('"')) ||
      (kind === 'flag' && /^[tf]/.test(text)) ||
      (kind === 'list' && text.startsWith('['));
    if (isKind) return text;
  }
  switch (kind) {
    case 'number':
      return '1.5';
    case 'text':
      return '"a,b"';
    case 'flag':
      return 'true';
    case 'set':
      return '{1, "a", [2]}';
    case 'object':
      return '{"a": 1, "b": {"a": [1, 2]}}';
    default:
      return '[1, "a", 1.0, null]';
  }
};

const expression = (scope: Scope, kind: Kind, depth: number): string => {
  if (kind === 'index') return String(scope.random.int(-3, 9));
  const { random, variables, functions } = scope;
  const known = variables.filter(([, of]) => of === kind || kind === 'any' || of === 'any');
  if (known.length > 0 && random.chance(0.3)) return random.pick(known)[0];
  if (random.chance(0.25)) return reference(scope);
  if (depth === 0 || random.chance(0.25)) return literal(scope, kind);
  if (functions.length > 0 && random.chance(0.08))
    return `${random.pick(functions)}(${expression(scope, 'any', depth - 1)})`;
  const from = kind === 'any' ? random.pick(KINDS) : kind;
  const [form, ...kinds] = random.pick(CALLS[from]);
  let next = 0;
  const text = form.replaceAll('#', () => {
    const argument = kinds[next] ?? 'any';
    next += 1;
    return expression(scope, argument, depth - 1);
  });
  return form.includes('(') || form.startsWith('[') || form.startsWith('{') || form.startsWith('#[')
    ? text
    : `(${text})`;
};

const assign = (scope: Scope): string => {
  const kind = scope.random.pick(KINDS);
  const text = expression(scope, kind, 2);
  const name = fresh(scope);
  scope.variables.push([name, kind]);
  return `${name} := ${text}`;
};

const iterate = (scope: Scope): string => {
  const text = expression(scope, scope.random.pick<Kind>(['list', 'set', 'object']), 1);
  const [key, value] = [fresh(scope), fresh(scope)];
  scope.variables.push([key, 'any'], [value, 'any']);
  return `some ${key}, ${value} in ${text}`;
};

const COMPARISONS = ['==', '!=', '<', '<=', '>', '>='];
const TESTS = ['e != null', 'is_number(e)', 'e < 5', 'e'];

const statement = (scope: Scope): string => {
  const { random } = scope;
  switch (random.int(0, 6)) {
    case 0:
    case 1:
      return assign(scope);
    case 2:
      return iterate(scope);
    case 3:
      return [expression(scope, 'any', 2), random.pick(COMPARISONS), expression(scope, 'any', 2)].join(' ');
    case 4:
      return `not ${expression(scope, 'flag', 1)}`;
    case 5:
      return `every e in ${expression(scope, 'list', 1)} { ${random.pick(TESTS)} }`;
    default:
      return expression(scope, 'flag', 2);
  }
};

const rule = (random: Random, index: number, functions: readonly string[]): Rule => {
  const scope: Scope = { random, variables: [], functions, names: 0 };
  const body = random.many(0, 4, () => statement(scope));
  const value = (depth: number): string => expression(scope, random.pick(KINDS), depth);
  switch (random.int(0, 3)) {
    case 0:
      return { head: `r${index} contains ${value(2)}`, body: body.length === 0 ? ['true'] : body };
    case 1:
      return {
        head: `r${index}[${expression(scope, 'text', 1)}] := ${value(2)}`,
        body: body.length === 0 ? ['true'] : body,
      };
    default:
      return { head: `r${index} := ${value(3)}`, body };
  }
};

const functionRule = (random: Random, name: string): Rule => {
  const scope: Scope = { random, variables: [['a', 'any']], functions: [], names: 0 };
  const body = random.many(0, 2, () => statement(scope));
  return { head: `${name}(a) := ${expression(scope, 'any', 2)}`, body };
};

const document = (random: Random): Value =>
  object({
    a: jsonValue(random, 2),
    b: random.many(0, 3, () => jsonValue(random, 1)),
    c: object({ a: jsonValue(random, 1) }),
    list: random.many(0, 4, () => jsonValue(random, 1)),
    map: object({ k: jsonValue(random, 1), 'x y': jsonValue(random, 1) }),
    text: printValue(jsonValue(random, 1)).replaceAll('"', ''),
    num: random.int(-5, 5),
  });

export const fuzzCaseOf = (random: Random): FuzzCase => {
  const functions = random.chance(0.4) ? ['f'] : [];
  const rules = [
    ...functions.map((name) => functionRule(random, name)),
    ...Array.from({ length: random.int(1, 4) }, (_, index) => rule(random, index, functions)),
  ];
  return {
    rules,
    data: object({ d: document(random) }),
    input: random.chance(0.9) ? document(random) : anyValue(random, 3),
  };
};
