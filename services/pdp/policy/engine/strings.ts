import { array, BuiltinError, BuiltinHalt, type Builtins, integer, MAX_ITEMS, text } from './builtin.ts';
import { RegoSet, type Value } from './value.ts';

const itemsOf = (value: Value | undefined): readonly string[] =>
  (value instanceof RegoSet ? value.items : array(value)).map(text);

/** A single string stands for a list of one. */
const stringsOf = (value: Value | undefined): readonly string[] =>
  typeof value === 'string' ? [value] : itemsOf(value);

const reversed = (value: string): string => value.split('').reverse().join('');

/** Strings that share a prefix sort in a row behind it, so that one look finds whether any has it. */
const anyStartsWithAny = (strings: readonly string[], prefixes: readonly string[]): boolean => {
  const only = strings[0];
  if (only === undefined) return false;
  if (strings.length === 1) return prefixes.some((prefix) => only.startsWith(prefix));
  // By UTF-16 units, whichever order the values had.
  const sorted = [...strings].sort((a, b) => (a < b ? -1 : Number(a > b)));
  return prefixes.some((prefix) => {
    let low = 0;
    let high = sorted.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((sorted[middle] ?? '') < prefix) low = middle + 1;
      else high = middle;
    }
    return sorted[low]?.startsWith(prefix) ?? false;
  });
};

/** For each length of a prefix of `search`, the longest proper prefix that ends it (Knuth, Morris and Pratt). */
const borders = (search: string): Int32Array => {
  const table = new Int32Array(search.length + 1);
  table[0] = -1;
  let border = -1;
  for (let i = 0; i < search.length; i += 1) {
    while (border >= 0 && search.charCodeAt(border) !== search.charCodeAt(i)) border = table[border] ?? -1;
    border += 1;
    table[i + 1] = border;
  }
  return table;
};

/** Where `search`, not empty, stands in `base`: in linear time, which `indexOf` in a loop is not. */
function* occurrences(base: string, search: string, overlapping: boolean): Generator<number> {
  const table = borders(search);
  let matched = 0;
  for (let i = 0; i < base.length; i += 1) {
    while (matched >= 0 && search.charCodeAt(matched) !== base.charCodeAt(i)) matched = table[matched] ?? -1;
    matched += 1;
    if (matched === search.length) {
      yield i + 1 - matched;
      matched = overlapping ? (table[matched] ?? 0) : 0;
    }
  }
}

const isLowSurrogate = (code: number): boolean => code >= 0xdc00 && code < 0xe000;

const indexes = (base: string, search: string): readonly number[] => {
  if (search === '') throw new BuiltinError('nothing to search for');
  const found: number[] = [];
  let at = 0;
  let codePoints = 0;
  for (const index of occurrences(base, search, true)) {
    for (; at < index; at += 1) if (!isLowSurrogate(base.charCodeAt(at))) codePoints += 1;
    if (found.push(codePoints) > MAX_ITEMS) throw new BuiltinHalt('too many indexes');
  }
  return found;
};

const count = (base: string, search: string): number => {
  let total = 0;
  if (search !== '') {
    for (const _ of occurrences(base, search, false)) total += 1;
    return total;
  }
  for (let i = 0; i < base.length; i += 1) if (!isLowSurrogate(base.charCodeAt(i))) total += 1;
  return total + 1;
};

/** At most the first `limit` parts. */
const split = (base: string, separator: string, limit: number): string[] => {
  const parts: string[] = [];
  const add = (part: string): boolean => {
    if (parts.push(part) > MAX_ITEMS) throw new BuiltinHalt('too many parts');
    return parts.length >= limit;
  };
  if (limit === 0) return parts;
  if (separator === '') {
    for (const character of base) if (add(character)) break;
    return parts;
  }
  let start = 0;
  for (const index of occurrences(base, separator, false)) {
    if (add(base.slice(start, index))) return parts;
    start = index + separator.length;
  }
  add(base.slice(start));
  return parts;
};

/** The first `n` parts, or the last `-n` when it is negative. */
const splitN = (base: string, separator: string, n: bigint): readonly string[] =>
  n >= 0n ? split(base, separator, Number(n)) : split(base, separator, Infinity).slice(Number(n));

export const stringBuiltins: Builtins = {
  'strings.any_prefix_match': (_context, search, base) => anyStartsWithAny(stringsOf(search), stringsOf(base)),
  'strings.any_suffix_match': (_context, search, base) =>
    anyStartsWithAny(stringsOf(search).map(reversed), stringsOf(base).map(reversed)),
  'strings.count': (_context, base, search) => count(text(base), text(search)),
  'strings.split_n': (_context, base, separator, n) => splitN(text(base), text(separator), integer(n)),
  indexof_n: (_context, base, search) => indexes(text(base), text(search)),
};
