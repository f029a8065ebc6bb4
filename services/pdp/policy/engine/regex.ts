import { RE2JS, RE2JSException } from 're2js';
import { BuiltinError, BuiltinHalt, type Builtins, integer, MAX_ITEMS, MAX_TEXT, text } from './builtin.ts';
import { globsIntersect } from './glob-intersection.ts';
import { MeteredText } from './metered-text.ts';
import { compileCost, GLOB_PAIR, MADE, matchCost, type Spend } from './prices.ts';
import { patternSize } from './pattern-size.ts';

const MAX_PATTERN = 100_000;
const MAX_CACHED_PATTERNS = 200;
/** How RE2JS is told that a match may begin anywhere. */
const UNANCHORED = 0;

/** Patterns that were used, the longest unused first; bounded, as policies may make patterns from their input. */
const compiledPatterns = new Map<string, RE2JS>();

/** A pattern, paid for as if it were not known yet, and what holding it against a text costs a unit. */
const compiledFor = (spend: Spend, pattern: string, value: string): RE2JS => {
  const size = patternSize(pattern);
  spend(compileCost(size) + matchCost(size, value.length));
  return compiled(pattern);
};

const compiled = (pattern: string): RE2JS => {
  const known = compiledPatterns.get(pattern);
  if (known !== undefined) {
    compiledPatterns.delete(pattern);
    compiledPatterns.set(pattern, known);
    return known;
  }
  if (pattern.length > MAX_PATTERN) throw new BuiltinHalt(`a pattern of ${pattern.length} characters`);
  try {
    const regex = RE2JS.compile(pattern);
    compiledPatterns.set(pattern, regex);
    for (const oldest of compiledPatterns.keys()) {
      if (compiledPatterns.size <= MAX_CACHED_PATTERNS) break;
      compiledPatterns.delete(oldest);
    }
    return regex;
  } catch (cause) {
    if (cause instanceof RE2JSException) throw new BuiltinError('a malformed pattern', { cause });
    throw cause;
  }
};

/** Start and end of a match, then those of its groups (-1 when a group took no part), in UTF-16 units. */
type Match = readonly number[];

/**
 * The matches by Go's rules, at most `limit`, all of them when it is negative: none that is empty right behind another.
 * Each is searched for when it is asked for. One pass over the text is paid already; a search that looks beyond its
 * match pays for what is then looked at again, as it goes.
 */
function* matchesOf(spend: Spend, regex: RE2JS, value: string, limit: bigint): Generator<Match> {
  const re2 = regex.re2();
  const groups = 2 * (regex.groupCount() + 1);
  const input = new MeteredText(value, matchCost(patternSize(regex.pattern()), 1), spend);
  let left = limit < 0n || limit > MAX_ITEMS ? MAX_ITEMS + 1 : Number(limit);
  let at = 0;
  let previousEnd = -1;
  while (left > 0 && at <= value.length) {
    input.searchFrom(at);
    const match: Match | null = re2.executeEngine(input, at, UNANCHORED, groups);
    if (match === null || match.length === 0) return;
    const [start = 0, end = 0] = match;
    const isRepeated = end === at && start === previousEnd;
    at = end === at ? at + ((value.codePointAt(at) ?? 0) > 0xffff ? 2 : 1) : end;
    previousEnd = end;
    spend(MADE.match);
    if (isRepeated) continue;
    left -= 1;
    if (left === 0 && (limit < 0n || limit > MAX_ITEMS)) throw new BuiltinHalt('too many matches');
    yield match;
  }
}

const find = (spend: Spend, pattern: string, value: string, limit: bigint): readonly string[] =>
  Array.from(matchesOf(spend, compiledFor(spend, pattern, value), value, limit), ([start, end]) =>
    value.slice(start, end),
  );

const split = (spend: Spend, pattern: string, value: string): readonly string[] => {
  const regex = compiledFor(spend, pattern, value);
  if (pattern !== '' && value === '') return [''];
  const parts: string[] = [];
  let begin = 0;
  let end = 0;
  for (const [start = 0, stop = 0] of matchesOf(spend, regex, value, -1n)) {
    end = start;
    // An empty match at the start splits nothing off.
    if (stop !== 0) parts.push(value.slice(begin, end));
    begin = stop;
  }
  if (end !== value.length) parts.push(value.slice(begin));
  return parts;
};

const REFERENCE = /\$(?:(\$)|\{([\p{L}\p{Nd}_]+)\}|([\p{L}\p{Nd}_]+))/gu;

/** Text, or the number of a group. */
type Part = string | number;

/** The parts of a template: `$1`, `${1}`, `$name`, and `$$` for a dollar sign; unknown groups are empty. */
const partsOf = (regex: RE2JS, template: string): readonly Part[] => {
  const names = regex.namedGroups();
  const parts: Part[] = [];
  let from = 0;
  const literal = (to: number): void => {
    if (to > from) parts.push(template.slice(from, to));
  };
  for (const { 0: all, 1: dollar, 2: braced, 3: bare, index } of template.matchAll(REFERENCE)) {
    literal(index);
    from = index + all.length;
    const name = braced ?? bare ?? '';
    if (dollar !== undefined) parts.push('$');
    else if (/^(?:0|[1-9]\d{0,7})$/.test(name)) parts.push(Number(name));
    else if (Object.hasOwn(names, name)) parts.push(names[name] ?? '');
  }
  literal(template.length);
  return parts;
};

const replace = (spend: Spend, value: string, pattern: string, template: string): string => {
  const regex = compiledFor(spend, pattern, value);
  const parts = partsOf(regex, template);
  let out = '';
  let done = 0;
  const put = (piece: string): void => {
    if (out.length + piece.length > MAX_TEXT) throw new BuiltinHalt('a replaced text that is too long');
    out += piece;
  };
  for (const match of matchesOf(spend, regex, value, -1n)) {
    const [start = 0, end = 0] = match;
    put(value.slice(done, start));
    for (const part of parts) {
      const from = typeof part === 'number' ? (match[2 * part] ?? -1) : 0;
      const to = typeof part === 'number' ? (match[2 * part + 1] ?? -1) : part.length;
      // A template may repeat the whole text for each match, or name groups that are not there.
      spend(MADE.piece + Math.max(to - from, 0));
      if (typeof part === 'string') put(part);
      else if (from >= 0) put(value.slice(from, to));
    }
    done = end;
  }
  return out + value.slice(done);
};

const quoted = (literal: string): string => literal.replace(/[\\.+*?()|[\]{}^$]/g, String.raw`\$&`);

/** A pattern from literal text with patterns between the delimiters, as `urn:<[a-z]+>:x`. */
const templatePattern = (template: string, open: string, close: string): string => {
  let pattern = '^';
  let depth = 0;
  let literalStart = 0;
  let innerStart = 0;
  for (let i = 0; i < template.length; i += 1) {
    const character = template.charAt(i);
    if (character === open) {
      depth += 1;
      if (depth > 1) continue;
      pattern += quoted(template.slice(literalStart, i));
      innerStart = i + 1;
    } else if (character === close) {
      depth -= 1;
      if (depth < 0) throw new BuiltinError('unbalanced delimiters');
      if (depth > 0) continue;
      const inner = template.slice(innerStart, i);
      compiled(`^${inner}$`);
      pattern += `(${inner})`;
      literalStart = i + 1;
    }
  }
  if (depth !== 0) throw new BuiltinError('unbalanced delimiters');
  return `${pattern}${quoted(template.slice(literalStart))}$`;
};

const templateMatch = (spend: Spend, template: string, value: string, open: string, close: string): boolean => {
  // One byte, not one character.
  if (Buffer.byteLength(open) !== 1 || Buffer.byteLength(close) !== 1) throw new BuiltinError('one byte expected');
  // Each of its parts is compiled by itself as well.
  spend(compileCost(patternSize(template)));
  return compiledFor(spend, templatePattern(template, open, close), value)
    .matcher(value)
    .find();
};

const globsMatch = (spend: Spend, a: string, b: string): boolean => {
  spend(a.length * b.length * GLOB_PAIR);
  return globsIntersect(a, b);
};

export const regexBuiltins: Builtins = {
  'regex.find_n': ({ spend }, pattern, value, limit) => find(spend, text(pattern), text(value), integer(limit)),
  'regex.globs_match': ({ spend }, a, b) => globsMatch(spend, text(a), text(b)),
  'regex.replace': ({ spend }, value, pattern, template) => replace(spend, text(value), text(pattern), text(template)),
  'regex.split': ({ spend }, pattern, value) => split(spend, text(pattern), text(value)),
  'regex.template_match': ({ spend }, template, value, open, close) =>
    templateMatch(spend, text(template), text(value), text(open), text(close)),
};
