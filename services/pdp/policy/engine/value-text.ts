import { isArray, numberOf, numberText, RegoNumber, RegoObject, RegoSet, type Value } from './value.ts';

/** Deeper text is refused: the reader and the printer recurse. */
export const MAX_VALUE_DEPTH = 512;

const isDigit = (code: number): boolean => code >= 0x30 && code <= 0x39;

/**
 * Reads what a policy module dumps with `opa_value_dump`: JSON, and beside it sets (`{1, 2}`, `set()`), keys of any type
 * and numbers without a leading zero. Throws `RangeError` on anything else. `willOrder` is told of each set, and of the
 * keys of each object, before they are put in order: how many, and how many characters they have together.
 */
export const parseValue = (text: string, willOrder?: (count: number, chars: number) => void): Value => {
  let at = 0;
  const fail = (why: string): never => {
    throw new RangeError(`no value at character ${at}: ${why}`);
  };
  const skip = (): void => {
    for (;;) {
      const code = text.charCodeAt(at);
      if (code !== 0x20 && code !== 0x0a && code !== 0x0d && code !== 0x09) return;
      at += 1;
    }
  };
  const take = (word: string): boolean => {
    if (!text.startsWith(word, at)) return false;
    at += word.length;
    return true;
  };
  const string = (): string => {
    const start = at;
    for (at += 1; ; at += 1) {
      const code = text.charCodeAt(at);
      if (Number.isNaN(code)) return fail('the string does not end');
      if (code === 0x5c) at += 1;
      else if (code === 0x22) break;
    }
    at += 1;
    const raw = text.slice(start, at);
    if (!raw.includes('\\')) return raw.slice(1, -1);
    try {
      return JSON.parse(raw) as string;
    } catch {
      return fail('a malformed string');
    }
  };
  const number = (): Value => {
    const start = at;
    while (isDigit(text.charCodeAt(at)) || '+-.eE'.includes(text.charAt(at) || ' ')) at += 1;
    const raw = text.slice(start, at);
    const [, sign = '', whole = '', rest = ''] = /^(-?)(\d*)((?:\.\d*)?(?:[eE][+-]?\d+)?)$/.exec(raw) ?? [];
    if (whole === '' && !/^\.\d/.test(rest)) return fail('a malformed number');
    return numberOf(`${sign}${whole === '' ? '0' : whole}${rest}`);
  };
  const list = (end: string, depth: number): Value[] => {
    const items: Value[] = [];
    for (skip(); !take(end); skip()) {
      if (items.length > 0) {
        if (!take(',')) fail(`, or ${end} expected`);
      }
      items.push(value(depth));
    }
    return items;
  };
  const braces = (depth: number): Value => {
    const start = at;
    skip();
    if (take('}')) return RegoObject.of([]);
    const first = value(depth);
    skip();
    if (!take(':')) {
      skip();
      if (take('}')) return RegoSet.of([first]);
      if (!take(',')) fail(', or } expected');
      const items = [first, ...list('}', depth)];
      willOrder?.(items.length, at - start);
      return RegoSet.of(items);
    }
    let keyChars = at - start;
    const entries: (readonly [Value, Value])[] = [[first, value(depth)]];
    for (skip(); !take('}'); skip()) {
      if (!take(',')) fail(', or } expected');
      const keyStart = at;
      const key = value(depth);
      keyChars += at - keyStart;
      skip();
      if (!take(':')) fail(': expected');
      entries.push([key, value(depth)]);
    }
    willOrder?.(entries.length, keyChars);
    return RegoObject.of(entries);
  };
  const value = (depth: number): Value => {
    if (depth > MAX_VALUE_DEPTH) return fail('nested too deep');
    skip();
    switch (text.charAt(at)) {
      case '"':
        return string();
      case '[':
        at += 1;
        return list(']', depth + 1);
      case '{':
        at += 1;
        return braces(depth + 1);
      case 't':
        return take('true') ? true : fail('unknown word');
      case 'f':
        return take('false') ? false : fail('unknown word');
      case 'n':
        return take('null') ? null : fail('unknown word');
      case 's':
        return take('set()') ? RegoSet.of([]) : fail('unknown word');
      default:
        return number();
    }
  };
  const result = value(1);
  skip();
  if (at < text.length) fail('more text after the value');
  return result;
};

/** What a value takes as text, about: characters, without escapes. More than `most`: looked at no further. */
export const textSize = (value: Value, most: number): number => {
  if (typeof value === 'string') return value.length + 2;
  if (value === null || typeof value === 'boolean') return 4;
  if (typeof value === 'number') return 8;
  if (value instanceof RegoNumber) return numberText(value).length;
  let size = 2;
  const add = (part: Value): boolean => {
    size += 1 + textSize(part, most - size);
    return size <= most;
  };
  if (value instanceof RegoObject) value.entries.every(([key, member]) => add(key) && add(member));
  else (isArray(value) ? value : value.items).every(add);
  return size;
};

/** The text that `opa_value_parse` reads, and that `parseValue` reads again. */
export const printValue = (value: Value): string => {
  if (value === null) return 'null';
  if (typeof value === 'string') return JSON.stringify(value);
  if (typeof value === 'boolean') return value ? 'true' : 'false';
  if (typeof value === 'number' || value instanceof RegoNumber) return numberText(value);
  if (isArray(value)) return `[${value.map(printValue).join(',')}]`;
  if (value instanceof RegoObject)
    return `{${value.entries.map(([key, member]) => `${printValue(key)}:${printValue(member)}`).join(',')}}`;
  return value.items.length === 0 ? 'set()' : `{${value.items.map(printValue).join(',')}}`;
};
