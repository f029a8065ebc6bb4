import { constants, createHmac, sign as signBytes } from 'node:crypto';
import { type BuiltinContext, BuiltinError, boundedText, text } from './builtin.ts';
import { readJson, writeGoJson } from './go-json.ts';
import { type Jwk, parseJwks } from './jwk.ts';
import { privateKeyOf, TOKEN_ALGORITHMS } from './jwt-keys.ts';
import { hashOf } from './jwt-verify.ts';
import { RegoObject, type Value } from './value.ts';
import { signCost } from './key-cost.ts';
import type { Spend } from './prices.ts';

const wrongKey = (): never => {
  throw new BuiltinError('the key does not fit the algorithm');
};

/** The signature that `alg`, one of the known algorithms, makes with the key. */
const signatureOf = (spend: Spend, { material }: Jwk, alg: string, signed: Buffer): Buffer => {
  const known = hashOf(alg);
  if (known?.family === 'HS')
    return material.type === 'secret' ? createHmac(known.hash, material.bytes).update(signed).digest() : wrongKey();
  if (material.type !== 'private') return wrongKey();
  const { key, parts } = material;
  spend(signCost(key));
  if (known === undefined)
    return key.type === 'ed25519' ? signBytes(undefined, signed, privateKeyOf(key, parts)) : wrongKey();
  if (known.family === 'ES')
    return key.type === 'ec'
      ? signBytes(known.hash, signed, { key: privateKeyOf(key, parts), dsaEncoding: 'ieee-p1363' })
      : wrongKey();
  if (key.type !== 'rsa') return wrongKey();
  const pss = { padding: constants.RSA_PKCS1_PSS_PADDING, saltLength: constants.RSA_PSS_SALTLEN_DIGEST };
  return signBytes(known.hash, signed, { key: privateKeyOf(key, parts), ...(known.family === 'PS' ? pss : {}) });
};

const isJson = (json: string): boolean => {
  try {
    JSON.parse(json);
    return true;
  } catch {
    return false;
  }
};

const encode = (spend: Spend, header: string, payload: string, keys: string): string => {
  const [key] = parseJwks(keys);
  if (key === undefined) throw new BuiltinError('no key to sign with');
  const fields = readJson(header);
  const [alg, typ] = fields instanceof RegoObject ? [fields.get('alg'), fields.get('typ')] : [];
  if (typeof alg !== 'string' || !TOKEN_ALGORITHMS.has(alg)) throw new BuiltinError('no known algorithm');
  if ((typeof typ !== 'string' || typ === 'JWT') && !isJson(payload)) throw new BuiltinError('the payload is no JSON');
  const signed = `${Buffer.from(header).toString('base64url')}.${Buffer.from(payload).toString('base64url')}`;
  let signature: Buffer;
  try {
    signature = signatureOf(spend, key, alg, Buffer.from(signed));
  } catch (cause) {
    // A key too small for the hash is found out by OpenSSL only.
    if (cause instanceof Error && 'code' in cause) throw new BuiltinError('no signature', { cause });
    throw cause;
  }
  return boundedText(`${signed}.${signature.toString('base64url')}`);
};

/** `io.jwt.encode_sign`: a token in compact form, signed with the first key of a JSON Web Key (Set). */
export const encodeSign = ({ spend }: BuiltinContext, header?: Value, payload?: Value, key?: Value): Value =>
  encode(spend, writeGoJson(header ?? null), writeGoJson(payload ?? null), writeGoJson(key ?? null));

/** `io.jwt.encode_sign_raw`: the same from texts, whose bytes are signed as they stand. */
export const encodeSignRaw = ({ spend }: BuiltinContext, header?: Value, payload?: Value, key?: Value): Value =>
  encode(spend, text(header), text(payload), text(key));
