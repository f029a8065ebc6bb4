import { constants, verify } from 'node:crypto';
import { Der, Tag } from './der.ts';
import {
  type AlgorithmIdentifier,
  DSA_OID,
  EC_OID,
  ED25519_OID,
  isUsableRsa,
  type PublicKey,
  readAlgorithm,
  RSA_OID,
} from './public-key.ts';

interface SignatureAlgorithm {
  /** Go's number: it is what OPA shows. */
  readonly number: number;
  readonly key: 'rsa' | 'ec' | 'ed25519' | 'dsa';
  /** `undefined` where the algorithm hashes itself, or is too weak to be verified. */
  readonly hash: string | undefined;
  readonly isPss?: boolean;
}

const SIGNATURES: Readonly<Record<string, SignatureAlgorithm>> = {
  '1.2.840.113549.1.1.4': { number: 2, key: 'rsa', hash: undefined },
  '1.2.840.113549.1.1.5': { number: 3, key: 'rsa', hash: undefined },
  '1.3.14.3.2.29': { number: 3, key: 'rsa', hash: undefined },
  '1.2.840.113549.1.1.11': { number: 4, key: 'rsa', hash: 'sha256' },
  '1.2.840.113549.1.1.12': { number: 5, key: 'rsa', hash: 'sha384' },
  '1.2.840.113549.1.1.13': { number: 6, key: 'rsa', hash: 'sha512' },
  '1.2.840.10040.4.3': { number: 7, key: 'dsa', hash: undefined },
  '2.16.840.1.101.3.4.3.2': { number: 8, key: 'dsa', hash: 'sha256' },
  '1.2.840.10045.4.1': { number: 9, key: 'ec', hash: undefined },
  '1.2.840.10045.4.3.2': { number: 10, key: 'ec', hash: 'sha256' },
  '1.2.840.10045.4.3.3': { number: 11, key: 'ec', hash: 'sha384' },
  '1.2.840.10045.4.3.4': { number: 12, key: 'ec', hash: 'sha512' },
  [ED25519_OID]: { number: 16, key: 'ed25519', hash: undefined },
};

const PSS_OID = '1.2.840.113549.1.1.10';
const MGF1_OID = '1.2.840.113549.1.1.8';
/** By the identifier of the hash; the salt is as long as the hash. */
const PSS: Readonly<Record<string, { readonly salt: bigint; readonly algorithm: SignatureAlgorithm }>> = {
  '2.16.840.1.101.3.4.2.1': { salt: 32n, algorithm: { number: 13, key: 'rsa', hash: 'sha256', isPss: true } },
  '2.16.840.1.101.3.4.2.2': { salt: 48n, algorithm: { number: 14, key: 'rsa', hash: 'sha384', isPss: true } },
  '2.16.840.1.101.3.4.2.3': { salt: 64n, algorithm: { number: 15, key: 'rsa', hash: 'sha512', isPss: true } },
};

const isNullOrAbsent = (parameters: Buffer): boolean =>
  parameters.length === 0 || parameters.equals(Buffer.from([5, 0]));

/** RSASSA-PSS-params (RFC 4055); only one hash for both uses is known. */
const pssAlgorithm = (parameters: Buffer): SignatureAlgorithm | undefined => {
  const der = new Der(parameters).enter(Tag.sequence);
  const hash = readAlgorithm(der.enter(Tag.constructed(0)).enter(Tag.sequence));
  const mask = readAlgorithm(der.enter(Tag.constructed(1)).enter(Tag.sequence));
  const maskHash = readAlgorithm(new Der(mask.parameters).enter(Tag.sequence));
  const salt = der.enter(Tag.constructed(2)).int64();
  const trailer = der.peek(Tag.constructed(3)) ? der.enter(Tag.constructed(3)).int64() : 1n;
  const isPlain = isNullOrAbsent(hash.parameters) && isNullOrAbsent(maskHash.parameters) && trailer === 1n;
  if (!isPlain || mask.oid !== MGF1_OID || maskHash.oid !== hash.oid) return undefined;
  const known = PSS[hash.oid];
  return known?.salt === salt ? known.algorithm : undefined;
};

const findAlgorithm = ({ oid, parameters }: AlgorithmIdentifier): SignatureAlgorithm | undefined => {
  if (oid === ED25519_OID && parameters.length > 0) return undefined;
  if (oid !== PSS_OID) return Object.hasOwn(SIGNATURES, oid) ? SIGNATURES[oid] : undefined;
  try {
    return pssAlgorithm(parameters);
  } catch {
    // Parameters that cannot be read make the algorithm unknown, not the certificate malformed.
    return undefined;
  }
};

/** Go's number of a signature algorithm; 0 when it is unknown. */
export const signatureAlgorithm = (identifier: AlgorithmIdentifier): number => findAlgorithm(identifier)?.number ?? 0;

const PUBLIC_KEYS: Readonly<Record<string, number>> = { [RSA_OID]: 1, [DSA_OID]: 2, [EC_OID]: 3, [ED25519_OID]: 4 };

/** Go's number of a public key algorithm; 0 when it is unknown. */
export const publicKeyAlgorithm = ({ oid }: AlgorithmIdentifier): number =>
  Object.hasOwn(PUBLIC_KEYS, oid) ? (PUBLIC_KEYS[oid] ?? 0) : 0;

const byNumber = new Map(
  [...Object.values(SIGNATURES), ...Object.values(PSS).map(({ algorithm }) => algorithm)].map((algorithm) => [
    algorithm.number,
    algorithm,
  ]),
);

/** Whether the key made the signature. MD5, SHA-1 and DSA are never accepted, as Go does not for certificates. */
export const isSignedBy = (key: PublicKey, algorithmNumber: number, signed: Buffer, signature: Buffer): boolean => {
  const algorithm = byNumber.get(algorithmNumber);
  if (key.type === 'dsa' || key.type === 'x25519' || algorithm?.key !== key.type) return false;
  if (algorithm.hash === undefined && key.type !== 'ed25519') return false;
  if (key.type === 'rsa' && !isUsableRsa(key.n, key.e, signature.length)) return false;
  const padding =
    algorithm.isPss === true
      ? { padding: constants.RSA_PKCS1_PSS_PADDING, saltLength: constants.RSA_PSS_SALTLEN_DIGEST }
      : {};
  try {
    return verify(algorithm.hash, signed, { key: key.handle, ...padding }, signature);
  } catch {
    return false;
  }
};
