import type { Value } from '../../../services/pdp/policy/engine/value.ts';
import type { Generator, Generators } from './generators.ts';
import type { Random } from './random.ts';
import { anyText, anyValue, collection, damaged, maybeDamaged, object } from './values.ts';

const text: Generator = (random) => [anyText(random)];

const QUERIES = [
  '',
  'a=1',
  'a=1&b=2',
  'a=1&a=2',
  'a',
  'a=',
  '=1',
  '&&',
  'a=%20b',
  'a+b=c',
  'a=%zz',
  'a;b',
  'a=1;b=2',
  'é=ü',
  '%41=%42',
  'a=b=c',
  '%',
  'a=%C3%A9',
  'a=%ff',
];

const URIS = [
  'http://example.com',
  'https://user:pass@example.com:8443/a/b?x=1&y=2#frag',
  'http://[::1]:80/',
  'http://[fe80::1%25en0]/',
  'mailto:someone@example.com',
  'urn:isbn:0451450523',
  '//example.com/a',
  '/only/path',
  'relative/path',
  '?query',
  '#fragment',
  '',
  'http://',
  'http:///path',
  'file:///etc/passwd',
  'HTTP://EXAMPLE.com/%7Eu',
  'http://example.com/a b',
  'http://example.com:port/',
  ':',
  'http://example.com:80:80/',
  'http://exa mple.com/',
  'http://a@b@c/',
  'http://example.com/%zz',
  'http://example.com/?a=%zz',
  '1http://x',
  'http://[::1',
  'http://::1/',
  'http://example.com\\path',
  'http://example.com/\0',
  'ftp://x/é',
  'http://x/a;b?c;d#e%20f',
  'a:b:c',
  '*',
  'http://x#%zz',
];

const uri: Generator = (random) => [maybeDamaged(random, random.pick(URIS), ':/?#[]@%20aé ')];

const PATTERNS = [
  'a',
  'a+',
  'a*',
  '[a-c]+',
  '(a)(b)?',
  'a|b',
  '^a',
  'b$',
  '\\d+',
  '\\s',
  '\\w+',
  '.',
  '.*',
  'é',
  '(?i)A',
  '(?s).',
  '(?m)^.',
  '',
  '(?P<n>a)',
  '(?<n>a)',
  'a{2}',
  'a{1,2}?',
  '[^a]',
  '\\bfoo\\b',
  '\\pL',
  '[[:alpha:]]+',
  '(',
  '[',
  'a**',
  '(?=a)',
  '\\1',
  'x*',
  '(|a)*',
  '\\C',
  '\\Q.\\E',
  '[é👍]',
];
const SUBJECTS = [
  '',
  'a',
  'abc',
  'aabbcc',
  'foo bar',
  'a1b22c333',
  'éa👍',
  'foo.bar',
  'a\nb\nc',
  'ABC',
  'xyz',
  'aXbXc',
  ' a b ',
];
const REPLACEMENTS = ['', 'X', '$1', '${1}', '$1x', '${1}x', '$n', '${n}', '$$', '$', '$0', '${', '\\1', '$2$1', 'é$0'];

const pattern = (random: Random): string => maybeDamaged(random, random.pick(PATTERNS), 'ab()[]*+?\\|.', 0.15);
const subject = (random: Random): string => (random.chance(0.8) ? random.pick(SUBJECTS) : anyText(random));

const GLOBS = [
  'a*',
  '*',
  'a',
  'ab*',
  '[a-c]',
  '[a-c]+',
  'a+',
  '.',
  '.*',
  'a.b',
  '[^a]*',
  'a[bc]*',
  '',
  'x*y*',
  '\\*',
  '[ab]+c',
  'a*b+',
  'é+',
  '[',
  '*a',
  '+',
  '[z-a]',
  '[a\\-c]',
];

const TEMPLATES: readonly (readonly [string, string, string, string])[] = [
  ['urn:foo:{.*}', 'urn:foo:bar:baz', '{', '}'],
  ['urn:foo:{.*}', 'urn:bar', '{', '}'],
  ['urn:foo:{.*', 'urn:foo:x', '{', '}'],
  ['<[a-z]+>/x', 'abc/x', '<', '>'],
  ['a{(b|c)}d', 'abd', '{', '}'],
  ['a.b', 'axb', '{', '}'],
  ['{a{1,2}}', 'aa', '{', '}'],
  ['x', 'x', '', ''],
];

export const encodingGenerators: Generators = {
  'base64url.encode_no_pad': text,
  'hex.encode': text,
  'hex.decode': (random) => [
    random.chance(0.7)
      ? maybeDamaged(random, Buffer.from(anyText(random)).toString('hex'), '0123aAfFg ', 0.3)
      : anyText(random),
  ],
  'urlquery.encode': text,
  'urlquery.decode': (random) => [maybeDamaged(random, random.pick(QUERIES), '%&=+;aé')],
  'urlquery.decode_object': (random) => [maybeDamaged(random, random.pick(QUERIES), '%&=+;aé')],
  'urlquery.encode_object': (random) => [
    object(
      Object.fromEntries(
        random.many(0, 4, (): [string, Value] => [
          anyText(random),
          random.chance(0.5)
            ? anyText(random)
            : collection(random, () => (random.chance(0.95) ? anyText(random) : anyValue(random, 1))),
        ]),
      ),
    ),
  ],
  'uri.parse': uri,
  'uri.is_valid': uri,
  'regex.split': (random) => [pattern(random), subject(random)],
  'regex.find_n': (random) => [pattern(random), subject(random), random.int(-1, 4)],
  'regex.replace': (random) => [subject(random), pattern(random), random.pick(REPLACEMENTS)],
  'regex.globs_match': (random) => [
    maybeDamaged(random, random.pick(GLOBS), 'ab*+[].\\', 0.3),
    maybeDamaged(random, random.pick(GLOBS), 'ab*+[].\\', 0.3),
  ],
  'regex.template_match': (random) => {
    const [template, value, start, end] = random.pick(TEMPLATES);
    return [
      maybeDamaged(random, template, '{}<>.*a', 0.2),
      maybeDamaged(random, value, 'abx:', 0.2),
      random.chance(0.9) ? start : damaged(random, start, '{<'),
      random.chance(0.9) ? end : '',
    ];
  },
};
