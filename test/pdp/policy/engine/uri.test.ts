import { uriBuiltins } from '../../../../services/pdp/policy/engine/uri.ts';
import { answerOf } from './call-builtin.ts';

const answer = (name: string, uri: string) => answerOf(uriBuiltins, name, [JSON.stringify(uri)]);

describe('uri.parse', () => {
  // What OPA 1.22.2 answers.
  it.each([
    [
      'HTTPS://u:p@Host.example:8443/a%20b?q=%20#f%20g',
      '{"fragment": "f g", "hostname": "Host.example", "path": "/a b", "port": "8443", "raw_path": "/a b", ' +
        '"raw_query": "q=%20", "scheme": "https"}',
    ],
    ['http://h/a%2Fb', '{"hostname": "h", "path": "/a/b", "raw_path": "/a%2Fb", "scheme": "http"}'],
    ['http://h/é', '{"hostname": "h", "path": "/é", "raw_path": "/é", "scheme": "http"}'],
    ['//[fe80::1%25en0]:80', '{"hostname": "fe80::1%en0", "port": "80"}'],
    ['http://h:', '{"hostname": "h", "scheme": "http"}'],
    ['x://a:1:2', '{"hostname": "a:1", "port": "2", "scheme": "x"}'],
    ['mailto:a@b?c', '{"raw_query": "c", "scheme": "mailto"}'],
    ['///a', '{"path": "///a", "raw_path": "///a"}'],
    ['*', '{"path": "*", "raw_path": "*"}'],
    ['', '{}'],
    ['a:b', '{"scheme": "a"}'],
    ['http://a:1:2', 'undefined'],
    ['1a:b', 'undefined'],
    [':a', 'undefined'],
    ['/%4', 'undefined'],
    ['/a\tb', 'undefined'],
    ['//h:8a', 'undefined'],
    ['//h%41', 'undefined'],
    ['//[1.2.3.4]', 'undefined'],
    ['//[1:2:3:4:5:6:7::8]', 'undefined'],
    ['//u é@h', 'undefined'],
  ])('finds the parts of %j', (uri, expected) => {
    expect(answer('uri.parse', uri)).toBe(expected);
    expect(answer('uri.is_valid', uri)).toBe(String(uri !== '' && expected !== 'undefined'));
  });

  it('calls no other value than a string valid', () => {
    expect(answerOf(uriBuiltins, 'uri.is_valid', ['1'])).toBe('false');
    expect(answerOf(uriBuiltins, 'uri.parse', ['1'])).toBe('undefined');
  });
});
