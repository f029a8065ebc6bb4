import {
  compareValues,
  isArray,
  numberText,
  RegoNumber,
  type Value,
} from '../../../services/pdp/policy/engine/value.ts';

/** What a call came to. `error`: it ends the evaluation, or breaks it. */
export type Answer =
  | { readonly kind: 'value'; readonly value: Value }
  | { readonly kind: 'undefined' }
  | { readonly kind: 'error'; readonly message: string };

type IsLike = (wanted: Value, given: Value) => boolean;

const isEqual: IsLike = (wanted, given) => compareValues(wanted, given) === 0;

const UUID_4 = /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/;

const isUuid: IsLike = (wanted, given) =>
  typeof wanted === 'string' && typeof given === 'string' && UUID_4.test(wanted) && UUID_4.test(given);

const isWholeNumber: IsLike = (_wanted, given) =>
  (typeof given === 'number' || given instanceof RegoNumber) && /^\d+$/.test(numberText(given));

/** A signature of ECDSA or RSA-PSS is another one each time; what is signed, and its length, are not. */
const isTokenLike: IsLike = (wanted, given) => {
  if (typeof wanted !== 'string' || typeof given !== 'string') return false;
  if (wanted === given) return true;
  const [[header = '', payload, signature = ''], [ownHeader, ownPayload, ownSignature = '']] = [
    wanted.split('.'),
    given.split('.'),
  ];
  const isDrawn = /"alg" *: *"[EP]S/.test(Buffer.from(header, 'base64url').toString());
  return isDrawn && header === ownHeader && payload === ownPayload && signature.length === ownSignature.length;
};

const isList = (value: Value | undefined): value is readonly Value[] =>
  value !== undefined && value !== null && typeof value === 'object' && isArray(value);

/** OPA looks at the members of an object in an order of chance, and lists what is wrong with them in that order. */
const isSameVerdict: IsLike = (wanted, given) => {
  if (!isList(wanted) || !isList(given)) return isEqual(wanted, given);
  const sortedErrors = ([verdict, errors]: readonly Value[]): Value => [
    verdict ?? null,
    isList(errors) ? [...errors].sort(compareValues) : (errors ?? null),
  ];
  return isEqual(sortedErrors(wanted), sortedErrors(given));
};

/** Built-ins whose values hold something of chance: only the rest is compared. */
const LIKENESS: Readonly<Record<string, IsLike>> = {
  'io.jwt.encode_sign': isTokenLike,
  'io.jwt.encode_sign_raw': isTokenLike,
  'json.match_schema': isSameVerdict,
  'rand.intn': isWholeNumber,
  'uuid.rfc4122': isUuid,
};

/**
 * Whether ours is the answer of OPA's interpreter. Where that fails, or panics, there is no value to meet: undefined
 * and a failed decision are both right.
 */
export const isSameAnswer = (name: string, wanted: Answer, given: Answer): boolean => {
  if (wanted.kind === 'error') return given.kind !== 'value';
  if (wanted.kind !== 'value' || given.kind !== 'value') return wanted.kind === given.kind;
  return (LIKENESS[name] ?? isEqual)(wanted.value, given.value);
};
