import fc from 'fast-check';
import { timeBuiltins } from '../../../../services/pdp/policy/engine/time.ts';
import { printedAnswerOf } from './call-builtin.ts';

const call = (name: string, args: string): string => printedAnswerOf(timeBuiltins, name, args);

/** As OPA 1.22.2 evaluates them. */
const cases: readonly (readonly [name: string, args: string, result: string])[] = [
  ['time.parse_ns', '"RFC3339", "2020-01-01T00:00:00+01:00"', '1577833200000000000'],
  ['time.parse_ns', '"UnixDate", "Mon Jan  2 15:04:05 CEST 2006"', '1136214245000000000'],
  ['time.parse_ns', '"UnixDate", "Mon Jan  2 15:04:05 GMT+5 2006"', '1136214245000000000'],
  ['time.parse_ns', '"RFC822", "02 Jan 69 15:04 EST"', '-31395360000000000'],
  ['time.parse_ns', '"RFC822Z", "02 Jan 68 15:04 -0700"', '3092767440000000000'],
  ['time.parse_ns', '"RFC850", "Monday, 02-Jan-06 15:04:05 MST"', '1136214245000000000'],
  ['time.parse_ns', '"RFC1123Z", "Mon, 02 Jan 2006 15:04:05 -0730"', '1136241245000000000'],
  ['time.parse_ns', '"3:04PM 2006", "12:04AM 2010"', '1262304240000000000'],
  ['time.parse_ns', '"3:04PM 2006", "13:04PM 2010"', 'undefined'],
  ['time.parse_ns', '"2006-002", "2012-366"', '1356912000000000000'],
  ['time.parse_ns', '"2006-002", "2011-366"', 'undefined'],
  ['time.parse_ns', '"2006-002-01", "2012-060-03"', 'undefined'],
  ['time.parse_ns', '"2006 __2", "2012  61"', '1330560000000000000'],
  ['time.parse_ns', '"2006-01-02 15:04:05.000", "2012-01-02 03:04:05,123"', '1325473445123000000'],
  ['time.parse_ns', '"2006-01-02 15:04:05.000", "2012-01-02 03:04:05.12"', 'undefined'],
  ['time.parse_ns', '"2006-01-02 15:04:05.000", "2012-01-02 03:04:05.+12"', '1325473445012000000'],
  ['time.parse_ns', '"2006-01-02 15:04:05", "2012-01-02 03:04:05.5"', '1325473445500000000'],
  ['time.parse_ns', '"2006-01-02   15:04", "2012-01-02 03:04"', '1325473440000000000'],
  ['time.parse_ns', '"2006-01-02", "2012-01-02 "', 'undefined'],
  ['time.parse_ns', '"2006 -07:00:00", "2012 -00:00:01"', '1325376000000000000'],
  ['time.parse_ns', '"2006 Z07:00:00", "2012 -05:06:07"', '1325394367000000000'],
  ['time.parse_ns', '"January 2, 2006", "febRUARY 3, 2020"', '1580688000000000000'],
  ['time.parse_ns', '"2006ä01", "2012ä01"', '1325376000000000000'],
  ['time.parse_ns', '"2006 1 2", "2010 2 30"', 'undefined'],
  ['time.parse_ns', '"2006", "1600"', 'undefined'],
  ['time.parse_ns', '1, "x"', 'undefined'],
  ['time.parse_rfc3339_ns', '"2020-02-29T23:59:59.999999999Z"', '1583020799999999999'],
  ['time.parse_rfc3339_ns', '"2020-02-30T00:00:00Z"', 'undefined'],
  ['time.parse_rfc3339_ns', '"2020-01-01T0:00:00Z"', '1577836800000000000'],
  ['time.parse_rfc3339_ns', '"2020-01-01T00:00:00+24:60"', '1577746800000000000'],
  ['time.parse_rfc3339_ns', '"2020-01-01T00:00:00+25:00"', 'undefined'],
  ['time.parse_rfc3339_ns', '"1677-09-21T00:12:43.145224192Z"', '-9223372036854775808'],
  ['time.parse_rfc3339_ns', '"1677-09-21T00:12:43.145224191Z"', 'undefined'],
  ['time.parse_rfc3339_ns', '"2262-04-11T23:47:16.854775807Z"', '9223372036854775807'],
  ['time.parse_rfc3339_ns', '"2262-04-11T23:47:16.854775808Z"', 'undefined'],
  ['time.parse_duration_ns', '"1h30m5s"', '5405000000000'],
  ['time.parse_duration_ns', '"-1.5h"', '-5400000000000'],
  ['time.parse_duration_ns', '"1µs"', '1000'],
  ['time.parse_duration_ns', '"0"', '0'],
  ['time.parse_duration_ns', '"1"', 'undefined'],
  ['time.parse_duration_ns', '""', 'undefined'],
  ['time.parse_duration_ns', '"0.3333333333333333333h"', '1200000000000'],
  ['time.parse_duration_ns', '"2562047h47m16.854775807s"', '9223372036854775807'],
  ['time.parse_duration_ns', '"2562047h47m16.854775808s"', 'undefined'],
  ['time.parse_duration_ns', '"-2562047h47m16.854775808s"', '-9223372036854775808'],
  ['time.parse_duration_ns', '"1y1w1d1h1m1s1ms1us1ns"', '32230861001001001'],
  ['time.parse_duration_ns', '"0.1d"', '8640000000000'],
  ['time.parse_duration_ns', '"0.0000001d"', '8640000'],
  ['time.parse_duration_ns', '"1d1μs"', 'undefined'],
  ['time.parse_duration_ns', '"1 s"', 'undefined'],
  ['time.parse_duration_ns', '"293y"', 'undefined'],
  ['time.format', '1500000000123456789', '"2017-07-14T02:40:00.123456789Z"'],
  ['time.format', '[1500000000123456789, "Europe/Berlin"]', '"2017-07-14T04:40:00.123456789+02:00"'],
  ['time.format', '[1500000000123456789, "", "RFC1123"]', '"Fri, 14 Jul 2017 02:40:00 UTC"'],
  ['time.format', '[1500000000123456789, "America/St_Johns", "RFC822"]', '"14 Jul 17 00:10 NDT"'],
  [
    'time.format',
    '[1500000000123456789, "Asia/Kathmandu", "Mon Jan _2 __2 002 MST 3:4:5pm .000 ,999999 Z07"]',
    '"Fri Jul 14 195 195 +0545 8:25:0am .123 ,123456 +05"',
  ],
  [
    'time.format',
    '[1500000000123456789, "UTC", "Z0700 Z07:00:00 -0700 MST Janx Mond _2006"]',
    '"Z Z +0000 UTC Janx Mond _2017"',
  ],
  [
    'time.format',
    '[-5000000000000000000, "Africa/Monrovia", "-07:00:00 MST 05.0000000000"]',
    '"-00:43:08 LMT 32.000000000"',
  ],
  ['time.format', '[4102444800000000000, "America/New_York", "2006-01-02 15:04 MST"]', '"2099-12-31 19:00 EST"'],
  [
    'time.format',
    '[7246000000000000000, "Australia/Lord_Howe", "2006-01-02 15:04 MST -0700"]',
    '"2199-08-14 04:16 +1030 +1030"',
  ],
  ['time.format', '[7258118400000000000, "Europe/Berlin", "2006-01-02 15:04 MST"]', '"2200-01-01 01:00 CET"'],
  ['time.format', '[0, "utc"]', 'undefined'],
  ['time.format', '[0, "europe/berlin"]', 'undefined'],
  ['time.format', '[0, "../etc"]', 'undefined'],
  ['time.format', '[0, "Local", "MST"]', '"UTC"'],
  ['time.format', '[0, "constructor"]', 'undefined'],
  ['time.format', '1.5e18', '"2017-07-14T02:40:00Z"'],
  ['time.format', '1.5', 'undefined'],
  ['time.format', '9223372036854775807', '"2262-04-11T23:47:16.854775807Z"'],
  ['time.format', '9223372036854775808', 'undefined'],
  ['time.format', '9223372036854775807.2', '"2262-04-11T23:47:16.854775807Z"'],
  ['time.format', '1e400', 'undefined'],
  ['time.format', '[]', 'undefined'],
  ['time.format', '{1}', 'undefined'],
  ['time.format', '[1, "UTC", 3]', 'undefined'],
  ['time.date', '[1500000000123456789, "Asia/Tokyo"]', '[2017,7,14]'],
  ['time.clock', '[1500000000123456789, "Asia/Kolkata"]', '[8,10,0]'],
  ['time.weekday', '-1', '"Wednesday"'],
  ['time.weekday', '"x"', 'undefined'],
  ['time.add_date', '951782400000000000, 1, 0, 0', '983404800000000000'],
  ['time.add_date', '1500000000123456789, -1, -13, 400', '1468809600123456789'],
  ['time.add_date', '[1585357200000000000, "Europe/Berlin"], 0, 0, 1', '1585443600000000000'],
  ['time.add_date', '[1585359000000000000, "Europe/Berlin"], 0, 0, 1', '1585445400000000000'],
  ['time.add_date', '[1603585800000000000, "Europe/Berlin"], 0, 0, 1', '1603675800000000000'],
  ['time.add_date', '0, 300, 0, 0', 'undefined'],
  ['time.add_date', '0, 1.5, 0, 0', 'undefined'],
  ['time.add_date', '0, 1.0, 0, 0', '31536000000000000'],
  ['time.diff', '1585450800000000000, 951782400000000000', '[20,1,0,3,0,0]'],
  ['time.diff', '[1709251199000000000, "America/New_York"], [1675123456000000000, "Asia/Tokyo"]', '[1,0,29,23,55,43]'],
  ['time.diff', '0, "x"', 'undefined'],
];

describe('time built-ins', () => {
  it.each(cases)('%s(%s) is %s', (name, args, result) => {
    expect(call(name, args)).toBe(result);
  });

  it('gives the time of the evaluation', () => {
    expect(call('time.now_ns', '')).toBe('1700000000123456789');
  });

  it('reads what it wrote, to the nanosecond and in every zone', () => {
    const zones = fc.constantFrom('UTC', 'Europe/Berlin', 'America/St_Johns', 'Pacific/Apia', 'Asia/Kathmandu');
    fc.assert(
      // Offsets had seconds before 1972, which RFC 3339 does not write.
      fc.property(fc.bigInt({ min: 10n ** 17n, max: (1n << 63n) - 1n }), zones, (ns, zone) => {
        const written = call('time.format', `[${ns}, "${zone}"]`);
        expect(call('time.parse_rfc3339_ns', written)).toBe(String(ns));
      }),
    );
  });

  it('repeats the last rule of a zone after the end of its tables', () => {
    const at = (day: string): string => {
      const ns = call('time.parse_rfc3339_ns', `"${day}T12:00:00Z"`);
      return call('time.format', `[${ns}, "Europe/Berlin", "MST"]`);
    };
    expect(['2100-03-27', '2100-03-28', '2100-10-30', '2100-10-31'].map(at)).toEqual([
      '"CET"',
      '"CEST"',
      '"CEST"',
      '"CET"',
    ]);
  });
});
