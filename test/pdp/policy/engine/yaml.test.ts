import fc from 'fast-check';
import { BuiltinHalt } from '../../../../services/pdp/policy/engine/builtin.ts';
import { parseValue, printValue } from '../../../../services/pdp/policy/engine/value-text.ts';
import { yamlBuiltins } from '../../../../services/pdp/policy/engine/yaml.ts';
import { printedAnswerOf } from './call-builtin.ts';

const call = (name: string, args: string): string => printedAnswerOf(yamlBuiltins, name, args);

/** As OPA 1.22.2 evaluates them. */
const cases: readonly (readonly [name: string, args: string, result: string])[] = [
  ['yaml.unmarshal', '"017"', '15'],
  ['yaml.unmarshal', '"-017"', '-15'],
  ['yaml.unmarshal', '"0b11"', '3'],
  ['yaml.unmarshal', '"0o17"', '15'],
  ['yaml.unmarshal', '"0X1f"', '31'],
  ['yaml.unmarshal', '"1_000"', '1000'],
  ['yaml.unmarshal', '"1__2"', '12'],
  ['yaml.unmarshal', '"08"', '8'],
  ['yaml.unmarshal', '"1e3"', '1000'],
  ['yaml.unmarshal', '"+.5"', '0.5'],
  ['yaml.unmarshal', '"1e400"', '"1e400"'],
  ['yaml.unmarshal', '"-0.0"', '-0'],
  ['yaml.unmarshal', '"12345678901234567890"', '12345678901234567890'],
  ['yaml.unmarshal', '"18446744073709551616"', '18446744073709552000'],
  ['yaml.unmarshal', '"123456789012345678901234567890"', '1.2345678901234568e+29'],
  ['yaml.unmarshal', '".inf"', 'undefined'],
  ['yaml.unmarshal', '".nan"', 'undefined'],
  ['yaml.unmarshal', '"~"', 'null'],
  ['yaml.unmarshal', '"True"', 'true'],
  ['yaml.unmarshal', '"tRUE"', '"tRUE"'],
  ['yaml.unmarshal', '"yes"', '"yes"'],
  ['yaml.unmarshal', '"on"', '"on"'],
  ['yaml.unmarshal', '"190:20:30"', '"190:20:30"'],
  ['yaml.unmarshal', '"2020-01-01"', '"2020-01-01"'],
  ['yaml.unmarshal', '""', 'null'],
  ['yaml.unmarshal', String.raw`"--- a\n"`, '"a"'],
  ['yaml.unmarshal', String.raw`"---\n---\na: 1\n"`, 'null'],
  ['yaml.unmarshal', String.raw`"a: 1\n---\nb: 2\n"`, '{"a":1}'],
  ['yaml.unmarshal', String.raw`"a: 1\n---\n\tb: 2\n"`, 'undefined'],
  ['yaml.unmarshal', String.raw`"a: 1\n...\nb: 2\n"`, 'undefined'],
  ['yaml.unmarshal', String.raw`"%YAML 1.2\n---\na: 1\n"`, 'undefined'],
  ['yaml.unmarshal', String.raw`"%YAML 1.1\n---\na: 1\n"`, '{"a":1}'],
  ['yaml.unmarshal', String.raw`"a: 1\na: 2\n"`, '{"a":2}'],
  ['yaml.unmarshal', String.raw`"1: a\n\"1\": b\n"`, '{"1":"b"}'],
  ['yaml.unmarshal', String.raw`"null: a\n"`, 'undefined'],
  ['yaml.unmarshal', String.raw`": a\n"`, 'undefined'],
  ['yaml.unmarshal', String.raw`"[1,2]: v\n"`, 'undefined'],
  ['yaml.unmarshal', String.raw`"true: a\n"`, '{"true":"a"}'],
  ['yaml.unmarshal', String.raw`"0x10: a\n"`, '{"16":"a"}'],
  ['yaml.unmarshal', String.raw`".inf: a\n"`, '{".inf":"a"}'],
  ['yaml.unmarshal', String.raw`"0.1: a\n"`, '{"0.1":"a"}'],
  ['yaml.unmarshal', String.raw`"123456789.123: a\n"`, '{"1.2345679e+08":"a"}'],
  ['yaml.unmarshal', String.raw`"a: &x 1\nb: *x\n"`, '{"a":1,"b":1}'],
  ['yaml.unmarshal', String.raw`"a: *x\n"`, 'undefined'],
  ['yaml.unmarshal', String.raw`"a: &x [*x]\n"`, 'undefined'],
  [
    'yaml.unmarshal',
    String.raw`"base: &b {a: 1, c: 2}\nd:\n  <<: *b\n  a: 3\n"`,
    '{"base":{"a":1,"c":2},"d":{"a":3,"c":2}}',
  ],
  [
    'yaml.unmarshal',
    String.raw`"p: &p {x: 1}\nq: &q {x: 9, y: 2}\nr:\n  <<: *p\n  <<: *q\n  z: 3\n"`,
    '{"p":{"x":1},"q":{"x":9,"y":2},"r":{"x":1,"y":2,"z":3}}',
  ],
  ['yaml.unmarshal', String.raw`"p: &p {x: 1}\nr:\n  <<: [*p, {y: 2}]\n"`, '{"p":{"x":1},"r":{"x":1,"y":2}}'],
  ['yaml.unmarshal', String.raw`"p: &p [1]\nr:\n  <<: *p\n"`, 'undefined'],
  ['yaml.unmarshal', String.raw`"<<: 1\n"`, 'undefined'],
  ['yaml.unmarshal', String.raw`"\"<<\": 1\n"`, '{"<<":1}'],
  ['yaml.unmarshal', String.raw`"q:\n  <<: {0x10: a}\n  x: 1\n"`, '{"q":{"0x10":"a","x":1}}'],
  ['yaml.unmarshal', String.raw`"a: !!str 5\n"`, '{"a":"5"}'],
  ['yaml.unmarshal', String.raw`"a: !!int \"5\"\n"`, '{"a":5}'],
  ['yaml.unmarshal', String.raw`"a: !!int 5.5\n"`, 'undefined'],
  ['yaml.unmarshal', String.raw`"a: !!float 5\n"`, '{"a":5}'],
  ['yaml.unmarshal', String.raw`"a: !!bool yes\n"`, 'undefined'],
  ['yaml.unmarshal', String.raw`"a: !!binary aGVsbG8=\n"`, '{"a":"hello"}'],
  ['yaml.unmarshal', String.raw`"a: !!binary aGV!\n"`, 'undefined'],
  ['yaml.unmarshal', String.raw`"a: !foo bar\n"`, '{"a":"bar"}'],
  ['yaml.unmarshal', String.raw`"a: ! 5\n"`, '{"a":5}'],
  ['yaml.unmarshal', String.raw`"[a, b: c]\n"`, '["a",{"b":"c"}]'],
  ['yaml.unmarshal', String.raw`"{a, b: }\n"`, '{"a":null,"b":null}'],
  ['yaml.unmarshal', String.raw`"[a: 1, :b]\n"`, 'undefined'],
  ['yaml.unmarshal', String.raw`"a: |+\n  x\n\n"`, String.raw`{"a":"x\n\n"}`],
  ['yaml.unmarshal', String.raw`"a: >-\n  x\n   y\n  z\n"`, String.raw`{"a":"x\n y\nz"}`],
  ['yaml.unmarshal', String.raw`"a: \"\\/\"\n"`, 'undefined'],
  ['yaml.unmarshal', String.raw`"a: \"\\ud83d\\ude00\"\n"`, 'undefined'],
  ['yaml.unmarshal', String.raw`"a: \"\\U0001F600\"\n"`, '{"a":"😀"}'],
  ['yaml.unmarshal', String.raw`"a: 'it''s'# c\n"`, '{"a":"it\'s"}'],
  ['yaml.unmarshal', String.raw`"a: [\n  1\n]\n"`, '{"a":[1]}'],
  ['yaml.unmarshal', String.raw`"a:\t1\n"`, '{"a":1}'],
  ['yaml.unmarshal', String.raw`"-\ta\n"`, 'undefined'],
  ['yaml.unmarshal', String.raw`"a:\n\tb: 1\n"`, 'undefined'],
  ['yaml.unmarshal', String.raw`"a: 1\n\t\n"`, 'undefined'],
  ['yaml.unmarshal', String.raw`"a: 1\r\nb: 2\r\n"`, '{"a":1,"b":2}'],
  ['yaml.unmarshal', String.raw`"a: 1\rb: 2\r"`, '{"a":1,"b":2}'],
  ['yaml.unmarshal', String.raw`"a: \u0001\n"`, 'undefined'],
  ['yaml.unmarshal', String.raw`"a: x\u0085  y\n"`, '{"a":"x y"}'],
  ['yaml.unmarshal', String.raw`"\u65e5\u672c: \u8a9e\n"`, '{"日本":"語"}'],
  ['yaml.unmarshal', String.raw`"a: b: c\n"`, 'undefined'],
  ['yaml.unmarshal', String.raw`"  a: 1\n b: 2\n"`, 'undefined'],
  ['yaml.unmarshal', String.raw`"!!merge <<: {a: 1}\n"`, '{"a":1}'],
  ['yaml.marshal', 'null', String.raw`"null\n"`],
  ['yaml.marshal', '1.0', String.raw`"1\n"`],
  ['yaml.marshal', '1000000.0', String.raw`"1e+06\n"`],
  ['yaml.marshal', '1234567.8', String.raw`"1.2345678e+06\n"`],
  ['yaml.marshal', '0.00001', String.raw`"1e-05\n"`],
  ['yaml.marshal', '1e400', String.raw`"1e400\n"`],
  ['yaml.marshal', '18446744073709551616', String.raw`"1.8446744073709552e+19\n"`],
  ['yaml.marshal', '[]', String.raw`"[]\n"`],
  ['yaml.marshal', '{}', String.raw`"{}\n"`],
  ['yaml.marshal', '{2, 1}', String.raw`"- 1\n- 2\n"`],
  ['yaml.marshal', '{1: "a", "1": "b"}', String.raw`"\"1\": b\n"`],
  ['yaml.marshal', '{[1, "<"]: 1}', String.raw`"'[1,\"\\u003c\"]': 1\n"`],
  [
    'yaml.marshal',
    '{"a": [1, {"b": 2, "c": [3]}], "d": {"e": {}}}',
    String.raw`"a:\n  - 1\n  - b: 2\n    c:\n      - 3\nd:\n  e: {}\n"`,
  ],
  ['yaml.marshal', '[[1, [2]], {"a": [1]}]', String.raw`"- - 1\n  - - 2\n- a:\n    - 1\n"`],
  [
    'yaml.marshal',
    '{"a10": 1, "a9": 2, "_": 3, "A": 4, "10": 5, "9": 6, "é": 7, "a01": 8}',
    String.raw`"_: 3\n\"9\": 6\n\"10\": 5\nA: 4\na01: 8\na9: 2\na10: 1\né: 7\n"`,
  ],
  ['yaml.marshal', '"yes"', String.raw`"\"yes\"\n"`],
  ['yaml.marshal', '"017"', String.raw`"\"017\"\n"`],
  ['yaml.marshal', '"2020-01-01"', String.raw`"\"2020-01-01\"\n"`],
  ['yaml.marshal', '"190:20:30"', String.raw`"\"190:20:30\"\n"`],
  ['yaml.marshal', '""', String.raw`"\"\"\n"`],
  ['yaml.marshal', '" a"', String.raw`"' a'\n"`],
  ['yaml.marshal', '"a: b"', String.raw`"'a: b'\n"`],
  ['yaml.marshal', '"- a"', String.raw`"'- a'\n"`],
  ['yaml.marshal', '"-a"', String.raw`"-a\n"`],
  ['yaml.marshal', '"a #b"', String.raw`"'a #b'\n"`],
  ['yaml.marshal', '"it\'s"', String.raw`"it's\n"`],
  ['yaml.marshal', '"@a"', String.raw`"'@a'\n"`],
  ['yaml.marshal', String.raw`"a\nb"`, String.raw`"|-\n  a\n  b\n"`],
  ['yaml.marshal', String.raw`"a\n\n"`, String.raw`"|+\n  a\n\n"`],
  ['yaml.marshal', String.raw`" a\nb"`, String.raw`"|2-\n   a\n  b\n"`],
  ['yaml.marshal', String.raw`"a \nb"`, String.raw`"\"a \\nb\"\n"`],
  ['yaml.marshal', String.raw`"a\tb"`, String.raw`"\"a\\tb\"\n"`],
  ['yaml.marshal', String.raw`"a\rb"`, String.raw`"\"a\\rb\"\n"`],
  ['yaml.marshal', String.raw`"\ud83d\ude00"`, String.raw`"\"\\U0001F600\"\n"`],
  ['yaml.marshal', String.raw`"a\u0085b"`, String.raw`"a b\n"`],
  ['yaml.marshal', String.raw`"a\u2028b"`, String.raw`"'a   b'\n"`],
  ['yaml.marshal', String.raw`"\ufeffa"`, String.raw`"\"\\uFEFF\\x61\"\n"`],
  ['yaml.marshal', String.raw`"\u007f"`, 'undefined'],
  ['yaml.marshal', '"<<"', String.raw`"<<\n"`],
  ['yaml.marshal', String.raw`{"a\nb": 1}`, String.raw`"? |-\n  a\n  b\n: 1\n"`],
  [
    'yaml.marshal',
    String.raw`{"a": "x\ny", "b": ["x\ny\n"]}`,
    String.raw`"a: |-\n  x\n  y\nb:\n  - |\n    x\n    y\n"`,
  ],
  [
    'yaml.marshal',
    '{"kkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkk": [1]}',
    String.raw`"? kkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkk\n: - 1\n"`,
  ],
  ['yaml.marshal', 'set()', String.raw`"[]\n"`],
  ['yaml.unmarshal', '1', 'undefined'],
  ['yaml.is_valid', '1', 'false'],
  ['yaml.is_valid', '"a: [1"', 'false'],
  ['yaml.is_valid', '"a: [1]"', 'true'],
  ['yaml.is_valid', '"null: 1"', 'false'],
];

describe('yaml built-ins', () => {
  it.each(cases)('%s(%s) is %s', (name, args, result) => {
    expect(call(name, args)).toBe(result);
  });

  it('reads what it wrote', () => {
    // Characters that YAML reads as written, and the words that look like other types.
    const texts = fc.oneof(
      fc.string({ unit: fc.constantFrom(...Array.from('ab1- :#\n\'"&*!?|>%@,[]{}é\u{1f600}')) }),
      fc.constantFrom('yes', '~', '0x1', '1_0', '---', '.inf', '2020-01-01', '1:30', 'null', ''),
    );
    const { tree } = fc.letrec((tie) => ({
      tree: fc.oneof({ maxDepth: 3 }, texts, fc.integer(), fc.boolean(), fc.constant(null), tie('list'), tie('map')),
      list: fc.array(tie('tree'), { maxLength: 4 }),
      map: fc.dictionary(texts, tie('tree'), { maxKeys: 4, noNullPrototype: true }),
    }));
    fc.assert(
      fc.property(tree, (value) => {
        const wanted = printValue(parseValue(JSON.stringify(value)));
        expect(call('yaml.unmarshal', call('yaml.marshal', wanted))).toBe(wanted);
      }),
    );
  });

  it('refuses a document that is almost all aliases', () => {
    const line = (name: string, of: string): string => `${name}: &${name} [${Array(9).fill(of).join(',')}]\n`;
    const bomb = line('a', 'x') + line('b', '*a') + line('c', '*b') + line('d', '*c') + line('e', '*d');
    expect(call('yaml.unmarshal', JSON.stringify(bomb))).toBe('undefined');
  });

  it.each([
    ['nested too deep', '['.repeat(100_000)],
    ['too long', 'a'.repeat(2_000_000)],
  ])('fails the decision over a text that is %s', (_, source) => {
    expect(() => call('yaml.unmarshal', JSON.stringify(source))).toThrow(BuiltinHalt);
  });
});
