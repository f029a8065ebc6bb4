import fc from 'fast-check';
import { RE2JS } from 're2js';
import { BuiltinHalt } from '../../../../services/pdp/policy/engine/builtin.ts';
import { regexBuiltins } from '../../../../services/pdp/policy/engine/regex.ts';
import { answerOf } from './call-builtin.ts';

const answer = (name: string, ...args: string[]) => answerOf(regexBuiltins, name, args);
const unmetered = { nowNs: 0n, randomBytes: (length: number) => new Uint8Array(length), spend: () => undefined };
const quoted = (value: unknown) => JSON.stringify(value);

describe('regular expressions', () => {
  // What OPA 1.22.2 answers.
  it.each([
    ['regex.split', ['a*', 'baaab'], '["b", "b"]'],
    ['regex.split', ['', 'a😀'], '["a", "😀"]'],
    ['regex.split', ['a', ''], '[""]'],
    ['regex.split', ['', ''], '[]'],
    ['regex.split', [',', 'a,b,,c'], '["a", "b", "", "c"]'],
    ['regex.split', ['a', 'ba'], '["b", ""]'],
    ['regex.split', ['(?=a)', 'a'], 'undefined'],
    ['regex.replace', ['baaab', 'a*', 'x'], '"xbxbx"'],
    ['regex.replace', ['ab', '(a)(b)?', '$2$1'], '"ba"'],
    ['regex.replace', ['a', '(a)', '$1x'], '""'],
    ['regex.replace', ['a', '(a)', '${1}x'], '"ax"'],
    ['regex.replace', ['a', '(?P<n>a)', '$n-$$-$'], '"a-$-$"'],
    ['regex.replace', ['a', '(a)', '${1'], '"${1"'],
    ['regex.replace', ['a', '(a)', '$01'], '""'],
    ['regex.replace', ['a😀a', '', '-'], '"-a-😀-a-"'],
    ['regex.replace', ['foo', '^[a-z]', 'F'], '"Foo"'],
    ['regex.replace', ['abc', 'a(?:(.)\\z|)', '<$1>'], '"<>bc"'],
    ['regex.template_match', ['urn:{[a-z]+}:x', 'urn:abc:x', '{', '}'], 'true'],
    ['regex.template_match', ['a.{b}', 'axb', '{', '}'], 'false'],
    ['regex.template_match', ['{a{2}}', 'aa', '{', '}'], 'true'],
    ['regex.template_match', ['{', 'x', '{', '}'], 'undefined'],
    ['regex.template_match', ['x', 'x', 'é', '}'], 'undefined'],
    ['regex.template_match', ['{(}', '(', '{', '}'], 'undefined'],
    ['regex.globs_match', ['a.*', '.*b'], 'true'],
    ['regex.globs_match', ['[a-c]+', '[d-f]+'], 'false'],
    ['regex.globs_match', ['', 'a*'], 'false'],
    ['regex.globs_match', ['', ''], 'true'],
    ['regex.globs_match', ['aa*', 'a'], 'false'],
    ['regex.globs_match', ['b[ab]+[ab]+', 'ba'], 'true'],
    ['regex.globs_match', ['a\\*', 'a.'], 'true'],
    ['regex.globs_match', ['é+', '[à-ü]'], 'true'],
    ['regex.globs_match', ['[c-a]', 'a'], 'undefined'],
    ['regex.globs_match', ['a**', 'a'], 'undefined'],
    ['regex.globs_match', ['a\\', 'a'], 'undefined'],
  ])('%s of %j is %s', (name, args, expected) => {
    expect(answer(name, ...args.map(quoted))).toBe(expected);
  });

  it.each([
    ['-1', '["a", "a", "a"]'],
    ['2', '["a", "a"]'],
    ['0', '[]'],
    ['1.0', '["a"]'],
    ['1.5', 'undefined'],
    ['"1"', 'undefined'],
  ])('finds as many matches as %s says', (limit, expected) => {
    expect(answer('regex.find_n', '"a"', '"banana"', limit)).toBe(expected);
  });

  it('takes linear time where a backtracking engine takes forever', () => {
    const value = quoted(`${'a'.repeat(20_000)}!`);
    expect(answer('regex.find_n', '"^(a+)+$"', value, '-1')).toBe('[]');
    const stars = '.*'.repeat(200);
    expect(answer('regex.globs_match', quoted(`${stars}c`), quoted(`${stars}d`))).toBe('false');
  });

  it('matches a glob without flags with a text exactly where a regular expression does', () => {
    const glob = fc.string({ unit: fc.constantFrom('a', 'b', '.', '[ab]'), maxLength: 4 });
    const word = fc.string({ unit: fc.constantFrom('a', 'b'), maxLength: 4 });
    fc.assert(
      fc.property(glob, word, (pattern, value) => {
        const expected = String(new RegExp(`^${pattern}$`).test(value));
        expect(answer('regex.globs_match', quoted(pattern), quoted(value))).toBe(expected);
        expect(answer('regex.globs_match', quoted(value), quoted(pattern))).toBe(expected);
      }),
    );
  });

  it('finds, match by match, what the library finds at once', () => {
    const atoms = [
      'a',
      'b',
      'é',
      '😀',
      '.',
      '\\n',
      '^',
      '$',
      '\\b',
      '\\B',
      '(?m:^)',
      '(?m:$)',
      '[ab]',
      '(a)',
      '(b|a+b)',
      'a*?',
    ];
    const atom = fc.tuple(fc.constantFrom(...atoms), fc.constantFrom('', '', '*', '+?', '?', '|', '{2}'));
    const pattern = fc.array(atom, { maxLength: 5 }).map((parts) => parts.flat().join(''));
    const value = fc.string({ unit: fc.constantFrom('a', 'b', 'é', '😀', '\n', ' ', '\ud83d'), maxLength: 9 });
    fc.assert(
      fc.property(pattern, value, fc.integer({ min: -1, max: 4 }), (source, base, limit) => {
        let regex: RE2JS;
        try {
          regex = RE2JS.compile(source);
        } catch {
          return;
        }
        const all: readonly (readonly number[])[] =
          limit === 0 ? [] : (regex.re2().findAllSubmatchIndex(base, limit) ?? []);
        const found = regexBuiltins['regex.find_n']!(unmetered, source, base, limit);
        expect(found).toEqual(all.map(([start, end]) => base.slice(start, end)));
        if (limit >= 0 || regex.groupCount() === 0) return;
        const [first] = all;
        const group = first?.[2] === undefined || first[2] < 0 ? '' : base.slice(first[2], first[3]);
        const replaced = regexBuiltins['regex.replace']!(unmetered, base, source, '<${1}>');
        if (first !== undefined) expect((replaced as string).slice(first[0])).toMatch(new RegExp(`^<${group}>`));
      }),
      { numRuns: 2_000 },
    );
  });

  it('forgets no pattern that it still needs, however many there were', () => {
    for (let i = 0; i < 500; i += 1)
      expect(answer('regex.find_n', quoted(`^${i}$`), quoted(`${i}`), '1')).toBe(`["${i}"]`);
  });

  it('fails the evaluation at patterns and answers without end', () => {
    expect(() => answer('regex.find_n', quoted('a'.repeat(100_001)), '"a"', '1')).toThrow(BuiltinHalt);
    expect(() => answer('regex.replace', quoted('a'.repeat(10_000)), '"a"', quoted('b'.repeat(10_000)))).toThrow(
      BuiltinHalt,
    );
    const long = quoted('a'.repeat(3_000));
    expect(() => answer('regex.globs_match', long, quoted(`.*${'b'.repeat(3_000)}`))).toThrow(BuiltinHalt);
  });
});
