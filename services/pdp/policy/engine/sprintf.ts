import { array, BuiltinHalt, type Builtins, isNumber, text } from './builtin.ts';
import { type FormatArgument, formatGo } from './go-format.ts';
import { regoText } from './rego-text.ts';
import { digitsCost, type Spend } from './prices.ts';
import { numberText, type Value } from './value.ts';

// Reading and printing an integer takes more than linear time.
const MAX_DIGITS = 100_000;

/** Numbers with a fraction or exponent in their text are doubles, other values than strings are Rego text. */
const argumentOf = (spend: Spend, value: Value): FormatArgument => {
  if (typeof value === 'string') return value;
  if (!isNumber(value)) return regoText(value);
  if (typeof value === 'number') return BigInt(value);
  const digits = numberText(value);
  if (!/[.eE]/.test(digits)) {
    if (digits.length > MAX_DIGITS) throw new BuiltinHalt(`an integer of ${digits.length} digits`);
    spend(digitsCost(digits.length));
    return BigInt(digits);
  }
  const double = Number(digits);
  return Number.isFinite(double) ? double : digits;
};

export const sprintfBuiltins: Builtins = {
  sprintf: ({ spend }, format, args) =>
    formatGo(
      text(format),
      array(args).map((value) => argumentOf(spend, value)),
      spend,
    ),
};
