import { BuiltinError, text } from './builtin.ts';
import { goText, readJson } from './go-json.ts';
import { decodeBase64 } from './pem.ts';
import { isArray, RegoObject, type Value } from './value.ts';

/** The three parts of a token in compact form (RFC 7515, 7.1), still encoded. */
export interface Token {
  readonly header: string;
  readonly payload: string;
  readonly signature: string;
}

/** Throws `BuiltinError` when the value is no text of three parts. */
export const splitToken = (value: Value | undefined): Token => {
  // A fourth part is looked for so that a text of many dots is not split whole.
  const [header, payload, signature, more] = text(value).split('.', 4);
  if (header === undefined || payload === undefined || signature === undefined || more !== undefined)
    throw new BuiltinError('a token has three parts');
  return { header, payload, signature };
};

/** What the signature is made of. */
export const signedPart = ({ header, payload }: Token): string => `${header}.${payload}`;

/** Base64url with or without its padding. */
export const decodePart = (part: string): Buffer => {
  if (part.endsWith('=')) return decodeBase64(part, 'url', true);
  const missing = (4 - (Buffer.byteLength(part) % 4)) % 4;
  if (missing === 3) throw new BuiltinError('malformed base64url');
  return decodeBase64(part + '='.repeat(missing), 'url', true);
};

/** Reads a part that is a JSON object. */
export const readObject = (json: string): RegoObject => {
  const value = readJson(json);
  if (value instanceof RegoObject) return value;
  throw new BuiltinError('no JSON object');
};

/** Throws `BuiltinError` for what is no JSON object, and for an encrypted token (RFC 7516, 9). */
export const readHeader = (token: Token): RegoObject => {
  const header = readObject(goText(decodePart(token.header)));
  if (header.get('enc') !== undefined) throw new BuiltinError('an encrypted token');
  return header;
};

/** What of a header decides about the verification; empty texts for what it does not say. */
export interface HeaderFields {
  readonly alg: string;
  readonly kid: string;
  readonly cty: string;
  /** Extensions that must be understood (RFC 7515, 4.1.11). */
  readonly critical: readonly string[];
}

const stringField = (header: RegoObject, name: string): string => {
  const value = header.get(name);
  return value === undefined ? '' : text(value);
};

const criticalOf = (header: RegoObject): readonly string[] => {
  const value = header.get('crit');
  if (value === undefined) return [];
  const names: string[] = [];
  if (value !== null && typeof value === 'object' && isArray(value))
    for (const name of value) {
      // Go's loop ends at the first item that is no text.
      if (typeof name !== 'string') break;
      names.push(name);
    }
  if (names.length === 0) throw new BuiltinError('"crit" is a list of names');
  return names;
};

/** Throws `BuiltinError` when one of the fields has the wrong type. */
export const headerFields = (header: RegoObject): HeaderFields => {
  stringField(header, 'typ');
  return {
    alg: stringField(header, 'alg'),
    kid: stringField(header, 'kid'),
    cty: stringField(header, 'cty'),
    critical: criticalOf(header),
  };
};

const UNDERSTOOD: ReadonlySet<Value> = new Set(['alg', 'kid', 'typ', 'cty', 'crit']);

/** An algorithm is named, and every critical extension that the header uses is one of the fields read here. */
export const isAcceptable = (header: RegoObject, { alg, critical }: HeaderFields): boolean =>
  alg !== '' && !critical.some((name) => !UNDERSTOOD.has(name) && header.get(name) !== undefined);
