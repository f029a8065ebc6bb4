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
  // The causes are left out of the errors: they quote the text, which may be a key.
  try {
    JSON.parse(json);
  } catch {
    throw new BuiltinError('no JSON');
  }
  try {
    return parseValue(withoutLoneSurrogates(json));
  } catch {
    throw new BuiltinHalt('JSON nested too deep');
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

const isContinuation = (byte: number | undefined): boolean => byte !== undefined && (byte & 0xc0) === 0x80;

/** Bytes of the UTF-8 sequence (RFC 3629) that starts at `at`; 0 when none does. */
const sequenceLength = (bytes: Buffer, at: number): number => {
  const lead = bytes[at] ?? 0;
  const second = bytes[at + 1] ?? 0;
  if (lead < 0x80) return 1;
  if (lead < 0xc2 || lead > 0xf4 || !isContinuation(second)) return 0;
  if (lead < 0xe0) return 2;
  // No overlong forms, no surrogates, nothing beyond U+10FFFF.
  if ((lead === 0xe0 && second < 0xa0) || (lead === 0xed && second >= 0xa0)) return 0;
  if ((lead === 0xf0 && second < 0x90) || (lead === 0xf4 && second >= 0x90)) return 0;
  if (!isContinuation(bytes[at + 2])) return 0;
  if (lead < 0xf0) return 3;
  return isContinuation(bytes[at + 3]) ? 4 : 0;
};

const REPLACEMENT = Buffer.from('\ufffd');

/** UTF-8 text in which each byte that belongs to none becomes one U+FFFD, as in Go; JavaScript joins some of them. */
export const goText = (bytes: Buffer): string => {
  if (isUtf8(bytes)) return bytes.toString('utf8');
  const text = Buffer.alloc(bytes.length * REPLACEMENT.length);
  let length = 0;
  for (let at = 0; at < bytes.length;) {
    const valid = sequenceLength(bytes, at);
    length += valid === 0 ? REPLACEMENT.copy(text, length) : bytes.copy(text, length, at, at + valid);
    at += Math.max(valid, 1);
  }
  return text.toString('utf8', 0, length);
};

/** The text without any of the characters at its ends. */
export const trimmed = (text: string, characters: string): string => {
  let [start, end] = [0, text.length];
  while (start < end && characters.includes(text.charAt(start))) start += 1;
  while (end > start && characters.includes(text.charAt(end - 1))) end -= 1;
  return text.slice(start, end);
};
