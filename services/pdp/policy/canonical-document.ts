import { AppError } from '../../shared/contracts/errors.ts';
import { readJson } from './engine/go-json.ts';
import { compareStrings, isArray, numberText, RegoNumber, RegoObject, type Value } from './engine/value.ts';

const SEPARATORS = /[\u2028\u2029]/g;

/** As Go's encoder without HTML escaping: the two line separators are escaped all the same. */
const stringText = (text: string): string =>
  JSON.stringify(text).replaceAll(SEPARATORS, (separator) => `\\u${separator.charCodeAt(0).toString(16)}`);

const write = (value: Value, out: string[]): void => {
  if (typeof value === 'string') out.push(stringText(value));
  else if (value === null || typeof value === 'boolean') out.push(String(value));
  else if (typeof value === 'number' || value instanceof RegoNumber) out.push(numberText(value));
  else if (isArray(value)) {
    out.push('[');
    value.forEach((item, index) => {
      if (index > 0) out.push(',');
      write(item, out);
    });
    out.push(']');
  } else if (value instanceof RegoObject) {
    const members = value.entries.filter((entry): entry is [string, Value] => typeof entry[0] === 'string');
    members.sort(([a], [b]) => compareStrings(a, b));
    out.push('{');
    members.forEach(([name, member], index) => {
      out.push(index > 0 ? ',' : '', stringText(name), ':');
      write(member, out);
    });
    out.push('}');
  }
};

/** A file that holds JSON, numbers as written. Throws `bundle_invalid`. */
export const readDocument = (path: string, bytes: Uint8Array): Value => {
  try {
    return readJson(new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes));
  } catch (cause) {
    throw new AppError('bundle_invalid', `${path} is not UTF-8 JSON of a usable depth`, { cause });
  }
};

export const canonicalBytesOf = (value: Value): Uint8Array => {
  const out: string[] = [];
  write(value, out);
  return Buffer.from(out.join(''), 'utf8');
};

/**
 * What OPA hashes of a structured file (v1/bundle/hash.go): no white space, members sorted by name, numbers as they
 * were written. Throws `bundle_invalid` when the bytes are not UTF-8 JSON, or nested deeper than values have here.
 */
export const canonicalJsonBytes = (path: string, bytes: Uint8Array): Uint8Array =>
  canonicalBytesOf(readDocument(path, bytes));
