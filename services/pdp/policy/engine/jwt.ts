import { type Builtin, type Builtins, text } from './builtin.ts';
import { decode, decodeVerify } from './jwt-decode.ts';
import { type VerificationKey, verificationKeys } from './jwt-keys.ts';
import { encodeSign, encodeSignRaw } from './jwt-sign.ts';
import { decodePart, headerFields, readHeader, signedPart, splitToken } from './jwt-token.ts';
import { type Hash, isEcSignature, isEd25519Signature, isHmacOf, isRsaSignature } from './jwt-verify.ts';
import type { PublicKey } from './public-key.ts';
import { verifyCost } from './key-cost.ts';

type IsSigned = (key: PublicKey, signed: string, signature: Buffer) => boolean;

/**
 * Verifies a token with a fixed algorithm, whatever its header names. A key whose id the header names decides alone;
 * without one, each key that names no algorithm, or the one of the header, is tried.
 */
const verifier =
  (isSigned: IsSigned): Builtin =>
  ({ spend }, tokenValue, keysValue) => {
    const token = splitToken(tokenValue);
    const keys = verificationKeys(text(keysValue));
    const signature = decodePart(token.signature);
    const { kid, alg } = headerFields(readHeader(token));
    const signed = signedPart(token);
    const isSignedBy = ({ key, isPrivate }: VerificationKey): boolean => {
      if (key === undefined || isPrivate === true) return false;
      spend(verifyCost(key));
      return isSigned(key, signed, signature);
    };
    const named = kid === '' ? undefined : keys.find((key) => key.kid === kid);
    if (named !== undefined) return isSignedBy(named);
    return keys.some((key) => (key.alg === '' || key.alg === alg) && isSignedBy(key));
  };

const hmacVerifier =
  (hash: Hash): Builtin =>
  (_, tokenValue, secret) => {
    const [token, key] = [splitToken(tokenValue), text(secret)];
    return isHmacOf(hash, key, signedPart(token), decodePart(token.signature));
  };

const rsaVerifier = (hash: Hash): Builtin =>
  verifier((key, signed, signature) => isRsaSignature(key, hash, undefined, signed, signature));

const pssVerifier = (hash: Hash): Builtin =>
  verifier((key, signed, signature) => isRsaSignature(key, hash, 'any', signed, signature));

const ecVerifier = (hash: Hash): Builtin =>
  verifier((key, signed, signature) => isEcSignature(key, hash, signed, signature));

/** JSON Web Tokens: RFC 7515, 7517, 7518, 7519 and 8037. */
export const jwtBuiltins: Builtins = {
  'io.jwt.decode': decode,
  'io.jwt.decode_verify': decodeVerify,
  'io.jwt.encode_sign': encodeSign,
  'io.jwt.encode_sign_raw': encodeSignRaw,
  'io.jwt.verify_hs256': hmacVerifier('sha256'),
  'io.jwt.verify_hs384': hmacVerifier('sha384'),
  'io.jwt.verify_hs512': hmacVerifier('sha512'),
  'io.jwt.verify_rs256': rsaVerifier('sha256'),
  'io.jwt.verify_rs384': rsaVerifier('sha384'),
  'io.jwt.verify_rs512': rsaVerifier('sha512'),
  'io.jwt.verify_ps256': pssVerifier('sha256'),
  'io.jwt.verify_ps384': pssVerifier('sha384'),
  'io.jwt.verify_ps512': pssVerifier('sha512'),
  'io.jwt.verify_es256': ecVerifier('sha256'),
  'io.jwt.verify_es384': ecVerifier('sha384'),
  'io.jwt.verify_es512': ecVerifier('sha512'),
  'io.jwt.verify_eddsa': verifier(isEd25519Signature),
};
