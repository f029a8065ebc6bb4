import { BuiltinError } from './builtin.ts';
import { readJson } from './go-json.ts';
import { decodeBase64 } from './pem.ts';
import {
  bitLength,
  bytesToBigInt,
  CURVES,
  ecPublicKey,
  ed25519PublicKey,
  type PublicKey,
  rsaPublicKey,
  x25519PublicKey,
} from './public-key.ts';
import { isArray, RegoObject, type Value } from './value.ts';
import { parseCertificate } from './x509-certificate.ts';

/** The secret half of a JSON Web Key; `parameters` are the members of the key that are numbers. */
export interface PrivateParts {
  readonly d: Buffer;
  readonly p?: Buffer | undefined;
  readonly q?: Buffer | undefined;
  readonly dp?: Buffer | undefined;
  readonly dq?: Buffer | undefined;
  readonly qi?: Buffer | undefined;
}

/** A JSON Web Key (RFC 7517); `kid` and `alg` are empty when it has none. */
export interface Jwk {
  readonly kid: string;
  readonly alg: string;
  readonly material:
    | { readonly type: 'public'; readonly key: PublicKey }
    | { readonly type: 'private'; readonly key: PublicKey; readonly parts: PrivateParts }
    | { readonly type: 'secret'; readonly bytes: Buffer }
    // A curve that has a name but no implementation: the key cannot be used, which is an error only to who uses it.
    | { readonly type: 'unusable' };
}

/** Most keys of a set. */
const MAX_KEYS = 1000;
const MAX_CHAIN = 10;
const MAX_ENCODED_CERTIFICATE = 256 * 1024;

/** The algorithms of RFC 7518 and its successors; a key that names another one is malformed. */
const ALGORITHMS: ReadonlySet<string> = new Set(
  [
    'HS256 HS384 HS512 RS256 RS384 RS512 PS256 PS384 PS512 ES256 ES384 ES512 ES256K EdDSA Ed25519 Ed448 none',
    'RSA1_5 RSA-OAEP RSA-OAEP-256 RSA-OAEP-384 RSA-OAEP-512 A128KW A192KW A256KW A128GCMKW A192GCMKW A256GCMKW dir',
    'ECDH-ES ECDH-ES+A128KW ECDH-ES+A192KW ECDH-ES+A256KW',
    'PBES2-HS256+A128KW PBES2-HS384+A192KW PBES2-HS512+A256KW',
    'A128CBC-HS256 A192CBC-HS384 A256CBC-HS512 A128GCM A192GCM A256GCM',
  ].flatMap((names) => names.split(' ')),
);

// What is read here is secret as often as not: no text of it goes into an error.
const refuse = (what: string): never => {
  throw new BuiltinError(`JSON Web Key: ${what}`);
};

/** A member that is a string; null stands for an empty one. */
const stringMember = (key: RegoObject, name: string): string | undefined => {
  const value = key.get(name);
  if (value === undefined || typeof value === 'string') return value;
  return value === null ? '' : refuse(`"${name}" is no string`);
};

/** Any of the four forms of base64, as the characters tell. */
const bytesMember = (key: RegoObject, name: string): Buffer | undefined => {
  const value = stringMember(key, name);
  if (value === undefined) return undefined;
  return decodeBase64(value, /[+/]/.test(value) ? 'standard' : 'url', value.endsWith('='));
};

const required = (key: RegoObject, name: string): Buffer => bytesMember(key, name) ?? refuse(`"${name}" is missing`);

const checkChain = (chain: Value): void => {
  if (chain === null || typeof chain !== 'object' || !isArray(chain) || chain.length > MAX_CHAIN)
    return refuse('"x5c" is no chain');
  for (const encoded of chain) {
    const text = typeof encoded === 'string' ? encoded.replaceAll(/[ \t\r\n]/g, '') : refuse('"x5c" is no chain');
    if (text.length > MAX_ENCODED_CERTIFICATE) return refuse('"x5c" is too large');
    parseCertificate(decodeBase64(text, 'standard', true));
  }
};

/** Members that say nothing about the key itself, but make it malformed all the same. */
const checkMetadata = (key: RegoObject): void => {
  for (const name of ['use', 'x5t', 'x5t#S256', 'x5u']) stringMember(key, name);
  const operations = key.get('key_ops') ?? null;
  const isList = operations !== null && typeof operations === 'object' && isArray(operations);
  if (operations !== null && !(isList && operations.every((item) => item === null || typeof item === 'string')))
    refuse('"key_ops" is no list');
  const chain = key.get('x5c');
  if (chain !== undefined) checkChain(chain);
};

const rsaMaterial = (key: RegoObject, isPrivate: boolean): Jwk['material'] => {
  const [n, e] = [bytesToBigInt(required(key, 'n')), bytesToBigInt(required(key, 'e'))];
  if (n === 0n || e % 2n !== 1n || bitLength(e) >= 64) return refuse('no RSA key');
  const publicKey = rsaPublicKey(n, e);
  if (!isPrivate) return { type: 'public', key: publicKey };
  const [d, p, q] = [required(key, 'd'), required(key, 'p'), required(key, 'q')];
  if (d.length === 0) return refuse('no RSA key');
  const parts = { d, p, q, dp: bytesMember(key, 'dp'), dq: bytesMember(key, 'dq'), qi: bytesMember(key, 'qi') };
  return { type: 'private', key: publicKey, parts };
};

const ecMaterial = (key: RegoObject, isPrivate: boolean): Jwk['material'] => {
  const name = stringMember(key, 'crv');
  const curve = CURVES.find((known) => known.name === name && name !== 'P-224') ?? refuse('unknown curve');
  const [x, y] = [required(key, 'x'), required(key, 'y')];
  if (x.length !== curve.size || y.length !== curve.size) return refuse('a coordinate of the wrong size');
  const publicKey = ecPublicKey(curve, Buffer.concat([Buffer.from([4]), x, y]));
  if (!isPrivate) return { type: 'public', key: publicKey };
  const d = required(key, 'd');
  return d.length === curve.size ? { type: 'private', key: publicKey, parts: { d } } : refuse('"d" of the wrong size');
};

const okpMaterial = (key: RegoObject, isPrivate: boolean): Jwk['material'] => {
  const curve = stringMember(key, 'crv');
  const x = required(key, 'x');
  const d = isPrivate ? required(key, 'd') : undefined;
  if (x.length === 0 || d?.length === 0) return refuse('an empty key');
  if (curve === 'Ed448' || curve === 'X448') return { type: 'unusable' };
  if (curve !== 'Ed25519' && curve !== 'X25519') return refuse('unknown curve');
  const publicKey = curve === 'Ed25519' ? ed25519PublicKey(x) : x25519PublicKey(x);
  if (d === undefined) return { type: 'public', key: publicKey };
  return d.length === 32 ? { type: 'private', key: publicKey, parts: { d } } : refuse('"d" of the wrong size');
};

const secretMaterial = (key: RegoObject): Jwk['material'] => {
  const bytes = required(key, 'k');
  return bytes.length > 0 ? { type: 'secret', bytes } : refuse('an empty key');
};

const readKey = (value: Value): Jwk => {
  if (!(value instanceof RegoObject)) return refuse('no object');
  const isPrivate = value.get('d') !== undefined;
  checkMetadata(value);
  const kid = stringMember(value, 'kid') ?? '';
  const alg = stringMember(value, 'alg');
  if (alg !== undefined && !ALGORITHMS.has(alg)) return refuse('unknown "alg"');
  const metadata = { kid, alg: alg ?? '' };
  switch (stringMember(value, 'kty')) {
    case 'RSA':
      return { ...metadata, material: rsaMaterial(value, isPrivate) };
    case 'EC':
      return { ...metadata, material: ecMaterial(value, isPrivate) };
    case 'OKP':
      return { ...metadata, material: okpMaterial(value, isPrivate) };
    case 'oct':
      return { ...metadata, material: secretMaterial(value) };
    default:
      return refuse('unknown "kty"');
  }
};

/** Where the object that the text starts with ends; `undefined` when it does not. */
const endOfObject = (text: string): number | undefined => {
  let depth = 0;
  let isInString = false;
  for (let at = 0; at < text.length; at += 1) {
    const character = text[at];
    if (character === '"') isInString = !isInString;
    if (isInString) {
      if (character === '\\') at += 1;
      continue;
    }
    if (character === '{') depth += 1;
    if (character === '}') depth -= 1;
    if (character === '}' && depth === 0) return at + 1;
  }
  return undefined;
};

/** Go reads a lone key from the front of a text and does not look at what follows. */
const readLoneKey = (text: string): Jwk => {
  const end = endOfObject(text);
  return end === undefined || end === text.length ? refuse('no JSON') : readKey(readJson(text.slice(0, end)));
};

/** The keys of a JSON Web Key Set, or the one of a JSON Web Key. One bad key makes the set bad: `BuiltinError`. */
export const parseJwks = (json: string): readonly Jwk[] => {
  let value: Value;
  try {
    value = readJson(json);
  } catch (cause) {
    if (cause instanceof BuiltinError) return [readLoneKey(json)];
    throw cause;
  }
  const keys = value instanceof RegoObject ? value.get('keys') : undefined;
  if (keys === undefined) return [readKey(value)];
  if (keys === null || typeof keys !== 'object' || !isArray(keys) || keys.length > MAX_KEYS)
    return refuse('"keys" is no list, or too long');
  return keys.map(readKey);
};
