import { BuiltinError, numeric } from './builtin.ts';
import { numberText, type Value } from './value.ts';

/**
 * An integer of 64 bits as OPA takes it from a number: zeros may follow a decimal point, an exponent may not, and more
 * than 19 characters beside the sign are refused. Throws `BuiltinError`.
 */
export const int64 = (value: Value | undefined): bigint => {
  const [, digits = '', zeros = ''] = /^(-?\d{1,19})(\.0*)?$/.exec(numberText(numeric(value))) ?? [];
  const isShort = digits.replace('-', '').length + zeros.length <= 19;
  const integer = digits !== '' && isShort ? BigInt(digits) : undefined;
  if (integer !== undefined && BigInt.asIntN(64, integer) === integer) return integer;
  throw new BuiltinError('an integer of 64 bits expected');
};
