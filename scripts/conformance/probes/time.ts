import { numberOf, type Value } from '../../../services/pdp/policy/engine/value.ts';
import type { Generator, Generators } from './generators.ts';
import type { Random } from './random.ts';
import { anyNumber, anyText, maybeDamaged } from './values.ts';

const ZONES = [
  '',
  'UTC',
  'Local',
  'Europe/Berlin',
  'America/New_York',
  'America/St_Johns',
  'Asia/Kolkata',
  'Asia/Kathmandu',
  'Australia/Lord_Howe',
  'Pacific/Apia',
  'Africa/Casablanca',
  'Europe/Dublin',
  'Etc/GMT+5',
  'EST',
  'utc',
  'europe/berlin',
  'Nowhere/Land',
  '../etc/passwd',
  'GMT',
  'Europe/London',
  'America/Sao_Paulo',
  'Asia/Tehran',
];

const LAYOUTS = [
  '2006-01-02',
  '2006-01-02T15:04:05Z07:00',
  '2006-01-02T15:04:05.999999999Z07:00',
  'Mon Jan _2 15:04:05 2006',
  'RFC3339',
  'RFC3339Nano',
  'RFC822',
  'RFC822Z',
  'RFC850',
  'RFC1123',
  'RFC1123Z',
  'ANSIC',
  'UnixDate',
  'RubyDate',
  'Kitchen',
  'Stamp',
  'StampMilli',
  'DateTime',
  'DateOnly',
  'TimeOnly',
  'Monday, 02-Jan-06 15:04:05 MST',
  '3:04PM',
  '03:04:05.000 pm',
  '__2 002',
  'January 2, 2006',
  '06-1-2',
  '-07:00:00',
  'Z0700',
  '.000',
  ',999',
  '15h',
  'plain',
  '',
  'é 2006',
  'Z07',
  '-07',
  '2006.000 05.00',
];

const moment = (random: Random): Value => {
  if (random.chance(0.12)) return anyNumber(random);
  const seconds = BigInt(Math.floor((random.next() - 0.25) * 6_000_000_000));
  const nanoseconds = random.pick([0n, 0n, 1n, 123_000_000n, 999_999_999n, 120n]);
  return numberOf((seconds * 1_000_000_000n + nanoseconds).toString());
};

const zoned = (random: Random): Value => {
  if (random.chance(0.35)) return moment(random);
  return random.chance(0.93) ? [moment(random), random.pick(ZONES)] : random.many(0, 3, () => anyNumber(random));
};

const onZoned: Generator = (random) => [zoned(random)];

const STAMPS = [
  '2024-02-29T12:34:56Z',
  '2023-02-29T00:00:00Z',
  '2024-01-01T00:00:00+05:30',
  '1969-12-31T23:59:59.999999999Z',
  '2024-06-30T23:59:60Z',
  '2024-01-01T24:00:00Z',
  '2024-01-01t00:00:00z',
  '2024-01-01T00:00:00,5Z',
  '2024-01-01T00:00:00.Z',
  '2024-1-1T0:0:0Z',
  '2024-01-01 00:00:00Z',
  '2262-04-11T23:47:16.854775807Z',
  '2262-04-11T23:47:16.854775808Z',
  '1677-09-21T00:12:43.145224192Z',
  '0001-01-01T00:00:00Z',
  '9999-12-31T23:59:59Z',
  '2024-01-01T00:00:00-00:00',
  '2024-01-01T00:00:00+24:00',
  '2024-13-01T00:00:00Z',
  '2024-01-01T00:00:00.1234567891Z',
  '2024-01-01T00:00:00+0100',
];

/** A layout with a text that may well be of its form: the layout itself says when Go's reference time was. */
const PARSED: readonly (readonly [string, string])[] = [
  ['2006-01-02', '2024-02-29'],
  ['2006-01-02T15:04:05Z07:00', '2024-02-29T12:34:56+02:00'],
  ['RFC3339', '2024-02-29T12:34:56.789Z'],
  ['RFC822', '02 Jan 06 15:04 MST'],
  ['RFC822Z', '29 Feb 24 15:04 -0700'],
  ['RFC850', 'Thursday, 29-Feb-24 15:04:05 UTC'],
  ['RFC1123', 'Thu, 29 Feb 2024 15:04:05 GMT'],
  ['RFC1123Z', 'Thu, 29 Feb 2024 15:04:05 +0100'],
  ['ANSIC', 'Thu Feb 29 15:04:05 2024'],
  ['UnixDate', 'Thu Feb 29 15:04:05 CET 2024'],
  ['RubyDate', 'Thu Feb 29 15:04:05 +0000 2024'],
  ['Kitchen', '3:04PM'],
  ['Stamp', 'Feb 29 15:04:05'],
  ['StampMilli', 'Feb 29 15:04:05.000'],
  ['January 2, 2006 at 3:04pm (MST)', 'February 3, 2013 at 7:54pm (PST)'],
  ['2006-002', '2024-060'],
  ['06/1/2', '70/3/4'],
  ['15:04:05.000', '15:04:05.123'],
  ['2006-01-02 15:04:05.999', '2024-01-01 00:00:00.5'],
  ['DateTime', '2024-02-29 12:34:56'],
  ['-07:00:00', '+01:02:03'],
];

const DURATIONS = [
  '0',
  '1s',
  '1h30m',
  '-1.5h',
  '1ns',
  '1us',
  '1µs',
  '1μs',
  '1ms',
  '2562047h47m16.854775807s',
  '2562047h47m16.854775808s',
  '-2562047h47m16.854775808s',
  '1d',
  '1',
  '',
  '.',
  '.5s',
  '5.s',
  '+5s',
  '1h1h',
  's',
  '1 s',
  '1e3s',
  '0.000000001s',
  '1.0000000001s',
  '9223372036854775808ns',
  '3000000h',
];

export const timeGenerators: Generators = {
  'time.now_ns': () => [],
  'time.add_date': (random) => [
    random.chance(0.7) ? moment(random) : zoned(random),
    random.chance(0.9) ? random.int(-300, 300) : anyNumber(random),
    random.int(-40, 40),
    random.int(-800, 800),
  ],
  'time.clock': onZoned,
  'time.date': onZoned,
  'time.weekday': onZoned,
  'time.diff': (random) => [zoned(random), zoned(random)],
  'time.format': (random) => {
    if (random.chance(0.25)) return [zoned(random)];
    return [[moment(random), random.pick(ZONES), maybeDamaged(random, random.pick(LAYOUTS), '0123456 :.Z-_', 0.2)]];
  },
  'time.parse_duration_ns': (random) => [maybeDamaged(random, random.pick(DURATIONS), '0123.hms-+µ', 0.3)],
  'time.parse_rfc3339_ns': (random) => [maybeDamaged(random, random.pick(STAMPS), '0123456789:-TZ+.', 0.3)],
  'time.parse_ns': (random) => {
    const [layout, text] = random.pick(PARSED);
    if (random.chance(0.06)) return [anyText(random), anyText(random)];
    return [maybeDamaged(random, layout, '0123456 :.', 0.1), maybeDamaged(random, text, '0123456789 :-.', 0.3)];
  },
};
