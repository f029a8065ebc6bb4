import fc from 'fast-check';
import { BuiltinHalt } from '../../../../services/pdp/policy/engine/builtin.ts';
import { stringBuiltins } from '../../../../services/pdp/policy/engine/strings.ts';
import { answerOf } from './call-builtin.ts';

const answer = (name: string, ...args: string[]) => answerOf(stringBuiltins, name, args);
const quoted = (value: unknown) => JSON.stringify(value);

describe('string built-ins', () => {
  // What OPA 1.22.2 answers.
  it.each([
    ['strings.any_prefix_match', ['"abc"', '"ab"'], 'true'],
    ['strings.any_prefix_match', ['["x", "abc"]', '{"b", "ab"}'], 'true'],
    ['strings.any_prefix_match', ['["x", "a"]', '["ab"]'], 'false'],
    ['strings.any_prefix_match', ['[]', '[""]'], 'false'],
    ['strings.any_prefix_match', ['"a"', '["a", 1]'], 'undefined'],
    ['strings.any_prefix_match', ['{"a": 1}', '"a"'], 'undefined'],
    ['strings.any_suffix_match', ['{"x", "é😀"}', '["b", "😀"]'], 'true'],
    ['strings.any_suffix_match', ['"abc"', '["ab", "b"]'], 'false'],
    ['strings.count', ['"aaaa"', '"aa"'], '2'],
    ['strings.count', ['"é😀"', '""'], '3'],
    ['strings.count', ['1', '""'], 'undefined'],
    ['strings.split_n', ['"a,b,c"', '","', '2'], '["a", "b"]'],
    ['strings.split_n', ['"a,b,c"', '","', '-2'], '["b", "c"]'],
    ['strings.split_n', ['"a,b,c"', '","', '9223372036854775807'], '["a", "b", "c"]'],
    ['strings.split_n', ['"é😀x"', '""', '2'], '["é", "😀"]'],
    ['strings.split_n', ['""', '","', '1'], '[""]'],
    ['strings.split_n', ['""', '""', '1'], '[]'],
    ['strings.split_n', ['"a"', '","', '1.0'], '["a"]'],
    ['strings.split_n', ['"a"', '","', '1.5'], 'undefined'],
    ['strings.split_n', ['"a"', '","', '9223372036854775808'], 'undefined'],
    ['indexof_n', ['"aaa"', '"aa"'], '[0, 1]'],
    ['indexof_n', ['"😀a😀"', '"😀"'], '[0, 2]'],
    ['indexof_n', ['"a"', '""'], 'undefined'],
  ])('%s of %j is %s', (name, args, expected) => {
    expect(answer(name, ...args)).toBe(expected);
  });

  const short = fc.string({ unit: fc.constantFrom('a', 'b', '😀'), maxLength: 6 });

  it('finds a prefix or a suffix exactly where one is', () => {
    fc.assert(
      fc.property(fc.array(short), fc.array(short), (strings, affixes) => {
        const any = (test: (value: string, affix: string) => boolean) =>
          String(strings.some((value) => affixes.some((affix) => test(value, affix))));
        expect(answer('strings.any_prefix_match', quoted(strings), quoted(affixes))).toBe(
          any((value, affix) => value.startsWith(affix)),
        );
        expect(answer('strings.any_suffix_match', quoted(strings), quoted(affixes))).toBe(
          any((value, affix) => value.endsWith(affix)),
        );
      }),
    );
  });

  it('splits into what joins to the same string', () => {
    fc.assert(
      fc.property(short, short, (base, separator) => {
        const parts = JSON.parse(answer('strings.split_n', quoted(base), quoted(separator), '100')) as string[];
        expect(parts.join(separator)).toBe(base);
      }),
    );
  });

  it('takes linear time over what repeats itself', () => {
    const base = quoted('a'.repeat(400_000));
    const search = quoted(`${'a'.repeat(200_000)}b`);
    expect(answer('strings.count', base, search)).toBe('0');
    expect(answer('indexof_n', base, search)).toBe('[]');
  });

  it('fails the evaluation rather than answer with millions of strings', () => {
    expect(() => answer('strings.split_n', quoted('a'.repeat(1_000_001)), '""', '-1')).toThrow(BuiltinHalt);
    expect(() => answer('indexof_n', quoted('a'.repeat(1_000_001)), '"a"')).toThrow(BuiltinHalt);
  });
});
