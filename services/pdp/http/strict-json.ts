import { isAscii, isUtf8 } from 'node:buffer';
import { countColons } from '../../shared/contracts/json.ts';
import { MAX_PROBLEMS, pointerSegment, type RequestProblem } from './request-problems.ts';

export interface JsonLimits {
  /** Containers inside each other; the outermost counts as 1. */
  readonly maxDepth: number;
  /** Members of all objects together. */
  readonly maxMembers: number;
}

export type ParsedJson =
  | { readonly ok: true; readonly value: unknown; readonly members: number }
  | { readonly ok: false; readonly problems: readonly RequestProblem[] };

const LONE_SURROGATE = /\p{Surrogate}/u;

interface Walk {
  members: number;
  readonly limits: JsonLimits;
  /** A lone surrogate can only come from an escape, so texts are looked at only where the body has one. */
  readonly checkTexts: boolean;
}

/** False when anything needs a closer look. Counts members on the way. */
const isPlain = (value: unknown, depth: number, walk: Walk): boolean => {
  if (typeof value === 'string') return !walk.checkTexts || !LONE_SURROGATE.test(value);
  if (typeof value === 'number') return Math.abs(value) <= Number.MAX_SAFE_INTEGER;
  if (typeof value !== 'object' || value === null) return true;
  if (depth > walk.limits.maxDepth) return false;
  if (Array.isArray(value)) {
    for (const item of value) if (!isPlain(item, depth + 1, walk)) return false;
    return true;
  }
  const names = Object.keys(value);
  walk.members += names.length;
  if (walk.members > walk.limits.maxMembers) return false;
  for (const name of names) {
    if (walk.checkTexts && LONE_SURROGATE.test(name)) return false;
    if (!isPlain((value as Readonly<Record<string, unknown>>)[name], depth + 1, walk)) return false;
  }
  return true;
};

interface Frame {
  /** Undefined for an array. */
  readonly names: Set<string> | undefined;
  name: string;
  index: number;
  /** In an object: the next string is a member name. */
  atName: boolean;
}

const NUMBER = /-?\d[\d.eE+-]*/y;
const STRING = /"[^"\\]*(?:\\.[^"\\]*)*"/y;

/** Goes through the text of valid JSON and names everything that the fast way found suspicious. */
const findProblems = (text: string, limits: JsonLimits): readonly RequestProblem[] => {
  const problems: RequestProblem[] = [];
  const stack: Frame[] = [];
  let members = 0;
  const pointer = (): string =>
    stack.map((frame) => (frame.names === undefined ? `/${frame.index}` : pointerSegment(frame.name))).join('');
  const report = (code: string, message: string, at = pointer()): void => {
    problems.push({ pointer: at, code, message });
  };
  const matchAt = (pattern: RegExp, at: number): string => {
    pattern.lastIndex = at;
    return pattern.exec(text)?.[0] ?? text.charAt(at);
  };
  for (let i = 0; i < text.length && problems.length < MAX_PROBLEMS; i += 1) {
    const top = stack.at(-1);
    const char = text.charAt(i);
    if (char === '{' || char === '[') {
      if (stack.length >= limits.maxDepth) {
        report('too_deep', `is nested more than ${limits.maxDepth} deep`);
        return problems;
      }
      const isObject = char === '{';
      stack.push({ names: isObject ? new Set() : undefined, name: '', index: 0, atName: isObject });
    } else if (char === '}' || char === ']') stack.pop();
    else if (char === ',' && top !== undefined) {
      top.index += 1;
      top.atName = top.names !== undefined;
    } else if (char === '"') {
      const raw = matchAt(STRING, i);
      i += raw.length - 1;
      const value = JSON.parse(raw) as string;
      const isName = top?.names !== undefined && top.atName;
      if (isName) {
        top.name = value;
        top.atName = false;
        members += 1;
        if (top.names.has(value)) report('duplicate_member', 'appears more than once');
        top.names.add(value);
        if (members > limits.maxMembers) {
          report('too_many_members', `the body has more than ${limits.maxMembers} members`, '');
          return problems;
        }
      }
      if (LONE_SURROGATE.test(value))
        report('lone_surrogate', `${isName ? 'its name' : 'the text'} holds half of a surrogate pair`);
    } else if (char === '-' || (char >= '0' && char <= '9')) {
      const raw = matchAt(NUMBER, i);
      i += raw.length - 1;
      if (Math.abs(Number(raw)) > Number.MAX_SAFE_INTEGER)
        report('number_too_large', 'is beyond 2^53 - 1, where digits are lost; send it as text');
    }
  }
  return problems;
};

const one = (code: string, message: string): ParsedJson => ({ ok: false, problems: [{ pointer: '', code, message }] });

/**
 * Parses JSON (RFC 8259) that has one meaning only (RFC 7493): UTF-8 without a byte order mark, no member twice, no
 * lone surrogates, no number that a double cannot hold to the last digit of its integer part, bounded in depth and
 * members. `__proto__` is a member like any other.
 *
 * The fast way costs one parse, one scan for colons and one walk: as many colons outside strings as members in the
 * tree means that no member was dropped. Only when something is wrong does a slower pass name it.
 */
export const parseStrictJson = (bytes: Buffer, limits: JsonLimits): ParsedJson => {
  const ascii = isAscii(bytes);
  if (!ascii && !isUtf8(bytes)) return one('not_utf8', 'the body is not UTF-8');
  const text = bytes.toString(ascii ? 'latin1' : 'utf8');
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    // The engine's message quotes the body; only the place is passed on.
    const [, at] = /position (\d+)/.exec(String(error)) ?? [];
    return one('not_json', `the body is not JSON${at === undefined ? '' : ` (at character ${at})`}`);
  }
  const walk: Walk = { members: 0, limits, checkTexts: text.includes('\\u') };
  if (isPlain(value, 1, walk) && walk.members === countColons(bytes)) return { ok: true, value, members: walk.members };
  const problems = findProblems(text, limits);
  return problems.length > 0 ? { ok: false, problems } : one('not_json', 'the body is ambiguous JSON');
};

/** True when containers in `value` lie inside each other deeper than `maxDepth`. */
export const isDeeper = (value: unknown, maxDepth: number): boolean => {
  if (typeof value !== 'object' || value === null) return false;
  if (maxDepth === 0) return true;
  return Object.values(value).some((member) => isDeeper(member, maxDepth - 1));
};

/** Members of all objects in `value` together. */
export const countMembers = (value: unknown): number => {
  if (typeof value !== 'object' || value === null) return 0;
  const below = Object.values(value).reduce<number>((sum, member) => sum + countMembers(member), 0);
  return below + (Array.isArray(value) ? 0 : Object.keys(value).length);
};
