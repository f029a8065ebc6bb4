import {
  constants,
  createHmac,
  createPrivateKey,
  createPublicKey,
  createSecretKey,
  sign,
  timingSafeEqual,
  verify,
  type KeyObject,
} from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { AppError, errorCode, errorMessage } from '../../shared/contracts/errors.ts';
import { SIGNATURE_ALGORITHMS, type SignatureAlgorithm } from '../../shared/contracts/signature-algorithms.ts';

/** A key that bundles are verified with. Its algorithm comes from the settings, never from what was signed. */
export interface BundleKey {
  readonly id: string;
  readonly algorithm: SignatureAlgorithm;
  readonly key: KeyObject;
  /** What the token's `scope` must be where the source of the bundle names none. */
  readonly scope: string | undefined;
}

/** A key of the settings, not read yet. */
export interface BundleKeyFile {
  readonly algorithm: SignatureAlgorithm;
  readonly key_file: string;
  readonly scope?: string;
}

const RSA_MIN_BITS = 2048;
const CURVES: Readonly<Record<string, string>> = { ES256: 'prime256v1', ES384: 'secp384r1', ES512: 'secp521r1' };

const hashOf = (algorithm: SignatureAlgorithm): string => `sha${algorithm.slice(2)}`;
const familyOf = (algorithm: SignatureAlgorithm): string => algorithm.slice(0, 2);

/** Throws when key and algorithm do not belong together, or the key is too weak for it (RFC 7518, 3.2 and 3.3). */
const checkFit = (key: KeyObject, algorithm: SignatureAlgorithm): void => {
  const wanted = { RS: 'rsa', PS: 'rsa', ES: 'ec', Ed: 'ed25519' }[familyOf(algorithm)];
  if (wanted === undefined) {
    const bytes = Number(algorithm.slice(2)) / 8;
    if ((key.symmetricKeySize ?? 0) < bytes)
      throw new TypeError(`${algorithm} needs a secret of ${bytes} bytes or more`);
    return;
  }
  if (key.asymmetricKeyType !== wanted)
    throw new TypeError(`${algorithm} needs a key of the type ${wanted}, not ${key.asymmetricKeyType ?? 'none'}`);
  const { modulusLength = 0, namedCurve } = key.asymmetricKeyDetails ?? {};
  if (wanted === 'rsa' && modulusLength < RSA_MIN_BITS)
    throw new TypeError(`${algorithm} needs a key of ${RSA_MIN_BITS} bits or more`);
  if (wanted === 'ec' && namedCurve !== CURVES[algorithm])
    throw new TypeError(`${algorithm} needs a key on ${CURVES[algorithm]}, not on ${namedCurve ?? 'an unknown curve'}`);
};

const readKeyFile = async (file: string): Promise<Buffer> => {
  try {
    return await readFile(file);
  } catch (cause) {
    throw new AppError('settings_invalid', `${file}: cannot be read (${errorCode(cause) ?? errorMessage(cause)})`, {
      cause,
    });
  }
};

const keyOf = (
  file: string,
  algorithm: SignatureAlgorithm,
  bytes: Buffer,
  parse: (pem: Buffer) => KeyObject,
): KeyObject => {
  try {
    // As in OPA, a shared secret is all bytes of its file, a line end included.
    const key = familyOf(algorithm) === 'HS' ? createSecretKey(bytes) : parse(bytes);
    checkFit(key, algorithm);
    return key;
  } catch (cause) {
    throw new AppError('settings_invalid', `${file}: not a usable key: ${errorMessage(cause)}`, { cause });
  }
};

const publicKeyOf = (pem: Buffer): KeyObject => {
  if (pem.includes('PRIVATE KEY-----')) throw new TypeError('a private key: who verifies needs the public one only');
  return createPublicKey(pem);
};

/** What OPA's users sign with by such a key; undefined for a key that signs nothing here. */
const usualAlgorithm = ({ asymmetricKeyType, asymmetricKeyDetails }: KeyObject): SignatureAlgorithm | undefined => {
  if (asymmetricKeyType === 'rsa') return 'RS256';
  if (asymmetricKeyType === 'ed25519') return 'EdDSA';
  const curve = asymmetricKeyDetails?.namedCurve;
  return SIGNATURE_ALGORITHMS.find((algorithm) => CURVES[algorithm] !== undefined && CURVES[algorithm] === curve);
};

export interface KeyAndAlgorithm {
  readonly key: KeyObject;
  readonly algorithm: SignatureAlgorithm;
}

const usual = (file: string, pem: Buffer, parse: (pem: Buffer) => KeyObject): SignatureAlgorithm => {
  let algorithm: SignatureAlgorithm | undefined;
  try {
    algorithm = usualAlgorithm(parse(pem));
  } catch (cause) {
    throw new AppError('settings_invalid', `${file}: not a key in PEM; for a shared secret name the algorithm`, {
      cause,
    });
  }
  if (algorithm === undefined) throw new AppError('settings_invalid', `${file}: a key of an unknown kind`);
  return algorithm;
};

const keyPart =
  (parse: (pem: Buffer) => KeyObject) =>
  async (file: string, algorithm: SignatureAlgorithm | undefined): Promise<KeyAndAlgorithm> => {
    const bytes = await readKeyFile(file);
    const chosen = algorithm ?? usual(file, bytes, parse);
    return { algorithm: chosen, key: keyOf(file, chosen, bytes, parse) };
  };

/**
 * Reads a private key (PEM), or a shared secret, to sign with; without an algorithm the usual one of its kind. Throws
 * `settings_invalid`.
 */
export const readSigningKey = keyPart(createPrivateKey);

/** The same of a public key, a certificate or a shared secret, to verify with. */
export const readVerificationKey = keyPart(publicKeyOf);

/** Reads a public key or certificate (PEM), or a shared secret. Throws `settings_invalid`. */
export const readBundleKey = async (id: string, { algorithm, key_file, scope }: BundleKeyFile): Promise<BundleKey> => {
  const { key } = await readVerificationKey(key_file, algorithm);
  return { id, algorithm, key, scope };
};

const options = (key: KeyObject, algorithm: SignatureAlgorithm) => {
  const family = familyOf(algorithm);
  if (family === 'ES') return { key, dsaEncoding: 'ieee-p1363' as const };
  if (family !== 'PS') return { key };
  return { key, padding: constants.RSA_PKCS1_PSS_PADDING, saltLength: constants.RSA_PSS_SALTLEN_DIGEST };
};

/** The signature of RFC 7515 over `signed`, with a key that fits the algorithm. */
export const signBytes = (key: KeyObject, algorithm: SignatureAlgorithm, signed: Uint8Array): Buffer => {
  const family = familyOf(algorithm);
  if (family === 'HS') return createHmac(hashOf(algorithm), key).update(signed).digest();
  return sign(family === 'Ed' ? null : hashOf(algorithm), signed, options(key, algorithm));
};

/** Whether `signature` was made over `signed` by the owner of this key, with the algorithm of this key. */
export const isSignedBy = ({ key, algorithm }: BundleKey, signed: Uint8Array, signature: Uint8Array): boolean => {
  const family = familyOf(algorithm);
  if (family === 'HS') {
    const expected = createHmac(hashOf(algorithm), key).update(signed).digest();
    return signature.length === expected.length && timingSafeEqual(signature, expected);
  }
  try {
    return verify(family === 'Ed' ? null : hashOf(algorithm), signed, options(key, algorithm), signature);
  } catch {
    // OpenSSL throws for signatures that it does not want to look at.
    return false;
  }
};
