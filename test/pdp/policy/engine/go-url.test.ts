import { BuiltinError } from '../../../../services/pdp/policy/engine/builtin.ts';
import { escapedPath, parseGoUrl, printGoUrl, textOf } from '../../../../services/pdp/policy/engine/go-url.ts';

const parse = (text: string): ReturnType<typeof parseGoUrl> => parseGoUrl(Buffer.from(text));

describe('a URL', () => {
  // Text, what Go's `String` gives, then scheme, opaque, host, path and query as Go parses them.
  test.each([
    ['http://h', 'http://h', 'http', '', 'h', '', ''],
    ['https://u:p@h:443/a b?x=1#f g', 'https://u:p@h:443/a%20b?x=1#f%20g', 'https', '', 'h:443', '/a b', 'x=1'],
    ['https://h/%2f%7e/ü', 'https://h//~/%C3%BC', 'https', '', 'h', '//~/ü', ''],
    ['urn:a:b?c#d', 'urn:a:b?c#d', 'urn', 'a:b', '', '', 'c'],
    ['//h/p', '//h/p', '', '', 'h', '/p', ''],
    ['/p:q', '/p:q', '', '', '', '/p:q', ''],
    ['a:b/c', 'a:b/c', 'a', 'b/c', '', '', ''],
    ['./a:b', './a:b', '', '', '', './a:b', ''],
    ['http://[::1%25en0]:80/', 'http://[::1%25en0]:80/', 'http', '', '[::1%en0]:80', '/', ''],
    ['http://[::1]', 'http://[::1]', 'http', '', '[::1]', '', ''],
    ['http://h?', 'http://h?', 'http', '', 'h', '', ''],
    ['http://h/?a?', 'http://h/?a?', 'http', '', 'h', '/', 'a?'],
    ['*', '*', '', '', '', '*', ''],
    ['HTTP://H/', 'http://H/', 'http', '', 'H', '/', ''],
    ['http://h%C3%BC/', 'http://h%C3%BC/', 'http', '', 'hü', '/', ''],
    ['http:///p', 'http:///p', 'http', '', '', '/p', ''],
    ['http:/p', 'http:/p', 'http', '', '', '/p', ''],
    ['mailto:a@b', 'mailto:a@b', 'mailto', 'a@b', '', '', ''],
    ['?q', '?q', '', '', '', '', 'q'],
    ['#f', '#f', '', '', '', '', ''],
    ['', '', '', '', '', '', ''],
    ['http://a@b@c/', 'http://a%40b@c/', 'http', '', 'c', '/', ''],
    ['http://h/a%2Fb;c,d=e', 'http://h/a%2Fb;c,d=e', 'http', '', 'h', '/a/b;c,d=e', ''],
    ['http://h/[x]', 'http://h/[x]', 'http', '', 'h', '/[x]', ''],
    ['foo://h:1:2/', 'foo://h:1:2/', 'foo', '', 'h:1:2', '/', ''],
    ['a:b:c/d', 'a:b:c/d', 'a', 'b:c/d', '', '', ''],
  ])('%j is taken apart as by Go', (text, printed, scheme, opaque, host, path, query) => {
    const url = parse(text);
    expect(textOf(printGoUrl(url))).toBe(printed);
    expect([url.scheme, url.opaque, url.host, url.path, url.rawQuery].map(textOf)).toEqual([
      scheme,
      opaque,
      host,
      path,
      query,
    ]);
  });

  test.each([
    ':x',
    'x:y z',
    'http://h:p/',
    'http://h:1:2/',
    'http://[1.2.3.4]/',
    'http://[::1',
    'http://a[::1]/',
    'http://h%41/',
    'http://h/%zz',
    'http://h#%z',
    'a b:c',
    '1:2',
    'http://u%zz@h/',
    'http://u[@h/',
    'http://a b/',
  ])('%j is refused', (text) => {
    expect(() => parse(text)).toThrow(BuiltinError);
  });

  test('keeps an escape in its path that was not needed', () => {
    expect(escapedPath(parse('http://h/a%2fb'))).toBe('/a%2fb');
    expect(escapedPath(parse('http://h/a b'))).toBe('/a%20b');
  });
});
