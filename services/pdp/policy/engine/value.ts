import { compareNumbers } from './number.ts';

/**
 * A number that is no safe integer, as its text: a double would lose digits. JSON's number grammar; what OPA's module
 * prints (`.5`) is brought into it.
 */
export class RegoNumber {
  readonly text: string;
  constructor(text: string) {
    this.text = text;
  }
}

/** A set: its members sorted as OPA sorts them, each once. */
export class RegoSet {
  readonly items: readonly Value[];
  private constructor(items: readonly Value[]) {
    this.items = items;
  }

  static of(members: Iterable<Value>): RegoSet {
    const sorted = [...members].sort(compareValues);
    return new RegoSet(
      sorted.filter((item, index) => index === 0 || compareValues(sorted[index - 1] ?? null, item) !== 0),
    );
  }

  has(wanted: Value): boolean {
    return find(this.items, wanted, (item) => item) !== undefined;
  }
}

/** An object: its members sorted by key as OPA sorts them. Keys may be any value. */
export class RegoObject {
  readonly entries: readonly (readonly [key: Value, value: Value])[];
  private constructor(entries: readonly (readonly [Value, Value])[]) {
    this.entries = entries;
  }

  /** The last of equal keys wins. */
  static of(members: Iterable<readonly [Value, Value]>): RegoObject {
    const sorted = [...members].sort(([a], [b]) => compareValues(a, b));
    return new RegoObject(
      sorted.filter((entry, index) => {
        const next = sorted[index + 1];
        return next === undefined || compareValues(entry[0], next[0]) !== 0;
      }),
    );
  }

  get(wanted: Value): Value | undefined {
    return find(this.entries, wanted, ([key]) => key)?.[1];
  }
}

/**
 * A Rego value. Numbers are `number` exactly when they are safe integers (never -0), else `RegoNumber`. Strings hold no
 * lone surrogates. Values are never changed once made.
 */
export type Value = null | boolean | number | RegoNumber | string | readonly Value[] | RegoObject | RegoSet;

const find = <T>(sorted: readonly T[], wanted: Value, keyOf: (item: T) => Value): T | undefined => {
  let low = 0;
  let high = sorted.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    const item = sorted[middle];
    if (item === undefined) return undefined;
    const order = compareValues(keyOf(item), wanted);
    if (order === 0) return item;
    if (order < 0) low = middle + 1;
    else high = middle;
  }
  return undefined;
};

export const isArray = (value: Value): value is readonly Value[] => Array.isArray(value);

/** OPA's order of types (v1/ast/compare.go): null, boolean, number, string, array, object, set. */
const rank = (value: Value): number => {
  if (typeof value === 'number') return 2;
  if (typeof value === 'string') return 3;
  if (value === null) return 0;
  if (typeof value === 'boolean') return 1;
  if (isArray(value)) return 4;
  if (value instanceof RegoNumber) return 2;
  return value instanceof RegoObject ? 5 : 6;
};

/** By Unicode code points, which is the order of the UTF-8 bytes; JavaScript's own order is that of UTF-16 units. */
export const compareStrings = (a: string, b: string): number => {
  if (a === b) return 0;
  const length = Math.min(a.length, b.length);
  for (let i = 0; i < length; i += 1) {
    const x = a.charCodeAt(i);
    const y = b.charCodeAt(i);
    if (x === y) continue;
    // A surrogate stands for a code point above all others.
    const isHighX = x >= 0xd800 && x < 0xe000;
    const isHighY = y >= 0xd800 && y < 0xe000;
    if (isHighX !== isHighY) return isHighX ? 1 : -1;
    return x < y ? -1 : 1;
  }
  return a.length < b.length ? -1 : 1;
};

const compareLists = (a: readonly Value[], b: readonly Value[]): number => {
  const length = Math.min(a.length, b.length);
  for (let i = 0; i < length; i += 1) {
    const order = compareValues(a[i] ?? null, b[i] ?? null);
    if (order !== 0) return order;
  }
  return Math.sign(a.length - b.length);
};

/** Key, value, key, value … as OPA compares objects: all keys are not compared first. */
const compareObjects = (a: RegoObject, b: RegoObject): number => {
  const length = Math.min(a.entries.length, b.entries.length);
  for (let i = 0; i < length; i += 1) {
    const [x, y] = [a.entries[i], b.entries[i]];
    if (x === undefined || y === undefined) break;
    const order = compareValues(x[0], y[0]) || compareValues(x[1], y[1]);
    if (order !== 0) return order;
  }
  return Math.sign(a.entries.length - b.entries.length);
};

/** OPA's total order over values; 0 when equal (`1` and `1.0` are). */
export const compareValues = (a: Value, b: Value): number => {
  if (a === b) return 0;
  if (typeof a === 'number' && typeof b === 'number') return a < b ? -1 : 1;
  if (typeof a === 'string' && typeof b === 'string') return compareStrings(a, b);
  if (Array.isArray(a) && Array.isArray(b)) return compareLists(a, b);
  const order = rank(a) - rank(b);
  if (order !== 0) return Math.sign(order);
  if (typeof a === 'boolean') return a ? 1 : -1;
  if (a instanceof RegoSet && b instanceof RegoSet) return compareLists(a.items, b.items);
  if (a instanceof RegoObject && b instanceof RegoObject) return compareObjects(a, b);
  return compareNumbers(numberText(a), numberText(b));
};

/** The text of a number; throws on any other value. */
export const numberText = (value: Value): string => {
  if (typeof value === 'number') return String(value);
  if (value instanceof RegoNumber) return value.text;
  throw new TypeError('not a number');
};

/** A JSON number's text as a value. */
export const numberOf = (text: string): number | RegoNumber => {
  if (/^-?\d{1,16}$/.test(text)) {
    const value = Number(text);
    if (Number.isSafeInteger(value) && String(value) === text) return value;
  }
  return new RegoNumber(text);
};

export const integerOf = (value: bigint): number | RegoNumber => numberOf(value.toString());
