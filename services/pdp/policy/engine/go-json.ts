import { isUtf8 } from 'node:buffer';
import { BuiltinError, BuiltinHalt } from './builtin.ts';
import { parseValue } from './value-text.ts';
import { compareStrings, isArray, numberText, RegoNumber, RegoSet, type Value } from './value.ts';

// An escaped pair, an escaped lone surrogate, or any other escape (so that `\\ud800` is not taken for one).
const ESCAPES = /\\(?:u[dD][89abAB][\da-fA-F]{2}\\u[dD][c-fC-F][\da-fA-F]{2}|u[dD][89a-fA-F][\da-fA-F]{2}|[^])/g;

/** Lone surrogates become U+FFFD, as in Go. */
const withoutLoneSurrogates = (json: string): string =>
  json.includes('\\u')
    ? json.replaceAll(ESCAPES, (escape) => (/^\\u[dD][89a-fA-F]..$/.test(escape) ? '\\ufffd' : escape))
    : json;

/**
 * JSON text as a Rego value: numbers keep their text, the last of equal keys wins. Throws `BuiltinError` on what is not
 * JSON (RFC 8259) and `BuiltinHalt` on deeper nesting than values have here.
 */
export const readJson = (json: string): Value => {
  try {
    JSON.parse(json);
  } catch (cause) {
    throw new BuiltinError('no JSON', { cause });
  }
  try {
    return parseValue(withoutLoneSurrogates(json));
  } catch (cause) {
    throw new BuiltinHalt('JSON nested too deep', { cause });
  }
};

const UNSAFE = /[<>&\u2028\u2029]/g;

const goString = (text: string): string =>
  JSON.stringify(text).replaceAll(UNSAFE, (unsafe) => `\\u${unsafe.charCodeAt(0).toString(16).padStart(4, '0')}`);

/**
 * The JSON that Go's `encoding/json` writes of a value: members sorted by name, `<`, `>`, `&` and the two line
 * separators escaped, sets as arrays, names that are no strings as their JSON text.
 */
export const writeGoJson = (value: Value): string => {
  if (typeof value === 'string') return goString(value);
  if (value === null || typeof value === 'boolean') return String(value);
  if (typeof value === 'number' || value instanceof RegoNumber) return numberText(value);
  if (isArray(value)) return `[${value.map(writeGoJson).join(',')}]`;
  if (value instanceof RegoSet) return `[${value.items.map(writeGoJson).join(',')}]`;
  const members = value.entries.map(
    ([key, member]) => [typeof key === 'string' ? key : writeGoJson(key), member] as const,
  );
  members.sort(([a], [b]) => compareStrings(a, b));
  return `{${members.map(([key, member]) => `${goString(key)}:${writeGoJson(member)}`).join(',')}}`;
};

/** Bytes in the sequence that starts with `lead`; 1 for what starts none. */
const sequenceLength = (lead: number): number => {
  if (lead >= 0xf0) return 4;
  if (lead >= 0xe0) return 3;
  return lead >= 0xc0 ? 2 : 1;
};

/** UTF-8 text in which each byte that belongs to none becomes one U+FFFD, as in Go; JavaScript joins some of them. */
export const goText = (bytes: Buffer): string => {
  if (isUtf8(bytes)) return bytes.toString('utf8');
  const parts: string[] = [];
  for (let at = 0; at < bytes.length;) {
    const sequence = bytes.subarray(at, at + sequenceLength(bytes[at] ?? 0));
    const isText = isUtf8(sequence);
    parts.push(isText ? sequence.toString('utf8') : '\ufffd');
    at += isText ? sequence.length : 1;
  }
  return parts.join('');
};

/** The text without any of the characters at its ends. */
export const trimmed = (text: string, characters: string): string => {
  let [start, end] = [0, text.length];
  while (start < end && characters.includes(text.charAt(start))) start += 1;
  while (end > start && characters.includes(text.charAt(end - 1))) end -= 1;
  return text.slice(start, end);
};
