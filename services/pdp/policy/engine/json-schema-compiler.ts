import { BuiltinError, BuiltinHalt, isNumber } from './builtin.ts';
import { jsonText, membersByName } from './json-form.ts';
import { compilePattern } from './json-schema-formats.ts';
import { SchemaPool } from './json-schema-pool.ts';
import { compareNumbers } from './number.ts';
import { isArray, numberText, RegoObject, type Value } from './value.ts';
import { jsonFloat } from './yaml-scalar.ts';
import { SCHEMA_COMPARED, type Spend } from './prices.ts';

/** A compiled schema of OPA's dialect: drafts 4, 6 and 7, or a mixture of them when `$schema` names none. */
export interface Schema {
  /** A schema that is `true` or `false`. */
  pass?: boolean;
  /** What `$ref` names; then nothing else counts. */
  reference?: Schema;
  readonly types: string[];
  readonly properties: Map<string, Schema>;
  additionalProperties?: boolean | Schema;
  readonly patternProperties: { readonly matches: (text: string) => boolean; readonly schema: Schema }[];
  propertyNames?: Schema;
  readonly dependencies: Map<string, readonly string[] | Schema>;
  items?: Schema | readonly Schema[];
  additionalItems?: boolean | Schema;
  contains?: Schema;
  /** Numbers as their JSON text. */
  multipleOf?: string;
  minimum?: string;
  exclusiveMinimum?: string;
  maximum?: string;
  exclusiveMaximum?: string;
  minLength?: number;
  maxLength?: number;
  minProperties?: number;
  maxProperties?: number;
  minItems?: number;
  maxItems?: number;
  pattern?: { readonly source: string; readonly matches: (text: string) => boolean };
  format?: string;
  required: readonly string[];
  uniqueItems?: boolean;
  /** Values as `canonical` text. */
  constant?: string;
  enumeration?: readonly string[];
  oneOf: readonly Schema[];
  anyOf: readonly Schema[];
  allOf: readonly Schema[];
  not?: Schema;
  if?: Schema;
  then?: Schema;
  else?: Schema;
}

const MAX_DEPTH = 512;
const TYPES = ['array', 'boolean', 'integer', 'number', 'null', 'object', 'string'] as const;

const fail = (message: string): never => {
  throw new BuiltinError(message);
};

const invalidType = (expected: string, given: string): never =>
  fail(`Invalid type. Expected: ${expected}, given: ${given}`);

/** JSON text in which equal values are equal: numbers are doubles. */
export const canonical = (spend: Spend, value: Value): string => {
  spend(SCHEMA_COMPARED + (typeof value === 'string' ? value.length : 0));
  if (isNumber(value)) {
    const double = Number(numberText(value));
    return Number.isFinite(double) ? numberText(jsonFloat(double)) : fail('no number of 64 bits');
  }
  if (value === null || typeof value !== 'object') return jsonText(value);
  if (isArray(value)) return `[${value.map((item) => canonical(spend, item)).join(',')}]`;
  if (!(value instanceof RegoObject)) return fail('no JSON value');
  return `{${value.entries.map(([key, member]) => `${jsonText(key)}:${canonical(spend, member)}`).join(',')}}`;
};

const isSchema = (value: Value): boolean => typeof value === 'boolean' || value instanceof RegoObject;
const isList = (value: Value | undefined): value is readonly Value[] =>
  value !== undefined && value !== null && typeof value === 'object' && isArray(value);

/** Whether the text of a number stands for an integer. */
export const isIntegerText = (text: string): boolean => {
  const [, whole = '', fraction = '', exponentText = '0'] = /^-?(\d+)(?:\.(\d+))?(?:[eE]([+-]?\d+))?$/.exec(text) ?? [];
  const digits = whole + fraction;
  // Not by a pattern: it would try every run of zeros.
  let end = digits.length;
  while (end > 0 && digits.charAt(end - 1) === '0') end -= 1;
  return end === 0 || end - whole.length <= Number(exponentText);
};

const empty = (): Schema => ({
  types: [],
  properties: new Map(),
  patternProperties: [],
  dependencies: new Map(),
  required: [],
  oneOf: [],
  anyOf: [],
  allOf: [],
});

class Compiler {
  private readonly pool: SchemaPool;
  private readonly references = new Map<string, Schema>();
  private readonly spend: Spend;

  constructor(document: Value, spend: Spend) {
    this.spend = spend;
    this.pool = new SchemaPool(document);
  }

  compile(node: Value, draft: number, depth = 1): Schema {
    if (depth > MAX_DEPTH) throw new BuiltinHalt('a schema that is nested too deep');
    return this.fill(empty(), node, draft, depth);
  }

  private fill(schema: Schema, node: Value, draft: number, depth: number): Schema {
    if (draft >= 6 && typeof node === 'boolean') {
      schema.pass = node;
      return schema;
    }
    if (!(node instanceof RegoObject)) return fail('Expected: Valid Schema, given: Invalid JSON');
    const child = (value: Value): Schema => this.compile(value, draft, depth + 1);
    const idKey = draft === 4 || (draft > 7 && node.get('id') !== undefined) ? 'id' : '$id';
    stringMember(node, idKey);
    this.definitions(node, child);
    stringMember(node, 'title');
    stringMember(node, 'description');
    if (this.isReference(schema, node, draft, depth)) return schema;
    types(schema, node);
    this.objects(schema, node, draft, child);
    this.arrays(schema, node, child);
    numbers(schema, node, draft);
    strings(schema, node, this.spend);
    sizes(schema, node);
    values(schema, node, draft, this.spend);
    const contains = node.get('contains');
    if (contains !== undefined && draft >= 6) schema.contains = child(contains);
    for (const key of ['oneOf', 'anyOf', 'allOf'] as const) schema[key] = listMember(node, key).map(child);
    for (const key of draft >= 7 ? (['not', 'if', 'then', 'else'] as const) : (['not'] as const)) {
      const value = node.get(key);
      if (value === undefined) continue;
      schema[key] = isSchema(value) ? child(value) : fail(`${key} must be of an object`);
    }
    return schema;
  }

  private definitions(node: RegoObject, child: (value: Value) => Schema): void {
    const definitions = node.get('definitions');
    if (definitions === undefined) return;
    if (!(definitions instanceof RegoObject)) return invalidType('Array Of Schemas', 'definitions');
    for (const [, value] of definitions.entries)
      if (isSchema(value)) child(value);
      else invalidType('Array Of Schemas', 'definitions');
  }

  /** Whether the schema is a reference to another and nothing else. */
  private isReference(schema: Schema, node: RegoObject, draft: number, depth: number): boolean {
    if (stringMember(node, '$ref') === undefined) return false;
    const reference = this.pool.referenceOf(node);
    const known = this.references.get(reference);
    if (known !== undefined) {
      schema.reference = known;
      return false;
    }
    const target = empty();
    this.references.set(reference, target);
    const found = this.pool.find(reference);
    if (!isSchema(found.node)) fail('Valid Schema must be of type object');
    if (depth >= MAX_DEPTH) throw new BuiltinHalt('a schema that is nested too deep');
    schema.reference = this.fill(target, found.node, found.draft ?? draft, depth + 1);
    return true;
  }

  private objects(schema: Schema, node: RegoObject, draft: number, child: (value: Value) => Schema): void {
    const properties = node.get('properties');
    if (properties !== undefined) {
      if (!(properties instanceof RegoObject)) return fail('Properties must be of type object');
      for (const [key, value] of membersByName(properties)) schema.properties.set(key, child(value));
    }
    const additional = node.get('additionalProperties');
    if (typeof additional === 'boolean') schema.additionalProperties = additional;
    else if (additional instanceof RegoObject) schema.additionalProperties = child(additional);
    else if (additional !== undefined) invalidType('boolean/Valid Schema', 'additionalProperties');
    const patterns = node.get('patternProperties');
    if (patterns !== undefined) {
      if (!(patterns instanceof RegoObject)) return invalidType('Valid Schema', 'patternProperties');
      for (const [key, value] of membersByName(patterns)) {
        const matches = compilePattern(key, this.spend) ?? fail(`Invalid regex pattern '${key}'`);
        schema.patternProperties.push({ matches, schema: child(value) });
      }
    }
    const names = node.get('propertyNames');
    if (names !== undefined && draft >= 6)
      schema.propertyNames = isSchema(names) ? child(names) : invalidType('Valid Schema', 'patternProperties');
    const dependencies = node.get('dependencies');
    if (dependencies === undefined) return;
    if (!(dependencies instanceof RegoObject)) return fail('dependencies must be of type object');
    for (const [key, value] of membersByName(dependencies)) {
      const wrong = (): never => fail('Dependency must be of type Schema Or Array Of Strings');
      if (isList(value))
        schema.dependencies.set(
          key,
          value.map((item) => (typeof item === 'string' ? item : wrong())),
        );
      else schema.dependencies.set(key, isSchema(value) ? child(value) : wrong());
    }
  }

  private arrays(schema: Schema, node: RegoObject, child: (value: Value) => Schema): void {
    const wrong = (): never => invalidType('Valid Schema/Array Of Schemas', 'items');
    const items = node.get('items');
    if (isList(items)) schema.items = items.map((item) => (isSchema(item) ? child(item) : wrong()));
    else if (items !== undefined) schema.items = isSchema(items) ? child(items) : wrong();
    const additional = node.get('additionalItems');
    if (typeof additional === 'boolean') schema.additionalItems = additional;
    else if (additional instanceof RegoObject) schema.additionalItems = child(additional);
    else if (additional !== undefined) invalidType('boolean/Valid Schema', 'additionalItems');
  }
}

const stringMember = (node: RegoObject, key: string): string | undefined => {
  const value = node.get(key);
  return value === undefined || typeof value === 'string' ? value : invalidType('string', key);
};

const listMember = (node: RegoObject, key: string): readonly Value[] => {
  const value = node.get(key);
  if (value === undefined) return [];
  return isList(value) ? value : fail(`${key} must be of an array`);
};

const types = (schema: Schema, node: RegoObject): void => {
  const value = node.get('type');
  if (value === undefined) return;
  for (const item of isList(value) ? value : [value]) {
    if (typeof item !== 'string') return invalidType('type', 'string/Array Of Strings');
    if (!(TYPES as readonly string[]).includes(item))
      fail(`has a primitive type that is NOT VALID -- given: /${item}/ Expected valid values are:[${TYPES.join(' ')}]`);
    if (schema.types.includes(item)) fail(`${item} type is duplicated`);
    schema.types.push(item);
  }
};

const numbers = (schema: Schema, node: RegoObject, draft: number): void => {
  const multiple = node.get('multipleOf');
  if (multiple !== undefined) {
    const text = isNumber(multiple) ? numberText(multiple) : invalidType('Number', 'multipleOf');
    if (compareNumbers(text, '0') <= 0) fail('multipleOf must be strictly greater than 0');
    schema.multipleOf = text;
  }
  for (const [key, exclusiveKey] of [
    ['minimum', 'exclusiveMinimum'],
    ['maximum', 'exclusiveMaximum'],
  ] as const) {
    const bound = node.get(key);
    if (bound !== undefined) schema[key] = isNumber(bound) ? numberText(bound) : fail(`${key} must be of a Number`);
    const exclusive = node.get(exclusiveKey);
    if (exclusive === undefined) continue;
    if (typeof exclusive === 'boolean' && (draft === 4 || draft > 7)) {
      const own = schema[key] ?? fail(`${exclusiveKey} cannot be used without ${key}`);
      if (!exclusive) continue;
      schema[exclusiveKey] = own;
      delete schema[key];
    } else if (isNumber(exclusive) && draft !== 4) schema[exclusiveKey] = numberText(exclusive);
    else invalidType(draft === 4 ? 'boolean' : draft > 7 ? 'boolean/number' : 'number', exclusiveKey);
  }
};

const count = (node: RegoObject, key: string): number | undefined => {
  const value = node.get(key);
  if (value === undefined) return undefined;
  // Go reads the text as an integer: `1.0` is none.
  const text = isNumber(value) ? numberText(value) : '';
  if (!/^-?\d+$/.test(text) || BigInt.asIntN(64, BigInt(text)) !== BigInt(text))
    return fail(`${key} must be of an integer`);
  return text.startsWith('-') && text !== '-0' ? fail(`${key} must be greater than or equal to 0`) : Number(text);
};

const range = (
  schema: Schema,
  node: RegoObject,
  low: 'minLength' | 'minProperties' | 'minItems',
  high: 'maxLength' | 'maxProperties' | 'maxItems',
): void => {
  const [least, most] = [count(node, low), count(node, high)];
  if (least !== undefined) schema[low] = least;
  if (most !== undefined) schema[high] = most;
  // gojsonschema does not compare the sizes of arrays.
  if (low !== 'minItems' && least !== undefined && most !== undefined && least > most)
    fail(`${low} cannot be greater than ${high}`);
};

const strings = (schema: Schema, node: RegoObject, spend: Spend): void => {
  range(schema, node, 'minLength', 'maxLength');
  const source = stringMember(node, 'pattern');
  if (source !== undefined) {
    const matches = compilePattern(source, spend) ?? fail('pattern must be a valid regex');
    schema.pattern = { source, matches };
  }
  const format = stringMember(node, 'format');
  if (format !== undefined) schema.format = format;
};

const sizes = (schema: Schema, node: RegoObject): void => {
  range(schema, node, 'minProperties', 'maxProperties');
  const required = listMember(node, 'required').map((item) =>
    typeof item === 'string' ? item : invalidType('string', 'required'),
  );
  if (new Set(required).size < required.length) fail('required items must be unique');
  schema.required = required;
  range(schema, node, 'minItems', 'maxItems');
  const unique = node.get('uniqueItems');
  if (unique !== undefined)
    schema.uniqueItems = typeof unique === 'boolean' ? unique : fail('uniqueItems must be of a boolean');
};

const values = (schema: Schema, node: RegoObject, draft: number, spend: Spend): void => {
  const constant = node.get('const');
  if (constant !== undefined && draft >= 6) schema.constant = canonical(spend, constant);
  if (node.get('enum') === undefined) return;
  const members = listMember(node, 'enum').map((member) => canonical(spend, member));
  if (new Set(members).size < members.length) fail('enum items must be unique');
  schema.enumeration = members;
};

/** Throws `BuiltinError` with gojsonschema's text where the document is no schema that it takes. */
export const compileSchema = (spend: Spend, document: Value): Schema => {
  const compiler = new Compiler(document, spend);
  return compiler.compile(document, SchemaPool.draftOf(document) ?? Infinity);
};
