/*
 * Where a policy that OPA compiled to WebAssembly answers otherwise than the same policy in OPA's interpreter. The one
 * list: docs/differences.md is made of it, `edict policy check` warns by it, the fuzzer (scripts/fuzz) names what it
 * passes over by it. Each example is evaluated on both sides by a test.
 */

export interface WasmDifference {
  readonly id: string;
  readonly title: string;
  readonly happens: string;
  /** How to write a policy that answers the same on both sides. */
  readonly avoid: string;
  /** What `edict policy check` looks for in the syntax tree; undefined: the tree does not show it. */
  readonly found: string | undefined;
  /** An expression, and its value on both sides, as Rego prints it; `data` is `{"o": {"1": "one"}, "l": [7, 8]}`. */
  readonly example: { readonly rego: string; readonly interpreter: string; readonly module: string } | undefined;
}

export const WASM_DIFFERENCES = [
  {
    id: 'set-order',
    title: 'Order of what is made of sets and objects',
    happens:
      'Sets and objects are walked in the order of a hash table, so arrays and texts that are made of them (array ' +
      'comprehensions, `concat`, `json.marshal`) have another order than the sorted one of the interpreter.',
    avoid: 'Keep a set, or `sort` the array before its order counts.',
    found:
      'an array comprehension over, a `concat` of, or a `json.marshal` of a set or object; not where `count`, `sum`, ' +
      '`product`, `max`, `min`, `sort` or `in` takes the array, which makes its order meaningless',
    example: {
      rego: '[x | some x in {"b", "a", "c"}]',
      interpreter: '["a","b","c"]',
      module: '["c","b","a"]',
    },
  },
  {
    id: 'last-digits',
    title: 'Last digits of numbers',
    happens:
      'Division gives 18 digits, the interpreter gives 20; both round sums, differences and products of longer numbers, ' +
      'in different places. A product of factors that have more than some 570 digits together is wrong, or ends the ' +
      'evaluation.',
    avoid: 'Compare quotients with a tolerance, or multiply instead: `a > b * 3`, not `a / 3 > b`.',
    found: 'a division, unless its divisor is a constant with no prime factor but 2 and 5',
    example: { rego: '1 / 3', interpreter: '0.33333333333333333334', module: '0.333333333333333333' },
  },
  {
    id: 'large-format-int',
    title: 'format_int of large integers',
    happens: '`format_int` ends the evaluation (`policy_error`, `strings: get uint failed`) from 2^31 on.',
    avoid: 'Use `sprintf("%d", [n])`.',
    found: 'a `format_int` whose number is not known to be small, such as a count or the index of an iteration',
    example: {
      rego: 'format_int(2147483648, 10)',
      interpreter: '"2147483648"',
      module: 'error: strings: get uint failed',
    },
  },
  {
    id: 'fraction-index',
    title: 'Whole numbers that are written with a fraction',
    happens:
      '`1.0` is no index and no integer: `array[1.0]`, `array.slice`, `substring` and `bits.*` are undefined; the ' +
      'interpreter takes it for 1.',
    avoid: 'Demand integers of whoever writes the input, or use `round(x)`.',
    found: 'a position or an operand of `array.slice`, `substring` or `bits.*` that is not known to be an integer',
    example: { rego: 'substring("abc", 1.0, 1)', interpreter: '"b"', module: 'undefined' },
  },
  {
    id: 'floor-ceil',
    title: 'floor and ceil between -1 and 0, and of long numbers',
    happens:
      '`floor(-0.5)` is -1 and `ceil(-0.5)` is 0, as in mathematics; the interpreter gives 0 and 1. Beyond 19 digits ' +
      'the interpreter rounds.',
    avoid: 'Test `x >= 0` first.',
    found: 'a `floor` or `ceil` of what is not known to be zero, positive or an integer',
    example: { rego: 'floor(-0.5)', interpreter: '0', module: '-1' },
  },
  {
    id: 'replace-empty',
    title: 'replace of an empty text',
    happens: '`replace(x, "", y)` does not end; the fuel of the evaluation ends it (`policy_fuel`).',
    avoid: 'Use `strings.replace_n({old: new}, x)`, or test `old != ""` first.',
    found: 'a `replace` whose second argument is not a constant text with characters',
    example: {
      rego: 'replace("abc", "", "x")',
      interpreter: '"xaxbxcx"',
      module: 'error: the evaluation took more steps than it may',
    },
  },
  {
    id: 'json-escapes',
    title: 'Escapes of json.marshal',
    happens: '`json.marshal` leaves `<`, `>`, `&`, U+2028 and U+2029 as they are; the interpreter escapes them.',
    avoid: 'Do not compare or hash marshalled texts that others wrote; `json.marshal_with_options` is as in OPA.',
    found: 'a `json.marshal` of what is not known to hold no text',
    example: { rego: 'json.marshal("<")', interpreter: String.raw`"\"\\u003c\""`, module: String.raw`"\"<\""` },
  },
  {
    id: 'lenient-json',
    title: 'JSON that is none',
    happens:
      '`json.unmarshal` and `json.is_valid` take `[1,]`, `01` and text behind the value, and numbers with any exponent ' +
      '(`1e999999999` may cost all fuel). The interpreter is undefined, or false.',
    avoid: 'Let the caller send JSON as JSON, in `context`; `yaml.unmarshal` is as in OPA.',
    found: 'a `json.unmarshal` or `json.is_valid` of what is not a constant that is JSON',
    example: { rego: 'json.unmarshal("[1,]")', interpreter: 'undefined', module: '[1]' },
  },
  {
    id: 'lenient-base64',
    title: 'Base64 that is none',
    happens:
      '`base64.decode` and `base64.is_valid` take a text without its padding and skip characters outside the alphabet, ' +
      '`base64url.decode` takes wrong padding. The interpreter is undefined, or false.',
    avoid: 'Test the text with `regex.match` first where its form counts.',
    found: 'one of these of what is not a constant that is whole base64',
    example: { rego: 'base64.decode("YQ")', interpreter: 'undefined', module: '"a"' },
  },
  {
    id: 'indexof-empty',
    title: 'indexof of an empty text',
    happens: '`indexof(x, "")` is 0; the interpreter is undefined.',
    avoid: 'Test `search != ""` first.',
    found: 'an `indexof` whose second argument is not a constant text with characters',
    example: { rego: 'indexof("abc", "")', interpreter: 'undefined', module: '0' },
  },
  {
    id: 'number-keys',
    title: 'Numbers as keys of data, and texts as positions in it',
    happens:
      'In `data`, `o[1]` does not find the key `"1"` of an object, and `l["1"]` not the second of an array; the ' +
      'interpreter finds both.',
    avoid: 'Write the key as what it is; `sprintf("%d", [n])` makes a key of a number.',
    found:
      'a constant number or text of digits behind `data`, where `data.json` has no array, or no object, at that place; ' +
      'keys that come from elsewhere are not seen',
    example: { rego: 'data.o[1]', interpreter: '"one"', module: 'undefined' },
  },
  {
    id: 'conflict-order',
    title: 'Conflicts that the interpreter does not come to',
    happens:
      'A body may be evaluated in another order. Where it holds two values for one rule or one key, the module may meet ' +
      'the conflict (`policy_error`) and the interpreter leave the body before it.',
    avoid: 'Let a rule, and a key of an object, have one value for every input; the cases of a bundle show most.',
    found: undefined,
    example: undefined,
  },
] as const satisfies readonly WasmDifference[];

export type DifferenceId = (typeof WASM_DIFFERENCES)[number]['id'];
