import { createHash, createPrivateKey, type KeyObject } from 'node:crypto';
import { BuiltinError, BuiltinHalt } from './builtin.ts';
import { type Jwk, parseJwks, type PrivateParts } from './jwk.ts';
import { nextPemBlock } from './pem.ts';
import { base64url, bigIntBytes, bitLength, bytesToBigInt, parsePublicKey, type PublicKey } from './public-key.ts';
import { crtValues, MIN_RSA_BITS, type RsaNumbers } from './rsa-key.ts';
import { parseCertificate } from './x509-certificate.ts';

/** A key that signatures of tokens are verified with; `kid` and `alg` are empty outside a JSON Web Key. */
export interface VerificationKey {
  readonly kid: string;
  readonly alg: string;
  /** `undefined` for a certificate whose key is of an unknown kind: nothing verifies with it. */
  readonly key: PublicKey | undefined;
  /** The shared secret of a symmetric key. */
  readonly secret?: Buffer;
  /** A private key, as whose public half it verifies in `io.jwt.decode_verify` only. */
  readonly isPrivate?: boolean;
}

/** The algorithms (RFC 7518, RFC 8037) that tokens are signed with; a key that names another one is left out. */
export const TOKEN_ALGORITHMS: ReadonlySet<string> = new Set(
  'RS256 RS384 RS512 PS256 PS384 PS512 ES256 ES384 ES512 HS256 HS384 HS512 EdDSA'.split(' '),
);

const verificationKey = ({ kid, alg, material }: Jwk): VerificationKey => {
  if (material.type === 'unusable') throw new BuiltinError('a key that cannot be used');
  if (material.type === 'secret') return { kid, alg, key: undefined, secret: material.bytes };
  if (material.type === 'public') return { kid, alg, key: material.key };
  // Two halves of different keys are refused here already.
  if (material.key.type === 'ed25519') privateKeyOf(material.key, material.parts);
  return { kid, alg, key: material.key, isPrivate: true };
};

const parseKeys = (text: string): readonly VerificationKey[] => {
  const found = nextPemBlock(text);
  if (found === undefined)
    return parseJwks(text)
      .map(verificationKey)
      .filter(({ alg }) => alg === '' || TOKEN_ALGORITHMS.has(alg));
  const { block, rest } = found;
  if (rest !== '') throw new BuiltinError('more text after the PEM block');
  if (block.type === 'CERTIFICATE') return [{ kid: '', alg: '', key: parseCertificate(block.bytes).publicKey }];
  if (block.type === 'PUBLIC KEY') return [{ kid: '', alg: '', key: parsePublicKey(block.bytes) }];
  throw new BuiltinError('a PEM block that is neither certificate nor public key');
};

/** As many key sets as OPA keeps. */
const MAX_CACHED = 100;
/** Longer texts are not kept: what they parse to is many times their size. */
const MAX_CACHED_TEXT = 64 * 1024;
const cached = new Map<string, readonly VerificationKey[]>();

/**
 * The keys of a PEM certificate, a PEM public key, a JSON Web Key or a set of them. Throws `BuiltinError` when the text
 * is none of these. Policies verify many tokens with few keys, so the last ones are kept, under a digest of the text.
 */
export const verificationKeys = (text: string): readonly VerificationKey[] => {
  if (text.length > MAX_CACHED_TEXT) return parseKeys(text);
  const digest = createHash('sha256').update(text).digest('base64');
  const known = cached.get(digest);
  if (known !== undefined) return known;
  const keys = parseKeys(text);
  const [oldest] = cached.keys();
  if (cached.size >= MAX_CACHED && oldest !== undefined) cached.delete(oldest);
  cached.set(digest, keys);
  return keys;
};

const rsaPrivateKey = (key: PublicKey & { type: 'rsa' }, parts: PrivateParts): KeyObject => {
  const whole: RsaNumbers = {
    n: key.n,
    e: key.e,
    d: bytesToBigInt(parts.d),
    p: bytesToBigInt(parts.p ?? Buffer.alloc(0)),
    q: bytesToBigInt(parts.q ?? Buffer.alloc(0)),
  };
  if (bitLength(key.n) < MIN_RSA_BITS) throw new BuiltinError('an RSA key too small to sign with');
  const { dp, dq, qi } = parts;
  const isGiven = dp !== undefined && dq !== undefined && qi !== undefined;
  const given = isGiven ? { dp: bytesToBigInt(dp), dq: bytesToBigInt(dq), qi: bytesToBigInt(qi) } : undefined;
  const members = Object.entries({ ...whole, ...crtValues(whole, given) }).map(([name, value]) => [
    name,
    base64url(bigIntBytes(value)),
  ]);
  return createPrivateKey({ key: { kty: 'RSA', ...Object.fromEntries(members) }, format: 'jwk' });
};

const ed25519PrivateKey = (key: PublicKey & { type: 'ed25519' }, { d }: PrivateParts): KeyObject => {
  const jwk = { kty: 'OKP', crv: 'Ed25519', d: base64url(d), x: base64url(key.x) };
  const handle = createPrivateKey({ key: jwk, format: 'jwk' });
  if (handle.export({ format: 'jwk' }).x !== jwk.x) throw new BuiltinError('two halves of different keys');
  return handle;
};

/** The private key of a JSON Web Key. Throws `BuiltinError` when its numbers do not belong together. */
export const privateKeyOf = (key: PublicKey, parts: PrivateParts): KeyObject => {
  try {
    if (key.type === 'rsa') return rsaPrivateKey(key, parts);
    if (key.type === 'ed25519') return ed25519PrivateKey(key, parts);
    if (key.type === 'ec' && !/^0*$/.test(parts.d.toString('hex'))) {
      const point = { x: base64url(key.x), y: base64url(key.y), d: base64url(parts.d) };
      return createPrivateKey({ key: { kty: 'EC', crv: key.curve.name, ...point }, format: 'jwk' });
    }
  } catch (cause) {
    if (cause instanceof BuiltinError || cause instanceof BuiltinHalt) throw cause;
    throw new BuiltinError('unusable private key', { cause });
  }
  throw new BuiltinError('a key that cannot sign');
};
