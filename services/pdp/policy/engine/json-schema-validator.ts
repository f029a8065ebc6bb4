import { BuiltinHalt, isNumber } from './builtin.ts';
import { membersByName } from './json-form.ts';
import { canonical, isIntegerText, type Schema } from './json-schema-compiler.ts';
import { FORMATS } from './json-schema-formats.ts';
import { compareNumbers } from './number.ts';
import { isArray, numberText, RegoObject, type Value } from './value.ts';
import { goGeneral } from './yaml-scalar.ts';
import { SCHEMA_ERROR, SCHEMA_ERROR_MOVED, SCHEMA_LOOK, SCHEMA_STEP, type Spend } from './prices.ts';

/** A rule that a document breaks; `field` is the way to it, `a.0.b`. */
export interface SchemaError {
  readonly type: string;
  readonly field: string;
  readonly description: string;
}

/** Steps of one validation: schemas that name themselves make more of them than the document has members. */
const MAX_STEPS = 500_000;
const MAX_DEPTH = 1000;
/** Digits that an exact division may take. */
const MAX_DIGITS = 2000;

/** What was found, and how well the document fits: of several schemas the best one's errors are told. */
class Result {
  readonly errors: SchemaError[] = [];
  score = 0;
  private readonly spend: Spend;

  constructor(spend: Spend) {
    this.spend = spend;
  }

  add(path: string, type: string, description: string): void {
    this.spend(SCHEMA_ERROR);
    const field = path.startsWith('(Root).') ? path.slice('(Root).'.length) : path;
    this.errors.push({ type, field, description: description.replace('{field}', () => field) });
    this.score -= 2;
  }

  get isValid(): boolean {
    return this.errors.length === 0;
  }

  merge(other: Result): void {
    this.spend(other.errors.length * SCHEMA_ERROR_MOVED);
    for (const error of other.errors) this.errors.push(error);
    this.score += other.score;
  }
}

const shown = (number: string): string => {
  const double = Number(number);
  return Number.isFinite(double) && double !== 0 ? goGeneral(double.toExponential()) : number;
};

const decimal = (text: string): readonly [bigint, number] => {
  const [, sign = '', whole = '', fraction = '', exponent = '0'] =
    /^(-?)(\d+)(?:\.(\d+))?(?:[eE]([+-]?\d+))?$/.exec(text) ?? [];
  const scale = Number(exponent) - fraction.length;
  if (whole.length + fraction.length + Math.abs(scale) > MAX_DIGITS)
    throw new BuiltinHalt('a number of too many digits');
  return [BigInt(`${sign}${whole}${fraction}`), scale];
};

const isMultiple = (number: string, of: string): boolean => {
  const [[a, x], [b, y]] = [decimal(number), decimal(of)];
  const shift = 10n ** BigInt(Math.abs(x - y));
  return x >= y ? (a * shift) % b === 0n : a % (b * shift) === 0n;
};

const runes = (text: string): number => {
  let count = 0;
  for (const _ of text) count += 1;
  return count;
};

const typeOf = (value: Value): string => {
  if (value === null) return 'null';
  if (isNumber(value)) return isIntegerText(numberText(value)) ? 'integer' : 'number';
  if (typeof value === 'object') return isArray(value) ? 'array' : 'object';
  return typeof value;
};

/** An exact division, in looks. */
const DIVISION = 40;

/** What a step looks up besides other schemas: names that the schema has, members of the value, parts of a text. */
const looksOf = (schema: Schema, value: Value): number => {
  const named = schema.properties.size + schema.required.length + (schema.enumeration?.length ?? 0);
  if (typeof value === 'string') return named + (value.length >> 3);
  if (value instanceof RegoObject) return named + value.entries.length * (1 + schema.patternProperties.length);
  return named + (schema.multipleOf === undefined ? 0 : DIVISION);
};

class Validator {
  private steps = 0;
  private depth = 0;
  private readonly spend: Spend;

  constructor(spend: Spend) {
    this.spend = spend;
  }

  /** A result of its own, for a schema that is only tried. */
  private tried(schema: Schema, value: Value, path: string): Result {
    const result = new Result(this.spend);
    this.check(schema, value, path, result);
    return result;
  }

  check(schema: Schema, value: Value, path: string, result: Result): void {
    this.steps += 1;
    this.spend(SCHEMA_STEP + looksOf(schema, value) * SCHEMA_LOOK);
    if (this.steps > MAX_STEPS || this.depth > MAX_DEPTH) throw new BuiltinHalt('a schema that takes too long');
    if (schema.pass !== undefined) {
      if (!schema.pass) result.add(path, 'false', 'False always fails validation');
      return;
    }
    this.depth += 1;
    if (schema.reference !== undefined) this.check(schema.reference, value, path, result);
    else this.checkOwn(schema, value, path, result);
    this.depth -= 1;
  }

  private checkOwn(schema: Schema, value: Value, path: string, result: Result): void {
    const type = typeOf(value);
    const { types } = schema;
    if (types.length > 0 && !types.includes(type) && !(type === 'integer' && types.includes('number'))) {
      const expected = types.length > 1 ? `[${types.join(',')}]` : types.join('');
      result.add(path, 'invalid_type', `Invalid type. Expected: ${expected}, given: ${type}`);
      return;
    }
    this.combinations(schema, value, path, result);
    if (isNumber(value)) checkNumber(schema, numberText(value), path, result);
    else if (value instanceof RegoObject) this.object(schema, value, path, result);
    else if (value !== null && typeof value === 'object' && isArray(value)) this.array(schema, value, path, result);
    this.common(schema, value, path, result);
    if (typeof value === 'string') checkString(schema, value, path, result);
    if (value instanceof RegoObject)
      for (const [name, property] of schema.properties) {
        const member = value.get(name);
        if (member !== undefined) this.check(property, member, `${path}.${name}`, result);
      }
    result.score += 1;
  }

  private common(schema: Schema, value: Value, path: string, result: Result): void {
    if (schema.constant !== undefined && canonical(this.spend, value) !== schema.constant)
      result.add(path, 'const', `{field} does not match: ${schema.constant}`);
    if (schema.enumeration !== undefined && !schema.enumeration.includes(canonical(this.spend, value)))
      result.add(path, 'enum', `{field} must be one of the following: ${schema.enumeration.join(', ')}`);
    const isFormat = schema.format === undefined ? undefined : FORMATS.get(schema.format);
    if (isFormat !== undefined && typeof value === 'string' && !isFormat(value, this.spend))
      result.add(path, 'format', `Does not match format '${schema.format}'`);
    result.score += 1;
  }

  private combinations(schema: Schema, value: Value, path: string, result: Result): void {
    const best = (results: readonly Result[]): Result | undefined => {
      let found: Result | undefined;
      for (const candidate of results) if (found === undefined || candidate.score > found.score) found = candidate;
      return found;
    };
    if (schema.anyOf.length > 0) {
      const failed: Result[] = [];
      const isAny = schema.anyOf.some((option) => {
        const tried = this.tried(option, value, path);
        if (!tried.isValid) failed.push(tried);
        return tried.isValid;
      });
      if (!isAny) {
        result.add(path, 'number_any_of', 'Must validate at least one schema (anyOf)');
        const closest = best(failed);
        if (closest !== undefined) result.merge(closest);
      }
    }
    if (schema.oneOf.length > 0) {
      const all = schema.oneOf.map((option) => this.tried(option, value, path));
      const valid = all.filter(({ isValid }) => isValid).length;
      if (valid !== 1) {
        result.add(path, 'number_one_of', 'Must validate one and only one schema (oneOf)');
        const closest = valid === 0 ? best(all) : undefined;
        if (closest !== undefined) result.merge(closest);
      }
    }
    if (schema.allOf.length > 0) {
      const all = schema.allOf.map((part) => this.tried(part, value, path));
      for (const part of all) result.merge(part);
      if (!all.every(({ isValid }) => isValid))
        result.add(path, 'number_all_of', 'Must validate all the schemas (allOf)');
    }
    if (schema.not !== undefined && this.tried(schema.not, value, path).isValid)
      result.add(path, 'number_not', 'Must not validate the schema (not)');
    if (value instanceof RegoObject) this.dependencies(schema, value, path, result);
    if (schema.if !== undefined) {
      const isIf = this.tried(schema.if, value, path).isValid;
      const branch = isIf ? schema.then : schema.else;
      const tried = branch === undefined ? undefined : this.tried(branch, value, path);
      if (tried?.isValid === false) {
        if (isIf) result.add(path, 'condition_then', 'Must validate "then" as "if" was valid');
        else result.add(path, 'condition_else', 'Must validate "else" as "if" was not valid');
        result.merge(tried);
      }
    }
    result.score += 1;
  }

  private dependencies(schema: Schema, value: RegoObject, path: string, result: Result): void {
    for (const [name, dependency] of schema.dependencies) {
      if (value.get(name) === undefined) continue;
      if (!('types' in dependency)) {
        for (const needed of dependency)
          if (value.get(needed) === undefined) result.add(path, 'missing_dependency', `Has a dependency on ${needed}`);
      } else this.check(dependency, value, path, result);
    }
  }

  private array(schema: Schema, value: readonly Value[], path: string, result: Result): void {
    const each = (item: Schema, from: number, to: number): void => {
      for (let i = from; i < to; i += 1) result.merge(this.tried(item, value[i] ?? null, `${path}.${i}`));
    };
    const { items } = schema;
    if (items !== undefined && 'types' in items) each(items, 0, value.length);
    else if (items !== undefined && items.length > 0) {
      items.slice(0, value.length).forEach((item, index) => each(item, index, index + 1));
      if (items.length < value.length) {
        if (schema.additionalItems === false)
          result.add(path, 'array_no_additional_items', 'No additional items allowed on array');
        else if (typeof schema.additionalItems === 'object') each(schema.additionalItems, items.length, value.length);
      }
    }
    if (schema.minItems !== undefined && value.length < schema.minItems)
      result.add(path, 'array_min_items', `Array must have at least ${schema.minItems} items`);
    if (schema.maxItems !== undefined && value.length > schema.maxItems)
      result.add(path, 'array_max_items', `Array must have at most ${schema.maxItems} items`);
    if (schema.uniqueItems === true) {
      const seen = new Map<string, number>();
      value.forEach((item, index) => {
        const text = canonical(this.spend, item);
        const before = seen.get(text);
        if (before !== undefined) result.add(path, 'unique', `array items[${before},${index}] must be unique`);
        seen.set(text, index);
      });
    }
    if (schema.contains !== undefined) this.contains(schema.contains, value, path, result);
    result.score += 1;
  }

  private contains(schema: Schema, value: readonly Value[], path: string, result: Result): void {
    let closest: Result | undefined;
    for (const [index, item] of value.entries()) {
      const tried = this.tried(schema, item, `${path}.${index}`);
      if (tried.isValid) return;
      if (closest === undefined || tried.score > closest.score) closest = tried;
    }
    result.add(path, 'contains', 'At least one of the items must match');
    if (closest !== undefined) result.merge(closest);
  }

  private object(schema: Schema, value: RegoObject, path: string, result: Result): void {
    const size = value.entries.length;
    if (schema.minProperties !== undefined && size < schema.minProperties)
      result.add(path, 'array_min_properties', `Must have at least ${schema.minProperties} properties`);
    if (schema.maxProperties !== undefined && size > schema.maxProperties)
      result.add(path, 'array_max_properties', `Must have at most ${schema.maxProperties} properties`);
    for (const name of schema.required)
      if (value.get(name) === undefined) result.add(path, 'required', `${name} is required`);
      else result.score += 1;
    for (const [key, member] of membersByName(value)) this.member(schema, key, member, path, result);
    if (schema.propertyNames !== undefined)
      for (const [key] of membersByName(value)) {
        const tried = this.tried(schema.propertyNames, key, path);
        if (tried.isValid) continue;
        result.add(path, 'invalid_property_name', `Property name of "${key}" does not match`);
        result.merge(tried);
      }
    result.score += 1;
  }

  private member(schema: Schema, key: string, member: Value, path: string, result: Result): void {
    const matching = schema.patternProperties.filter(({ matches }) => matches(key));
    for (const pattern of matching) result.merge(this.tried(pattern.schema, member, `${path}.${key}`));
    if (matching.length > 0) result.score += 1;
    if (matching.length > 0 || schema.properties.has(key)) return;
    if (schema.additionalProperties === false)
      result.add(path, 'additional_property_not_allowed', `Additional property ${key} is not allowed`);
    else if (typeof schema.additionalProperties === 'object')
      result.merge(this.tried(schema.additionalProperties, member, `${path}.${key}`));
  }
}

const checkNumber = (schema: Schema, value: string, path: string, result: Result): void => {
  const { multipleOf, minimum, exclusiveMinimum, maximum, exclusiveMaximum } = schema;
  if (multipleOf !== undefined && !isMultiple(value, multipleOf))
    result.add(path, 'multiple_of', `Must be a multiple of ${shown(multipleOf)}`);
  if (maximum !== undefined && compareNumbers(value, maximum) > 0)
    result.add(path, 'number_lte', `Must be less than or equal to ${shown(maximum)}`);
  if (exclusiveMaximum !== undefined && compareNumbers(value, exclusiveMaximum) >= 0)
    result.add(path, 'number_lt', `Must be less than ${shown(exclusiveMaximum)}`);
  if (minimum !== undefined && compareNumbers(value, minimum) < 0)
    result.add(path, 'number_gte', `Must be greater than or equal to ${shown(minimum)}`);
  if (exclusiveMinimum !== undefined && compareNumbers(value, exclusiveMinimum) <= 0)
    result.add(path, 'number_gt', `Must be greater than ${shown(exclusiveMinimum)}`);
  result.score += 1;
};

const checkString = (schema: Schema, value: string, path: string, result: Result): void => {
  if (schema.minLength !== undefined && runes(value) < schema.minLength)
    result.add(path, 'string_gte', `String length must be greater than or equal to ${schema.minLength}`);
  if (schema.maxLength !== undefined && runes(value) > schema.maxLength)
    result.add(path, 'string_lte', `String length must be less than or equal to ${schema.maxLength}`);
  if (schema.pattern?.matches(value) === false)
    result.add(path, 'pattern', `Does not match pattern '${schema.pattern.source}'`);
  result.score += 1;
};

/** The rules of a schema that a document breaks, in gojsonschema's words; none when it is valid. */
export const validateDocument = (spend: Spend, schema: Schema, document: Value): readonly SchemaError[] => {
  const result = new Result(spend);
  new Validator(spend).check(schema, document, '(Root)', result);
  return result.errors;
};
