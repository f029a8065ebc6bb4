import { BuiltinError, BuiltinHalt, type Builtins, integer, MAX_ITEMS, numeric, text } from './builtin.ts';
import { integerOf, numberOf, numberText, type Value } from './value.ts';
import { digitsCost, MADE, type Spend } from './prices.ts';

/** sign × digits × 10^exponent */
interface Decimal {
  readonly mantissa: bigint;
  readonly exponent: number;
}

// An exponent makes as many digits, and big integers take more than linear time.
const MAX_EXPONENT = 10_000;
const MAX_DIGITS = 100_000;

const DECIMAL = /^([+-]?)(\d*)(?:\.(\d*))?(?:[eE]([+-]?\d+))?$/;

const decimalOf = (spend: Spend, number: string): Decimal => {
  const [, sign = '', whole = '', fraction = '', power = '0'] = DECIMAL.exec(number) ?? [];
  if (whole === '' && fraction === '') throw new BuiltinError('no number');
  if (whole.length + fraction.length > MAX_DIGITS) throw new BuiltinHalt('a number of too many digits');
  spend(digitsCost(whole.length + fraction.length));
  const magnitude = BigInt(whole + fraction);
  const exponent = magnitude === 0n ? 0 : Number(power) - fraction.length;
  if (exponent > MAX_EXPONENT) throw new BuiltinHalt(`a number with exponent ${exponent}`);
  // Beyond that nobody makes the power.
  if (-exponent <= MAX_DIGITS * 2) spend(digitsCost(Math.abs(exponent)));
  return { mantissa: sign === '-' ? -magnitude : magnitude, exponent };
};

const absolute = (value: bigint): bigint => (value < 0n ? -value : value);

/** An integer, however the number is written (`1e3`, `2.0`). */
const wholeNumber = (spend: Spend, value: Value | undefined): bigint => {
  const number = numeric(value);
  if (typeof number === 'number') return BigInt(number);
  const { mantissa, exponent } = decimalOf(spend, numberText(number));
  if (exponent >= 0) return mantissa * 10n ** BigInt(exponent);
  if (-exponent > MAX_DIGITS) throw new BuiltinError('an integer expected');
  const scale = 10n ** BigInt(-exponent);
  if (mantissa % scale !== 0n) throw new BuiltinError('an integer expected');
  return mantissa / scale;
};

const rangeStep = (spend: Spend, first: bigint, last: bigint, step: bigint): Value => {
  if (step <= 0n) throw new BuiltinError('a positive step expected');
  const length = absolute(last - first) / step + 1n;
  if (length > MAX_ITEMS) throw new BuiltinHalt(`a range of ${length} numbers`);
  spend(Number(length) * MADE.number);
  const towards = last < first ? -step : step;
  return Array.from({ length: Number(length) }, (_, index) => integerOf(first + towards * BigInt(index)));
};

const randomBelow = (limit: bigint, randomBytes: (length: number) => Uint8Array): bigint => {
  const below = absolute(limit);
  if (below === 0n) return 0n;
  if (BigInt.asIntN(64, below) < 0n) throw new BuiltinError('a smaller number expected');
  // 16 bytes for a number of 8: what `%` favours is below 2^-64.
  return BigInt(`0x${Buffer.from(randomBytes(16)).toString('hex')}`) % below;
};

const MAX_EXPONENT_DIGITS = 6;

/** The number before the unit, and the unit, of `10`, `1.5e3Mi`. */
const amountAndUnit = (quantity: string): { readonly amount: string; readonly unit: string } => {
  const bare = quantity.replaceAll('"', '');
  if (bare.includes(' ')) throw new BuiltinError('blanks are not allowed');
  // An `e` before a digit or a sign belongs to the number, else it begins the unit.
  const [amount = ''] = /^(?:[\d.+-]|[eE](?=[\d+-]))*/.exec(bare) ?? [];
  for (const [, digits = ''] of amount.matchAll(/[eE][+-]?(\d*)/g))
    if (digits.length > MAX_EXPONENT_DIGITS) throw new BuiltinError('the exponent is too large');
  if (amount === '') throw new BuiltinError('no amount');
  return { amount, unit: bare.slice(amount.length) };
};

const lower = (value: string): string => value.replaceAll('\u0130', 'i').toLowerCase();

const DECIMAL_UNITS: Readonly<Record<string, number>> = { k: 3, m: 6, g: 9, t: 12, p: 15, e: 18 };
const BINARY_UNITS: Readonly<Record<string, number>> = { ki: 10, mi: 20, gi: 30, ti: 40, pi: 50, ei: 60 };

const factorOf = (unit: string): bigint => {
  if (unit === '') return 1n;
  const decimal = Object.hasOwn(DECIMAL_UNITS, unit) ? DECIMAL_UNITS[unit] : undefined;
  if (decimal !== undefined) return 10n ** BigInt(decimal);
  const binary = Object.hasOwn(BINARY_UNITS, unit) ? BINARY_UNITS[unit] : undefined;
  if (binary === undefined) throw new BuiltinError(`unknown unit ${unit}`);
  return 1n << BigInt(binary);
};

const PLACES = 10;

/** numerator / denominator with ten decimals, half away from zero; without decimals when it is an integer. */
const rationalNumber = (numerator: bigint, denominator: bigint): Value => {
  if (numerator % denominator === 0n) return integerOf(numerator / denominator);
  const scaled = absolute(numerator) * 10n ** BigInt(PLACES);
  const rounded = scaled / denominator + ((scaled % denominator) * 2n >= denominator ? 1n : 0n);
  const digits = rounded.toString().padStart(PLACES + 1, '0');
  return numberOf(`${numerator < 0n ? '-' : ''}${digits.slice(0, -PLACES)}.${digits.slice(-PLACES)}`);
};

const MILLI = 'm';
// The double next to 0.001 is what OPA multiplies with: 1152921504606847 / 2^60.
const MILLI_NUMERATOR = 1_152_921_504_606_847n;
const MILLI_DENOMINATOR = 1n << 60n;

const parseUnits = (spend: Spend, quantity: string): Value => {
  const { amount, unit } = amountAndUnit(quantity);
  // Only behind the first letter is case without meaning: `m` is not `M`.
  const cased = unit.slice(0, 1) + lower(unit.slice(1));
  const isMilli = cased === MILLI;
  const factor = isMilli ? MILLI_NUMERATOR : factorOf(unitKey(cased));
  const { mantissa, exponent } = decimalOf(spend, amount);
  const denominator = isMilli ? MILLI_DENOMINATOR : 1n;
  if (exponent >= 0) return rationalNumber(mantissa * 10n ** BigInt(exponent) * factor, denominator);
  // So small that no decimal of it is shown.
  if (-exponent > MAX_DIGITS * 2) return numberOf(`${mantissa < 0n ? '-' : ''}0.${'0'.repeat(PLACES)}`);
  return rationalNumber(mantissa * factor, denominator * 10n ** BigInt(-exponent));
};

const unitKey = (cased: string): string =>
  cased.slice(0, 1).replace(/[KMGTPE]/, (letter) => letter.toLowerCase()) + cased.slice(1);

const bitLength = (value: bigint): number => {
  const hex = value.toString(16);
  return (hex.length - 1) * 4 + (32 - Math.clz32(parseInt(hex.charAt(0), 16)));
};

const FLOAT_BITS = 64;

/** numerator / denominator, not negative, as mantissa × 2^exponent: 64 bits, ties to even, as Go's `big.Float`. */
const floatOf = (numerator: bigint, denominator: bigint): { readonly mantissa: bigint; readonly exponent: number } => {
  if (numerator === 0n) return { mantissa: 0n, exponent: 0 };
  // A quotient of 65 bits or 66, and what is beyond them in the lowest.
  const shift = FLOAT_BITS + 1 - (bitLength(numerator) - bitLength(denominator));
  const dividend = shift > 0 ? numerator << BigInt(shift) : numerator;
  const divisor = shift < 0 ? denominator << BigInt(-shift) : denominator;
  const quotient = dividend / divisor;
  const extra = BigInt(bitLength(quotient) - FLOAT_BITS);
  const kept = quotient >> extra;
  const half = 1n << (extra - 1n);
  const rest = quotient & ((1n << extra) - 1n);
  const isAbove = rest > half || (rest === half && dividend % divisor !== 0n);
  const isUp = isAbove || (rest === half && (kept & 1n) === 1n);
  return { mantissa: isUp ? kept + 1n : kept, exponent: Number(extra) - shift };
};

const parseBytes = (spend: Spend, quantity: string): Value => {
  const { amount, unit } = amountAndUnit(lower(quantity));
  const factor = factorOf(unit.length > 1 && unit.endsWith('b') ? unit.slice(0, -1) : unit);
  const { mantissa, exponent } = decimalOf(spend, amount);
  if (-exponent > MAX_DIGITS * 2) return 0;
  const scale = 10n ** BigInt(Math.abs(exponent));
  const float = floatOf(exponent < 0 ? absolute(mantissa) : absolute(mantissa) * scale, exponent < 0 ? scale : 1n);
  const product = floatOf(float.mantissa * factor, 1n);
  const power = product.exponent + float.exponent;
  const whole = power < 0 ? product.mantissa >> BigInt(-power) : product.mantissa << BigInt(power);
  return integerOf(mantissa < 0n ? -whole : whole);
};

const IDENTIFIERS = /^[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*$/;
const VERSION = /^(0|[1-9]\d{0,18})\.(0|[1-9]\d{0,18})\.(0|[1-9]\d{0,18})$/;
const MAX_INT64 = (1n << 63n) - 1n;

interface Version {
  readonly numbers: readonly bigint[];
  readonly preRelease: readonly string[];
}

const isDigits = (value: string): boolean => /^\d+$/.test(value);

/** Semantic Versioning 2.0.0, with an optional `v` before it; undefined when it is none. */
const versionOf = (version: string): Version | undefined => {
  const bare = version.startsWith('v') ? version.slice(1) : version;
  const plus = bare.indexOf('+');
  if (plus >= 0 && !IDENTIFIERS.test(bare.slice(plus + 1))) return undefined;
  const main = plus < 0 ? bare : bare.slice(0, plus);
  const dash = main.indexOf('-');
  const preRelease = dash < 0 ? undefined : main.slice(dash + 1);
  if (preRelease !== undefined && !IDENTIFIERS.test(preRelease)) return undefined;
  const identifiers = preRelease?.split('.') ?? [];
  if (identifiers.some((identifier) => /^0\d+$/.test(identifier))) return undefined;
  const numbers = VERSION.exec(dash < 0 ? main : main.slice(0, dash))
    ?.slice(1)
    .map(BigInt);
  if (numbers === undefined || numbers.some((number) => number > MAX_INT64)) return undefined;
  return { numbers, preRelease: identifiers };
};

// Beyond 64 bits OPA sees the largest number of 64 bits.
const clamped = (digits: string): bigint => (digits.length > 19 ? MAX_INT64 : minimum(BigInt(digits), MAX_INT64));

const minimum = (a: bigint, b: bigint): bigint => (a < b ? a : b);

const order = (a: bigint | string, b: bigint | string): number => (a < b ? -1 : Number(a > b));

const compareIdentifiers = (a: string, b: string): number => {
  if (isDigits(a) !== isDigits(b)) return isDigits(a) ? -1 : 1;
  return isDigits(a) ? order(clamped(a), clamped(b)) : order(a, b);
};

const compareVersions = (a: Version, b: Version): number => {
  for (const [index, number] of a.numbers.entries()) {
    const difference = order(number, b.numbers[index] ?? 0n);
    if (difference !== 0) return difference;
  }
  const [x, y] = [a.preRelease, b.preRelease];
  // A pre-release comes before its release.
  if (x.length === 0 || y.length === 0) return Math.sign(y.length - x.length);
  for (const [index, identifier] of x.entries()) {
    const other = y[index];
    if (other === undefined) return 1;
    const difference = compareIdentifiers(identifier, other);
    if (difference !== 0) return difference;
  }
  return Math.sign(x.length - y.length);
};

const versionArgument = (value: Value | undefined): Version => {
  const version = versionOf(text(value));
  if (version === undefined) throw new BuiltinError('a semantic version expected');
  return version;
};

export const numberBuiltins: Builtins = {
  'numbers.range_step': ({ spend }, first, last, step) =>
    rangeStep(spend, wholeNumber(spend, first), wholeNumber(spend, last), wholeNumber(spend, step)),
  'rand.intn': (context, seed, limit) => {
    text(seed);
    return integerOf(randomBelow(integer(limit), context.randomBytes));
  },
  'semver.compare': (_context, a, b) => compareVersions(versionArgument(a), versionArgument(b)),
  'semver.is_valid': (_context, version) => typeof version === 'string' && versionOf(version) !== undefined,
  'units.parse': ({ spend }, quantity) => parseUnits(spend, text(quantity)),
  'units.parse_bytes': ({ spend }, quantity) => parseBytes(spend, text(quantity)),
};
