import type { Spend } from './prices.ts';
import { isArray, numberText, RegoNumber, RegoObject, RegoSet, type Value } from './value.ts';

/** What one evaluation shares between its calls of built-ins. */
export interface BuiltinContext {
  /** The evaluation's time, nanoseconds since 1970; the same for the whole evaluation. */
  readonly nowNs: bigint;
  /** Random bytes; what is drawn is recorded with the evaluation where it matters. */
  readonly randomBytes: (length: number) => Uint8Array;
  /** For work that the price of the call does not cover, before it is done. */
  readonly spend: Spend;
}

/**
 * A built-in that OPA leaves to the host. `undefined` is Rego's undefined. Throws `BuiltinError` where OPA's own gives
 * an error (undefined too), and `BuiltinHalt` where the decision must fail: a bound of ours was exceeded.
 */
export type Builtin = (context: BuiltinContext, ...args: readonly Value[]) => Value | undefined;
export type Builtins = Readonly<Record<string, Builtin>>;

/** The call has no value: wrong types, a malformed argument. The policy sees undefined. */
export class BuiltinError extends Error {}

/** The evaluation ends as a fault: the argument or the result is larger than what is computed here. */
export class BuiltinHalt extends Error {}

/** There is not as much fuel left as the work would cost; its evaluation has ended. */
export class OutOfFuel extends Error {}

/** Longest text that a built-in takes or gives, UTF-16 units; more is a fault. */
export const MAX_TEXT = 10 * 1024 * 1024;
/** Most members of a collection that a built-in makes. */
export const MAX_ITEMS = 1_000_000;

const wrong = (what: string): never => {
  throw new BuiltinError(`${what} expected`);
};

export const text = (value: Value | undefined): string => (typeof value === 'string' ? value : wrong('a string'));

export const isNumber = (value: Value | undefined): value is number | RegoNumber =>
  typeof value === 'number' || value instanceof RegoNumber;

export const numeric = (value: Value | undefined): number | RegoNumber => (isNumber(value) ? value : wrong('a number'));

/** A number with an integer value that fits 64 bits; `1.0` is one, `1e0` is not (OPA's `util.Atoi64`). */
export const integer = (value: Value | undefined): bigint => {
  if (typeof value === 'number') return BigInt(value);
  const [all = '', whole = wrong('an integer')] = /^-?(\d+)(?:\.0*)?$/.exec(numberText(numeric(value))) ?? [];
  const exact = BigInt(all.startsWith('-') ? `-${whole}` : whole);
  // OPA counts the point and its zeros, too.
  const isShort = all.replace('-', '').length <= 19;
  return isShort && BigInt.asIntN(64, exact) === exact ? exact : wrong('an integer');
};

export const flag = (value: Value | undefined): boolean => (typeof value === 'boolean' ? value : wrong('a boolean'));

export const array = (value: Value | undefined): readonly Value[] =>
  value !== undefined && value !== null && typeof value === 'object' && isArray(value) ? value : wrong('an array');

export const object = (value: Value | undefined): RegoObject =>
  value instanceof RegoObject ? value : wrong('an object');

/** The members of an array or a set. */
export const members = (value: Value | undefined): readonly Value[] =>
  value instanceof RegoSet ? value.items : array(value);

export const boundedText = (value: string): string => {
  if (value.length > MAX_TEXT) throw new BuiltinHalt(`a text of ${value.length} characters`);
  return value;
};
