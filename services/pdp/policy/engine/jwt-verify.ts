import { constants, createHmac, timingSafeEqual, verify } from 'node:crypto';
import type { VerificationKey } from './jwt-keys.ts';
import { isUsableRsa, type PublicKey } from './public-key.ts';

export type Hash = 'sha256' | 'sha384' | 'sha512';

export const isHmacOf = (hash: Hash, secret: string | Buffer, signed: string, signature: Buffer): boolean => {
  const expected = createHmac(hash, secret).update(signed).digest();
  return signature.length === expected.length && timingSafeEqual(signature, expected);
};

/** How much salt of RSASSA-PSS is accepted: any, or as much as the hash is long. */
export type Salt = 'any' | 'hash';

export const isRsaSignature = (
  key: PublicKey,
  hash: Hash,
  salt: Salt | undefined,
  signed: string,
  signature: Buffer,
): boolean => {
  if (key.type !== 'rsa' || !isUsableRsa(key.n, key.e, signature.length)) return false;
  const saltLength = salt === 'any' ? constants.RSA_PSS_SALTLEN_AUTO : constants.RSA_PSS_SALTLEN_DIGEST;
  const padding = salt === undefined ? {} : { padding: constants.RSA_PKCS1_PSS_PADDING, saltLength };
  return isVerified(hash, signed, { key: key.handle, ...padding }, signature);
};

const isVerified = (
  hash: Hash | undefined,
  signed: string,
  key: Parameters<typeof verify>[2],
  signature: Buffer,
): boolean => {
  try {
    return verify(hash, Buffer.from(signed), key, signature);
  } catch {
    // OpenSSL throws for keys and signatures that it does not want to look at.
    return false;
  }
};

/** A number of any length as one of `size` bytes; `undefined` when it is larger. */
const resized = (bytes: Buffer, size: number): Buffer | undefined => {
  const surplus = bytes.length - size;
  if (surplus <= 0) return Buffer.concat([Buffer.alloc(-surplus), bytes]);
  return bytes.subarray(0, surplus).some((byte) => byte !== 0) ? undefined : bytes.subarray(surplus);
};

/** `signature` is two numbers of the same length, which Go takes from its two halves, whatever the curve. */
export const isEcSignature = (key: PublicKey, hash: Hash, signed: string, signature: Buffer): boolean => {
  if (key.type !== 'ec') return false;
  const half = Math.floor(signature.length / 2);
  const [r, s] = [
    resized(signature.subarray(0, half), key.curve.size),
    resized(signature.subarray(half), key.curve.size),
  ];
  if (r === undefined || s === undefined) return false;
  return isVerified(hash, signed, { key: key.handle, dsaEncoding: 'ieee-p1363' }, Buffer.concat([r, s]));
};

export const isEd25519Signature = (key: PublicKey, signed: string, signature: Buffer): boolean =>
  key.type === 'ed25519' && signature.length === 64 && isVerified(undefined, signed, { key: key.handle }, signature);

const HASHES: ReadonlyMap<string, Hash> = new Map([
  ['256', 'sha256'],
  ['384', 'sha384'],
  ['512', 'sha512'],
]);

/** The family and the hash of an algorithm of RFC 7518; `undefined` for every other name, `none` among them. */
export const hashOf = (alg: string): { family: string; hash: Hash } | undefined => {
  const hash = HASHES.get(alg.slice(2));
  return hash !== undefined && /^(?:HS|RS|PS|ES)/.test(alg) ? { family: alg.slice(0, 2), hash } : undefined;
};

/** Whether the signature is one by the algorithm that the token names and this key can make. */
export const isSignature = (
  { key, secret }: Pick<VerificationKey, 'key' | 'secret'>,
  alg: string,
  signed: string,
  signature: Buffer,
): boolean => {
  if (alg === 'EdDSA' || alg === 'Ed25519') return key !== undefined && isEd25519Signature(key, signed, signature);
  const known = hashOf(alg);
  if (known === undefined) return false;
  const { family, hash } = known;
  if (family === 'HS') return secret !== undefined && isHmacOf(hash, secret, signed, signature);
  if (key === undefined) return false;
  if (family === 'ES')
    return key.type === 'ec' && signature.length === 2 * key.curve.size && isEcSignature(key, hash, signed, signature);
  return isRsaSignature(key, hash, family === 'PS' ? 'hash' : undefined, signed, signature);
};
