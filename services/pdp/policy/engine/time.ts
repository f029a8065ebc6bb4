import { array, BuiltinError, BuiltinHalt, boundedText, integer, numeric, text, type Builtins } from './builtin.ts';
import {
  boundedMoment,
  civilTime,
  daysIn,
  daysSinceEpoch,
  formatTime,
  momentOf,
  parseTime,
  WEEKDAYS,
  type CivilTime,
} from './go-time.ts';
import { integerOf, isArray, numberText, type Value } from './value.ts';
import { utc, zoneNamed, type Zone } from './zones.ts';

const RFC_3339 = '2006-01-02T15:04:05Z07:00';
const RFC_3339_NANO = '2006-01-02T15:04:05.999999999Z07:00';

/** Layouts that OPA knows by the name of Go's constant. */
const LAYOUTS: ReadonlyMap<string, string> = new Map([
  ['ANSIC', 'Mon Jan _2 15:04:05 2006'],
  ['UnixDate', 'Mon Jan _2 15:04:05 MST 2006'],
  ['RubyDate', 'Mon Jan 02 15:04:05 -0700 2006'],
  ['RFC822', '02 Jan 06 15:04 MST'],
  ['RFC822Z', '02 Jan 06 15:04 -0700'],
  ['RFC850', 'Monday, 02-Jan-06 15:04:05 MST'],
  ['RFC1123', 'Mon, 02 Jan 2006 15:04:05 MST'],
  ['RFC1123Z', 'Mon, 02 Jan 2006 15:04:05 -0700'],
  ['RFC3339', RFC_3339],
  ['RFC3339Nano', RFC_3339_NANO],
]);

const MAX_DIGITS = 4096;
const NUMBER = /^(-?)(\d+)(?:\.(\d+))?(?:[eE]([+-]?\d+))?$/;

/**
 * A number of nanoseconds as OPA takes it: rounded to 64 significant bits, then an integer of 64 bits or an error.
 * `1e9` and `1.50e3` are integers.
 */
const nanoseconds = (value: Value | undefined): bigint => {
  const number = numeric(value);
  if (typeof number === 'number') return BigInt(number);
  const [, sign = '', whole = '', fraction = '', exponentText = '0'] = NUMBER.exec(numberText(number)) ?? [];
  if (whole.length + fraction.length > MAX_DIGITS) throw new BuiltinHalt('a number of too many digits');
  const digits = BigInt(whole + fraction);
  if (digits === 0n) return 0n;
  const exponent = Number(exponentText) - fraction.length;
  const places = digits.toString().length + exponent;
  if (places > 20 || places < 0) throw new BuiltinError('no integer of 64 bits');
  const [numerator, denominator] =
    exponent < 0 ? [digits, 10n ** BigInt(-exponent)] : [digits * 10n ** BigInt(exponent), 1n];
  const integerPart = numerator / denominator;
  const bits = integerPart === 0n ? 0 : integerPart.toString(2).length;
  const scale = BigInt(Math.max(64 - bits, 0));
  const scaled = numerator << scale;
  const floor = scaled / denominator;
  const twiceRest = 2n * (scaled % denominator);
  const isUp = twiceRest > denominator || (twiceRest === denominator && floor % 2n === 1n);
  const rounded = floor + (isUp ? 1n : 0n);
  if (rounded & ((1n << scale) - 1n)) throw new BuiltinError('no integer');
  const magnitude = rounded >> scale;
  return boundedMoment(sign === '-' ? -magnitude : magnitude);
};

interface TimeArgument {
  readonly ns: bigint;
  readonly zone: Zone;
  readonly layout: string;
}

/** `ns`, `[ns]`, `[ns, zone]` or `[ns, zone, layout]`. */
const timeArgument = (value: Value | undefined): TimeArgument => {
  if (value === undefined || value === null || typeof value !== 'object' || !isArray(value))
    return { ns: nanoseconds(value), zone: utc, layout: '' };
  const [ns, zone, layout] = array(value);
  return {
    ns: nanoseconds(ns),
    zone: zone === undefined ? utc : zoneNamed(text(zone)),
    layout: layout === undefined ? '' : text(layout),
  };
};

const civilArgument = (value: Value | undefined): CivilTime => {
  const { ns, zone } = timeArgument(value);
  return civilTime(ns, zone);
};

const moment = (ns: bigint): Value => integerOf(boundedMoment(ns));

// What loses digits as a double lies far outside every calendar.
const count = (value: Value | undefined): number => Number(integer(value));

const addDate = (
  start: Value | undefined,
  years: Value | undefined,
  months: Value | undefined,
  days: Value | undefined,
) => {
  const { ns, zone } = timeArgument(start);
  const from = civilTime(ns, zone);
  const day = daysSinceEpoch(from.year + count(years), from.month + count(months), 1) + from.day - 1 + count(days);
  return moment(momentOf(day, from, zone));
};

/** Years, months, days, hours, minutes and seconds between two moments, by the clocks of the first one's zone. */
const difference = (a: Value | undefined, b: Value | undefined): Value => {
  const first = timeArgument(a);
  const second = timeArgument(b);
  const [earlier, later] = first.ns > second.ns ? [second.ns, first.ns] : [first.ns, second.ns];
  const from = civilTime(earlier, first.zone);
  const to = civilTime(later, first.zone);
  const parts = [
    to.year - from.year,
    to.month - from.month,
    to.day - from.day,
    to.hour - from.hour,
    to.minute - from.minute,
    to.second - from.second,
  ];
  const sizes = [0, 12, daysIn(from.year, from.month), 24, 60, 60];
  for (let i = parts.length - 1; i > 0; i -= 1) {
    if ((parts[i] ?? 0) >= 0) continue;
    parts[i] = (parts[i] ?? 0) + (sizes[i] ?? 0);
    parts[i - 1] = (parts[i - 1] ?? 0) - 1;
  }
  return parts;
};

const UNITS: ReadonlyMap<string, bigint> = new Map([
  ['ns', 1n],
  ['us', 1_000n],
  ['\u00b5s', 1_000n],
  ['\u03bcs', 1_000n],
  ['ms', 1_000_000n],
  ['s', 1_000_000_000n],
  ['m', 60_000_000_000n],
  ['h', 3_600_000_000_000n],
]);
const LIMIT = 1n << 63n;

const badDuration = (): never => {
  throw new BuiltinError('invalid duration');
};

/** `f / 10^digits` of a unit; Go calculates with doubles here, and drops digits that 64 bits do not hold. */
const fractionOf = (unit: bigint, digits: string): bigint => {
  let value = 0n;
  let scale = 1;
  for (const digit of digits) {
    const next = value * 10n + BigInt(digit);
    if (value > (LIMIT - 1n) / 10n || next > LIMIT) break;
    value = next;
    scale *= 10;
  }
  return BigInt(Math.trunc(Number(value) * (Number(unit) / scale)));
};

/** As Go's `time.ParseDuration`. */
const goDuration = (duration: string): bigint => {
  const unsigned = duration.replace(/^[+-]/, '');
  if (unsigned === '0') return 0n;
  if (unsigned === '') return badDuration();
  const part = /(\d*)(?:\.(\d*))?([^\d.]+)/y;
  let total = 0n;
  for (let at = 0; at < unsigned.length; at = part.lastIndex) {
    part.lastIndex = at;
    const [, whole = '', fraction = '', name = ''] = part.exec(unsigned) ?? badDuration();
    const unit = UNITS.get(name);
    const significant = whole.replace(/^0+/, '');
    if (unit === undefined || whole + fraction === '' || significant.length > 19) return badDuration();
    total += BigInt(significant) * unit + fractionOf(unit, fraction);
    if (total > LIMIT) return badDuration();
  }
  if (duration.startsWith('-')) return -total;
  return total === LIMIT ? badDuration() : total;
};

const HOURS: Readonly<Record<string, number>> = { d: 24, w: 7 * 24, y: 365 * 24 };

/** A double without an exponent, in the fewest digits that give it back. */
const plainDecimal = (value: number): string => {
  const [, whole = '', fraction = '', exponent = '0'] = /^(\d+)(?:\.(\d+))?(?:e([+-]\d+))?$/.exec(String(value)) ?? [];
  const shift = Number(exponent);
  if (shift < 0) return `0.${'0'.repeat(-shift - 1)}${whole}${fraction}`;
  return shift > 0 ? (whole + fraction).padEnd(1 + shift, '0') : String(value);
};

/** OPA's durations also have days, weeks and years; such a text is read more strictly, then in hours. */
const duration = (value: string): bigint => {
  if (!/[dwy]/.test(value)) return goDuration(value);
  const segment = /([0-9.]+)(ms|us|\u00b5s|ns|[a-z])/y;
  const sign = /^[+-]/.exec(value)?.[0] ?? '';
  let hours = sign;
  for (let at = sign.length; at < value.length; at = segment.lastIndex) {
    segment.lastIndex = at;
    const [all = '', digits = '', unit = ''] = segment.exec(value) ?? badDuration();
    const perUnit = HOURS[unit];
    if (perUnit === undefined) {
      hours += all;
      continue;
    }
    if (!/^(?:\d+\.?\d*|\.\d+)$/.test(digits)) return badDuration();
    const converted = Number(digits) * perUnit;
    hours += Number.isFinite(converted) ? `${plainDecimal(converted)}h` : badDuration();
  }
  return goDuration(hours);
};

export const timeBuiltins: Builtins = {
  'time.now_ns': ({ nowNs }) => integerOf(nowNs),
  'time.parse_ns': (_, layout, value) => {
    const name = text(layout);
    return integerOf(parseTime(LAYOUTS.get(name) ?? name, text(value)));
  },
  'time.parse_rfc3339_ns': (_, value) => integerOf(parseTime(RFC_3339, text(value))),
  'time.parse_duration_ns': (_, value) => integerOf(duration(text(value))),
  'time.format': (_, value) => {
    const { ns, zone, layout } = timeArgument(value);
    const known = layout === '' ? RFC_3339_NANO : (LAYOUTS.get(layout) ?? layout);
    return boundedText(formatTime(known, civilTime(ns, zone)));
  },
  'time.date': (_, value) => {
    const { year, month, day } = civilArgument(value);
    return [year, month, day];
  },
  'time.clock': (_, value) => {
    const { hour, minute, second } = civilArgument(value);
    return [hour, minute, second];
  },
  'time.weekday': (_, value) => WEEKDAYS[civilArgument(value).weekday],
  'time.add_date': (_, start, years, months, days) => addDate(start, years, months, days),
  'time.diff': (_, a, b) => difference(a, b),
};
