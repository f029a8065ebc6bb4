import { createECDH, createPrivateKey, createPublicKey } from 'node:crypto';
import { BuiltinError, BuiltinHalt } from './builtin.ts';
import { Der, type DerElement, malformed, Tag } from './der.ts';
import { nextPemBlock } from './pem.ts';
import {
  base64url,
  bigIntBytes,
  bytesToBigInt,
  type Curve,
  curveOf,
  EC_OID,
  ED25519_OID,
  type PublicKey,
  readAlgorithm,
  RSA_OID,
  rsaPublicKey,
  X25519_OID,
} from './public-key.ts';
import { type CrtValues, crtValues, type RsaNumbers } from './rsa-key.ts';
import { integerOf, type Value } from './value.ts';
import { record } from './x509-value.ts';

/** A private key with its public half. */
export type PrivateKey =
  | { readonly type: 'rsa'; readonly numbers: RsaNumbers & CrtValues; readonly publicKey: PublicKey }
  | { readonly type: 'ec'; readonly curve: Curve; readonly d: Buffer; readonly x: Buffer; readonly y: Buffer }
  | { readonly type: 'ed25519' | 'x25519'; readonly seed: Buffer; readonly x: Buffer };

/** RSAPrivateKey of PKCS #1 (RFC 8017, A.1.2); keys of more than two primes are refused. */
const readPkcs1 = (bytes: Buffer): PrivateKey => {
  const outer = new Der(bytes);
  const der = outer.enter(Tag.sequence);
  const version = der.int64();
  const [n, e, d, p, q] = [der.integer(), der.int64(), der.integer(), der.integer(), der.integer()];
  const rest: bigint[] = [];
  while (rest.length < 3 && der.peek(Tag.integer)) rest.push(der.integer());
  if (!outer.empty || version > 1n || der.peek(Tag.sequence)) return malformed('RSA private key');
  if ([n, d, p, q, ...rest].some((number) => number <= 0n)) return malformed('RSA private key');
  const [dp, dq, qi] = rest;
  const given = dp === undefined || dq === undefined || qi === undefined ? undefined : { dp, dq, qi };
  const numbers = { n, e, d, p, q };
  return { type: 'rsa', numbers: { ...numbers, ...crtValues(numbers, given) }, publicKey: rsaPublicKey(n, e) };
};

const OPENSSL_CURVES: Readonly<Record<Curve['name'], string>> = {
  'P-224': 'secp224r1',
  'P-256': 'prime256v1',
  'P-384': 'secp384r1',
  'P-521': 'secp521r1',
};

const checkPublicHalf = ({ tag, content }: DerElement): void => {
  const half = new Der(content);
  if (tag === Tag.constructed(1) && (half.empty || half.peek(Tag.bitString))) half.bitString();
};

/** ECPrivateKey (RFC 5915); the public key that it may hold is not looked at, as in Go. */
const readSec1 = (bytes: Buffer, curveOutside: Curve | undefined): PrivateKey => {
  const der = new Der(bytes).enter(Tag.sequence);
  const version = der.int64();
  const secret = der.read(Tag.octetString).content;
  const parameters = der.optional(Tag.constructed(0));
  if (!der.empty) checkPublicHalf(der.element());
  const curve = curveOutside ?? (parameters === undefined ? undefined : curveOf(parameters));
  if (version !== 1n || curve === undefined) return malformed('EC private key');
  const surplus = Math.max(0, secret.length - curve.size);
  if (secret.subarray(0, surplus).some((byte) => byte !== 0)) return malformed('EC private key');
  const d = Buffer.concat([Buffer.alloc(curve.size), secret.subarray(surplus)]).subarray(-curve.size);
  try {
    const ecdh = createECDH(OPENSSL_CURVES[curve.name]);
    ecdh.setPrivateKey(d);
    const point = ecdh.getPublicKey();
    return { type: 'ec', curve, d, x: point.subarray(1, 1 + curve.size), y: point.subarray(1 + curve.size) };
  } catch (cause) {
    throw new BuiltinError('malformed EC private key', { cause });
  }
};

/** What stands before the 32 bytes of such a key in PKCS #8 (RFC 8410). */
const SEED_HEADERS = {
  ed25519: Buffer.from('302e020100300506032b657004220420', 'hex'),
  x25519: Buffer.from('302e020100300506032b656e04220420', 'hex'),
} as const;

const readSeed = (type: 'ed25519' | 'x25519', bytes: Buffer): PrivateKey => {
  const seed = new Der(bytes).read(Tag.octetString).content;
  if (seed.length !== 32) return malformed('private key');
  const key = createPrivateKey({ key: Buffer.concat([SEED_HEADERS[type], seed]), format: 'der', type: 'pkcs8' });
  const { x = '' } = createPublicKey(key).export({ format: 'jwk' });
  return { type, seed, x: Buffer.from(x, 'base64url') };
};

/** The curve that parameters name; `undefined` when they name none. */
const curveIn = (parameters: Buffer): Curve | undefined => {
  try {
    new Der(parameters).oid();
  } catch {
    return undefined;
  }
  return curveOf(parameters);
};

/** PrivateKeyInfo of PKCS #8 (RFC 5208). */
const readPkcs8 = (bytes: Buffer): PrivateKey => {
  const der = new Der(bytes).enter(Tag.sequence);
  der.int64();
  const { oid, parameters } = readAlgorithm(der.enter(Tag.sequence));
  const key = der.read(Tag.octetString).content;
  if (oid === RSA_OID) return readPkcs1(key);
  if (oid === EC_OID) return readSec1(key, curveIn(parameters));
  const isSeed = oid === ED25519_OID || oid === X25519_OID;
  if (!isSeed || parameters.length > 0) return malformed('private key: unknown algorithm');
  return readSeed(oid === ED25519_OID ? 'ed25519' : 'x25519', key);
};

const READERS: Readonly<Record<string, (bytes: Buffer) => PrivateKey>> = {
  'RSA PRIVATE KEY': readPkcs1,
  'PRIVATE KEY': readPkcs8,
  'EC PRIVATE KEY': (bytes) => readSec1(bytes, undefined),
};

/** Most keys of one text: to check a large RSA key takes milliseconds. */
const MAX_KEYS = 100;

/** The private keys among the PEM blocks of a text; other blocks are skipped. Throws `BuiltinError` for a bad key. */
export const parsePrivateKeys = (pem: string): readonly PrivateKey[] => {
  const keys: PrivateKey[] = [];
  for (let rest = pem; ;) {
    const found = nextPemBlock(rest);
    if (found === undefined) return keys;
    rest = found.rest;
    const { type, bytes } = found.block;
    const read = Object.hasOwn(READERS, type) ? READERS[type] : undefined;
    if (read === undefined) continue;
    if (keys.length === MAX_KEYS) throw new BuiltinHalt('more private keys than are read here');
    keys.push(read(bytes));
  }
};

/** A private key whose form is not known: the three forms are tried in turn. */
export const parsePrivateKey = (bytes: Buffer): PrivateKey => {
  for (const read of [readPkcs1, readPkcs8, READERS['EC PRIVATE KEY'] ?? readPkcs8]) {
    try {
      return read(bytes);
    } catch (cause) {
      if (!(cause instanceof BuiltinError)) throw cause;
    }
  }
  return malformed('private key');
};

/** Whether the public key is the other half. Keys for key agreement have none in a certificate. */
export const isPairOf = (key: PrivateKey, publicKey: PublicKey | undefined): boolean => {
  if (key.type === 'rsa')
    return publicKey?.type === 'rsa' && publicKey.n === key.numbers.n && publicKey.e === key.numbers.e;
  if (key.type === 'ec')
    return (
      publicKey?.type === 'ec' &&
      publicKey.curve === key.curve &&
      publicKey.x.equals(key.x) &&
      publicKey.y.equals(key.y)
    );
  return key.type === 'ed25519' && publicKey?.type === 'ed25519' && publicKey.x.equals(key.x);
};

/** The key as Go's `encoding/json` writes its structures. */
export const privateKeyValue = (key: PrivateKey): Value => {
  if (key.type === 'rsa') {
    const { n, e, d, p, q, dp, dq, qi } = key.numbers;
    const crt = { Dp: integerOf(dp), Dq: integerOf(dq), Qinv: integerOf(qi), CRTValues: [] };
    const primes = [integerOf(p), integerOf(q)];
    return record({ N: integerOf(n), E: integerOf(e), D: integerOf(d), Primes: primes, Precomputed: record(crt) });
  }
  if (key.type === 'ec') {
    const number = (bytes: Buffer): Value => integerOf(bytesToBigInt(bytes));
    return record({ Curve: record({}), X: number(key.x), Y: number(key.y), D: number(key.d) });
  }
  return key.type === 'ed25519' ? Buffer.concat([key.seed, key.x]).toString('base64') : record({});
};

/** The key as a JSON Web Key (RFC 7517). Throws `BuiltinError` for a curve that has no name there. */
export const jwkValue = (key: PrivateKey): Value => {
  if (key.type === 'rsa') {
    const members = Object.entries(key.numbers).map(([name, value]) => [name, base64url(bigIntBytes(value))]);
    return record({ kty: 'RSA', ...(Object.fromEntries(members) as Record<string, string>) });
  }
  if (key.type !== 'ec') {
    const crv = key.type === 'ed25519' ? 'Ed25519' : 'X25519';
    return record({ kty: 'OKP', crv, d: base64url(key.seed), x: base64url(key.x) });
  }
  if (key.curve.name === 'P-224') return malformed('key: a curve without a name');
  return record({
    kty: 'EC',
    crv: key.curve.name,
    d: base64url(key.d),
    x: base64url(key.x),
    y: base64url(key.y),
  });
};
