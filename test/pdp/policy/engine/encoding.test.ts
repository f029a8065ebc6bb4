import fc from 'fast-check';
import { BuiltinHalt } from '../../../../services/pdp/policy/engine/builtin.ts';
import { encodingBuiltins } from '../../../../services/pdp/policy/engine/encoding.ts';
import { answerOf } from './call-builtin.ts';

const answer = (name: string, ...args: string[]) => answerOf(encodingBuiltins, name, args);

describe('encoding built-ins', () => {
  // What OPA 1.22.2 answers.
  it.each([
    ['base64url.encode_no_pad', ['"é?>"'], '"w6k_Pg"'],
    ['glob.quote_meta', ['"*?[a]{b,c}\\\\!-"'], '"\\\\*\\\\?\\\\[a\\\\]\\\\{b,c\\\\}\\\\\\\\!-"'],
    ['hex.encode', ['"é"'], '"c3a9"'],
    ['hex.decode', ['"C3a9"'], '"é"'],
    ['hex.decode', ['"e282"'], '"\ufffd\ufffd"'],
    ['hex.decode', ['"abc"'], 'undefined'],
    ['hex.decode', ['"zz"'], 'undefined'],
    ['urlquery.encode', ['"a b+é!\'()*~"'], '"a+b%2B%C3%A9%21%27%28%29%2A~"'],
    ['urlquery.decode', ['"a+b%2B%c3%a9"'], '"a b+é"'],
    ['urlquery.decode', ['"%4"'], 'undefined'],
    ['urlquery.encode_object', ['{"b": {"z", "y"}, "a": "&", "c": []}'], '"a=%26&b=y&b=z"'],
    ['urlquery.encode_object', ['{1: "a"}'], '"1=a"'],
    ['urlquery.encode_object', ['{"a": 1}'], 'undefined'],
    [
      'urlquery.decode_object',
      ['"a=1&b&a=%20&=x&&__proto__=y"'],
      '{"": ["x"], "__proto__": ["y"], "a": ["1", " "], "b": [""]}',
    ],
    ['urlquery.decode_object', ['"a=1;b=2"'], 'undefined'],
    [
      'json.marshal_with_options',
      ['{"b": {2, 1}, "a": "<>&"}', '{}'],
      '"{\\"a\\":\\"\\\\u003c\\\\u003e\\\\u0026\\",\\"b\\":[1,2]}"',
    ],
    ['json.marshal_with_options', ['[1.0, {}]', '{"indent": "-", "prefix": ">"}'], '">[\\n>-1.0,\\n>-{}\\n>]"'],
    ['json.marshal_with_options', ['[1]', '{"pretty": true}'], '"[\\n\\t1\\n]"'],
    ['json.marshal_with_options', ['[1]', '{"pretty": false, "indent": "-"}'], '"[1]"'],
    ['json.marshal_with_options', ['[1]', '{"spaces": 1}'], 'undefined'],
    [
      'uuid.parse',
      ['"000003e8-48b9-21ee-b200-325096b39f47"'],
      '{"clocksequence": 12800, "domain": "Person", "id": 1000, "macvariables": "local:unicast", ' +
        '"nodeid": "32-50-96-b3-9f-47", "time": 1693566990121469600, "variant": "RFC4122", "version": 2}',
    ],
    ['uuid.parse', ['"urn:uuid:f47ac10b-58cc-4372-c567-0e02b2c3d479"'], '{"variant": "Microsoft", "version": 4}'],
    ['uuid.parse', ['"f47ac10b58cc4372e5670e02b2c3d479"'], '{"variant": "Future", "version": 4}'],
    ['uuid.parse', ['"f47ac10b_58cc-4372-a567-0e02b2c3d479"'], 'undefined'],
    ['uuid.rfc4122', ['"k"'], '"abababab-abab-4bab-abab-abababababab"'],
  ])('%s of %j is %s', (name, args, expected) => {
    expect(answer(name, ...args)).toBe(expected);
  });

  it('decodes what it encoded', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), (value) => {
        const argument = JSON.stringify(value);
        const same = answer('hex.decode', answer('hex.encode', argument));
        expect(answer('urlquery.decode', answer('urlquery.encode', argument))).toBe(same);
        expect(answer('hex.encode', argument)).toBe(`"${Buffer.from(value, 'utf8').toString('hex')}"`);
      }),
    );
  });

  it('fails the evaluation rather than indent without end', () => {
    const deep = '['.repeat(400) + '1' + ']'.repeat(400);
    const indent = JSON.stringify({ indent: ' '.repeat(100_000) });
    expect(() => answer('json.marshal_with_options', deep, indent)).toThrow(BuiltinHalt);
  });
});
