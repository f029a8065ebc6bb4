import fc from 'fast-check';
import { BuiltinError, BuiltinHalt } from '../../../../services/pdp/policy/engine/builtin.ts';
import { goText, readJson, trimmed, writeGoJson } from '../../../../services/pdp/policy/engine/go-json.ts';
import { int64 } from '../../../../services/pdp/policy/engine/int64.ts';
import { parseValue } from '../../../../services/pdp/policy/engine/value-text.ts';
import { numberOf } from '../../../../services/pdp/policy/engine/value.ts';

describe("Go's JSON", () => {
  test.each([
    ['{"b":1,"a":{"d":2,"c":1.50}}', '{"a":{"c":1.50,"d":2},"b":1}'],
    ['"<>&\u2028\u2029/\u007f"', '"\\u003c\\u003e\\u0026\\u2028\\u2029/\u007f"'],
    ['"\\u0001\\b\\f\\n\\r\\t\\u001f"', '"\\u0001\\b\\f\\n\\r\\t\\u001f"'],
    ['{1:2,true:3,[1]:4,"z":5}', '{"1":2,"[1]":4,"true":3,"z":5}'],
    ['{3,1,2}', '[1,2,3]'],
    ['{"\uffee":1,"\u{1f600}":2,"z":3}', '{"z":3,"\uffee":1,"\u{1f600}":2}'],
  ])('of %s is %s', (value, json) => {
    expect(writeGoJson(parseValue(value))).toBe(json);
  });

  test('is read as written', () => {
    fc.assert(
      fc.property(fc.jsonValue(), (value) => {
        expect(JSON.parse(writeGoJson(readJson(JSON.stringify(value))))).toEqual(JSON.parse(JSON.stringify(value)));
      }),
    );
  });

  test.each([
    ['"\\ud800"', '"\ufffd"'],
    ['"\\ud83d\\ude00"', '"\u{1f600}"'],
    ['"\\ude00\\ud83d"', '"\ufffd\ufffd"'],
    ['"\\\\ud800"', '"\\\\ud800"'],
    ['{"a":1,"a":2}', '{"a":2}'],
    [' 1e400 ', '1e400'],
  ])('%s is read as %s', (json, written) => {
    expect(writeGoJson(readJson(json))).toBe(written);
  });

  test.each(['', 'x', '{"a":1}x', '[1,]', '01', '.5', 'set()', '{1}', '"\u0001"', '\ufeff1'])('%j is none', (json) => {
    expect(() => readJson(json)).toThrow(BuiltinError);
  });

  test('of a depth beyond that of values fails the decision', () => {
    expect(() => readJson('['.repeat(5000) + ']'.repeat(5000))).toThrow(BuiltinHalt);
  });
});

describe('bytes as text', () => {
  test.each([
    ['c3 bc', 'ü'],
    ['ff 41', '\ufffdA'],
    ['e2 82 41', '\ufffd\ufffdA'],
    ['f0 9f 98', '\ufffd\ufffd\ufffd'],
    ['ed a0 80', '\ufffd\ufffd\ufffd'],
    ['c0 80', '\ufffd\ufffd'],
    ['f4 90 80 80', '\ufffd\ufffd\ufffd\ufffd'],
    ['e2 82 ac ff', '€\ufffd'],
  ])('%s are %j', (hex, text) => {
    expect(goText(Buffer.from(hex.replaceAll(' ', ''), 'hex'))).toBe(text);
  });

  test('lose only the characters that are trimmed', () => {
    expect(['"\'a"b\'"', '""', '', 'a'].map((text) => trimmed(text, `"'`))).toEqual(['a"b', '', '', 'a']);
  });
});

describe('an integer of 64 bits', () => {
  test.each([
    ['0', 0n],
    ['-1', -1n],
    ['1.0', 1n],
    ['1.00', 1n],
    ['9223372036854775807', 9223372036854775807n],
    ['-9223372036854775808', -9223372036854775808n],
  ])('is read from %s', (text, value) => {
    expect(int64(numberOf(text))).toBe(value);
  });

  test.each(['1.5', '1e3', '9223372036854775808', '1.000000000000000000000'])('is not read from %s', (text) => {
    expect(() => int64(numberOf(text))).toThrow(BuiltinError);
  });
});
