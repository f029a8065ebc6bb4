import { createPublicKey, type KeyObject } from 'node:crypto';
import { BuiltinError } from './builtin.ts';
import { type BitString, Der, malformed, rightAlign, Tag } from './der.ts';

export interface Curve {
  readonly name: 'P-224' | 'P-256' | 'P-384' | 'P-521';
  /** Bytes of one coordinate. */
  readonly size: number;
  readonly oid: string;
  /** What stands before the uncompressed point in a SubjectPublicKeyInfo (RFC 5480). */
  readonly header: Buffer;
}

const curve = (name: Curve['name'], size: number, oid: string, header: string): Curve => ({
  name,
  size,
  oid,
  header: Buffer.from(header, 'hex'),
});

export const CURVES: readonly Curve[] = [
  curve('P-224', 28, '1.3.132.0.33', '304e301006072a8648ce3d020106052b81040021033a00'),
  curve('P-256', 32, '1.2.840.10045.3.1.7', '3059301306072a8648ce3d020106082a8648ce3d030107034200'),
  curve('P-384', 48, '1.3.132.0.34', '3076301006072a8648ce3d020106052b81040022036200'),
  curve('P-521', 66, '1.3.132.0.35', '30819b301006072a8648ce3d020106052b8104002303818600'),
];

/** `handle` verifies signatures; keys that cannot are told apart all the same. */
export type PublicKey =
  | { readonly type: 'rsa'; readonly n: bigint; readonly e: bigint; readonly handle: KeyObject }
  | { readonly type: 'ec'; readonly curve: Curve; readonly x: Buffer; readonly y: Buffer; readonly handle: KeyObject }
  | { readonly type: 'ed25519'; readonly x: Buffer; readonly handle: KeyObject }
  | { readonly type: 'x25519'; readonly x: Buffer }
  | { readonly type: 'dsa'; readonly p: bigint; readonly q: bigint; readonly g: bigint; readonly y: bigint };

/** The bytes of a number that is not negative, without zeros in front. */
export const bigIntBytes = (value: bigint): Buffer => {
  const hex = value.toString(16);
  return Buffer.from(hex.length % 2 === 0 ? hex : `0${hex}`, 'hex');
};

export const bytesToBigInt = (bytes: Uint8Array): bigint =>
  bytes.length === 0 ? 0n : BigInt(`0x${Buffer.from(bytes).toString('hex')}`);

export const bitLength = (value: bigint): number => (value === 0n ? 0 : value.toString(2).length);

/**
 * Whether Go uses such an RSA key at all (at least 1024 bits, odd, a public exponent of 2 to 31 bits) and the signature
 * has the length of its modulus; OpenSSL takes more.
 */
export const isUsableRsa = (n: bigint, e: bigint, signatureBytes: number): boolean => {
  const bits = bitLength(n);
  return (
    bits >= 1024 && signatureBytes === Math.ceil(bits / 8) && n % 2n === 1n && e % 2n === 1n && e >= 2n && e < 2n ** 31n
  );
};

export const base64url = (bytes: Uint8Array): string => Buffer.from(bytes).toString('base64url');

const keyObject = (input: Parameters<typeof createPublicKey>[0]): KeyObject => {
  try {
    return createPublicKey(input);
  } catch (cause) {
    throw new BuiltinError('unusable public key', { cause });
  }
};

export const rsaPublicKey = (n: bigint, e: bigint): PublicKey => {
  const key = { kty: 'RSA', n: base64url(bigIntBytes(n)), e: base64url(bigIntBytes(e)) };
  return { type: 'rsa', n, e, handle: keyObject({ key, format: 'jwk' }) };
};

/** Throws `BuiltinError` when the point is not on the curve. */
export const ecPublicKey = (curveOfKey: Curve, point: Buffer): PublicKey => {
  const { size, header } = curveOfKey;
  if (point.length !== 1 + 2 * size || point[0] !== 4) return malformed('elliptic curve point');
  return {
    type: 'ec',
    curve: curveOfKey,
    x: point.subarray(1, 1 + size),
    y: point.subarray(1 + size),
    handle: keyObject({ key: Buffer.concat([header, point]), format: 'der', type: 'spki' }),
  };
};

export const ed25519PublicKey = (x: Buffer): PublicKey => {
  if (x.length !== 32) return malformed('Ed25519 key');
  return {
    type: 'ed25519',
    x,
    handle: keyObject({ key: { kty: 'OKP', crv: 'Ed25519', x: base64url(x) }, format: 'jwk' }),
  };
};

export const x25519PublicKey = (x: Buffer): PublicKey =>
  x.length === 32 ? { type: 'x25519', x } : malformed('X25519 key');

export interface AlgorithmIdentifier {
  readonly oid: string;
  /** The whole element of the parameters; empty when there are none. */
  readonly parameters: Buffer;
}

/** Reads the content of an AlgorithmIdentifier. */
export const readAlgorithm = (der: Der): AlgorithmIdentifier => {
  const oid = der.oid().join('.');
  return { oid, parameters: der.empty ? Buffer.alloc(0) : der.element().whole };
};

const NULL = Buffer.from([5, 0]);

const readRsa = (parameters: Buffer, bits: Buffer): PublicKey => {
  if (!parameters.equals(NULL)) return malformed('RSA key');
  const der = new Der(bits).enter(Tag.sequence);
  const n = der.integer();
  const e = der.int64();
  return n > 0n && e > 0n ? rsaPublicKey(n, e) : malformed('RSA key');
};

const readDsa = (parameters: Buffer, bits: Buffer): PublicKey => {
  const y = new Der(bits).integer();
  const der = new Der(parameters).enter(Tag.sequence);
  const [p, q, g] = [der.integer(), der.integer(), der.integer()];
  return y > 0n && p > 0n && q > 0n && g > 0n ? { type: 'dsa', p, q, g, y } : malformed('DSA key');
};

export const RSA_OID = '1.2.840.113549.1.1.1';
export const EC_OID = '1.2.840.10045.2.1';
export const ED25519_OID = '1.3.101.112';
export const X25519_OID = '1.3.101.110';
export const DSA_OID = '1.2.840.10040.4.1';

export const curveOf = (parameters: Buffer): Curve => {
  const oid = new Der(parameters).oid().join('.');
  return CURVES.find((known) => known.oid === oid) ?? malformed('elliptic curve: not supported');
};

/** The key of a SubjectPublicKeyInfo (RFC 5280). Throws `BuiltinError` for a malformed one and an unknown algorithm. */
export const readPublicKey = ({ oid, parameters }: AlgorithmIdentifier, key: BitString): PublicKey => {
  const bits = rightAlign(key);
  switch (oid) {
    case RSA_OID:
      return readRsa(parameters, bits);
    case EC_OID:
      return ecPublicKey(curveOf(parameters), bits);
    case ED25519_OID:
      return parameters.length === 0 ? ed25519PublicKey(bits) : malformed('Ed25519 key');
    case X25519_OID:
      return parameters.length === 0 ? x25519PublicKey(bits) : malformed('X25519 key');
    case DSA_OID:
      return readDsa(parameters, bits);
    default:
      return malformed('public key: unknown algorithm');
  }
};

/**
 * The key of a whole DER SubjectPublicKeyInfo, as Go's `ParsePKIXPublicKey` reads it; a PKCS #1 key stands for an RSA
 * one nowhere here.
 */
export const parsePublicKey = (bytes: Buffer): PublicKey => {
  const outer = new Der(bytes);
  const info = outer.enter(Tag.sequence);
  if (!outer.empty) return malformed('public key: more data after it');
  const algorithm = readAlgorithm(info.enter(Tag.sequence));
  return readPublicKey(algorithm, info.bitString());
};
