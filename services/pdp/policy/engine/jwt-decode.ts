import { type BuiltinContext, BuiltinError, isNumber, object, text } from './builtin.ts';
import { goText, trimmed } from './go-json.ts';
import {
  decodePart,
  headerFields,
  isAcceptable,
  readHeader,
  readObject,
  signedPart,
  splitToken,
  type Token,
} from './jwt-token.ts';
import { type VerificationKey, verificationKeys } from './jwt-keys.ts';
import { isSignature } from './jwt-verify.ts';
import { compareNumbers } from './number.ts';
import { isArray, numberText, RegoObject, type Value } from './value.ts';
import { verifyCost } from './key-cost.ts';
import { HMAC_COST, type Spend } from './prices.ts';

const decodeToken = (value: Value | undefined): Value => {
  const token = splitToken(value);
  const header = readHeader(token);
  const payload = goText(decodePart(token.payload));
  const cty = header.get('cty');
  // Some signers quote the token inside.
  if (cty !== undefined && text(cty) === 'JWT') return decodeToken(trimmed(payload, `"'`));
  return [header, readObject(payload), decodePart(token.signature).toString('hex')];
};

/**
 * `io.jwt.decode`: header, payload and signature (hexadecimal) of a token, nothing of it verified. The token inside a
 * nested one (`cty` is `JWT`) is decoded instead.
 */
export const decode = (_: BuiltinContext, value?: Value): Value => decodeToken(value);

/** What a token must satisfy; an empty text is a constraint that was not given. */
interface Constraints {
  readonly keys: readonly Pick<VerificationKey, 'kid' | 'alg' | 'key' | 'secret'>[];
  readonly alg: string;
  readonly iss: string;
  readonly aud: string;
  /** Seconds since 1970, as a double: that is what OPA compares with. */
  readonly seconds: number;
}

const NAMES: ReadonlySet<Value> = new Set(['cert', 'secret', 'alg', 'iss', 'aud', 'time']);

const nanoseconds = (value: Value | undefined, nowNs: bigint): number => {
  if (value === undefined) return Number(nowNs);
  const time = isNumber(value) ? Number(numberText(value)) : -1;
  if (time >= 0 && Number.isFinite(time)) return time;
  throw new BuiltinError('"time" is a number that is not negative');
};

const readConstraints = (context: BuiltinContext, value: Value | undefined): Constraints => {
  const constraints = object(value);
  if (!constraints.entries.every(([name]) => NAMES.has(name))) throw new BuiltinError('an unknown constraint');
  const string = (name: string): string => {
    const given = constraints.get(name);
    return given === undefined ? '' : text(given);
  };
  const seconds = nanoseconds(constraints.get('time'), context.nowNs) / 1e9;
  const [alg, iss, aud, secret] = [string('alg'), string('iss'), string('aud'), string('secret')];
  const hasCert = constraints.get('cert') !== undefined;
  const keys = hasCert ? verificationKeys(string('cert')) : [];
  if (hasCert === (secret !== '')) throw new BuiltinError('either "cert" or "secret" is given');
  const all = hasCert ? keys : [{ kid: '', alg: '', key: undefined, secret: Buffer.from(secret) }];
  return { keys: all, alg, iss, aud, seconds };
};

/** A key whose id the token names decides alone; without one, each that names no other algorithm is tried. */
const isVerified = (spend: Spend, { keys }: Constraints, token: Token, alg: string, kid: string): boolean => {
  const signature = decodePart(token.signature);
  const named = kid === '' ? undefined : keys.find((key) => key.kid === kid);
  const tried = named === undefined ? keys.filter((key) => key.alg === '' || key.alg === alg) : [named];
  return tried.some((key) => {
    spend(key.key === undefined ? HMAC_COST : verifyCost(key.key));
    return isSignature(key, alg, signedPart(token), signature);
  });
};

const includesAudience = (aud: Value, wanted: string): boolean =>
  aud === wanted || (aud !== null && typeof aud === 'object' && isArray(aud) && aud.includes(wanted));

/** Compares the time with a claim that is a number; `undefined` without the claim. */
const compareTime = (seconds: number, claim: Value | undefined): number | undefined => {
  if (claim === undefined) return undefined;
  if (!isNumber(claim)) throw new BuiltinError('a time is a number');
  return compareNumbers(String(seconds), numberText(claim));
};

/** RFC 7519, 4.1. */
const areClaimsMet = (payload: RegoObject, { iss, aud, seconds }: Constraints): boolean => {
  const issuer = payload.get('iss');
  if (iss !== '' && (issuer === undefined || text(issuer) !== iss)) return false;
  const audience = payload.get('aud');
  if (audience === undefined ? aud !== '' : !includesAudience(audience, aud)) return false;
  const expiry = compareTime(seconds, payload.get('exp'));
  if (expiry !== undefined && expiry >= 0) return false;
  const start = compareTime(seconds, payload.get('nbf'));
  return start === undefined || start >= 0;
};

const EMPTY = RegoObject.of([]);
const UNVERIFIED: Value = [false, EMPTY, EMPTY];

/**
 * `io.jwt.decode_verify`: whether signature and claims meet the constraints, then header and payload (of the innermost
 * token of a nest), empty when they do not. Throws `BuiltinError` for a malformed token and for unknown constraints.
 */
export const decodeVerify = (context: BuiltinContext, value?: Value, constraintsValue?: Value): Value => {
  const constraints = readConstraints(context, constraintsValue);
  for (let current = value; ;) {
    const token = splitToken(current);
    const header = readHeader(token);
    const fields = headerFields(header);
    if (!isAcceptable(header, fields)) return UNVERIFIED;
    if (constraints.alg !== '' && constraints.alg !== fields.alg) return UNVERIFIED;
    if (!isVerified(context.spend, constraints, token, fields.alg, fields.kid)) return UNVERIFIED;
    const payload = goText(decodePart(token.payload));
    if (fields.cty.toLowerCase() === 'jwt') {
      current = payload;
      continue;
    }
    const claims = readObject(payload);
    return areClaimsMet(claims, constraints) ? [true, header, claims] : UNVERIFIED;
  }
};
