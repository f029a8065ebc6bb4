import fc from 'fast-check';
import { countMembers, isDeeper, parseStrictJson } from '../../../services/pdp/http/strict-json.ts';

const LIMITS = { maxDepth: 64, maxMembers: 10_000 };
const parse = (body: string | Buffer) => parseStrictJson(Buffer.from(body as string), LIMITS);
const problemsOf = (body: string | Buffer) => {
  const parsed = parse(body);
  return parsed.ok ? [] : parsed.problems.map(({ pointer, code }) => `${code} ${pointer}`);
};
const nested = (depth: number): string => `${'['.repeat(depth)}${']'.repeat(depth)}`;

describe('strict JSON', () => {
  it.each<[string, string | Buffer, readonly string[]]>([
    ['no body', '', ['not_json ']],
    ['text that is no JSON', '{"a":}', ['not_json ']],
    ['a byte order mark', '\ufeff{}', ['not_json ']],
    ['bytes that are not UTF-8', Buffer.from([0x22, 0xc3, 0x28, 0x22]), ['not_utf8 ']],
    ['UTF-16', Buffer.from('{}', 'utf16le'), ['not_json ']],
    ['an encoded surrogate', Buffer.from([0x22, 0xed, 0xa0, 0x80, 0x22]), ['not_utf8 ']],
    ['a member twice', '{"a":1,"a":1}', ['duplicate_member /a']],
    ['a member twice, once escaped', '{"a":1,"\\u0061":2}', ['duplicate_member /a']],
    ['a nested member twice', '{"x":[{"y":{"b":1,"c":2,"b":3}}]}', ['duplicate_member /x/0/y/b']],
    ['__proto__ twice', '{"__proto__":1,"__proto__":{}}', ['duplicate_member /__proto__']],
    ['several of them', '{"a":1,"a":2,"b":{"~/":0,"~/":0}}', ['duplicate_member /a', 'duplicate_member /b/~0~1']],
    ['a lone surrogate in a text', '{"a":"\\ud800"}', ['lone_surrogate /a']],
    ['a lone surrogate in a name', '{"\\udc00":1}', ['lone_surrogate /\udc00']],
    ['a number beyond a double', '{"a":[1,1e400]}', ['number_too_large /a/1']],
    ['a number that loses digits', '{"a":-9007199254740993}', ['number_too_large /a']],
    ['depth 65', nested(65), [`too_deep ${'/0'.repeat(64)}`]],
    ['a hundred thousand levels', nested(100_000), [`too_deep ${'/0'.repeat(64)}`]],
  ])('refuses %s', (_name, body, problems) => {
    expect(problemsOf(body)).toEqual(problems);
  });

  it.each<[string, string]>([
    ['depth 64', nested(64)],
    ['colons and quotes inside texts', '{"a:b\\"c":"d\\\\","e":":\\":"}'],
    ['a surrogate pair', '{"a":"\\ud83d\\ude00"}'],
    ['the largest whole numbers', '[9007199254740991,-9007199254740991,0.1,-0,1e-400]'],
    ['prototype names', '{"__proto__":{"constructor":1},"toString":2}'],
    ['a scalar', '"x"'],
  ])('takes %s', (_name, body) => {
    const parsed = parse(body);
    expect(parsed).toMatchObject({ ok: true });
    expect(parsed.ok && JSON.stringify(parsed.value)).toBe(JSON.stringify(JSON.parse(body)));
  });

  it('bounds the number of members', () => {
    const flood = (count: number): string =>
      `{${Array.from({ length: count }, (_, index) => `"k${index}":0`).join(',')}}`;
    expect(parse(flood(10_000))).toMatchObject({ ok: true, members: 10_000 });
    expect(problemsOf(flood(10_001))).toEqual(['too_many_members ']);
  });

  it('bounds how many problems it lists and how much of a name it repeats', () => {
    const name = 'n'.repeat(1_000);
    const parsed = parse(`{${Array.from({ length: 200 }, () => `"${name}":0`).join(',')}}`);
    expect(parsed.ok).toBe(false);
    expect(!parsed.ok && parsed.problems.length).toBe(64);
    expect(!parsed.ok && parsed.problems[0]?.pointer.length).toBeLessThan(100);
  });

  it('takes what JSON.stringify writes, and refuses it as soon as a member is repeated anywhere', () => {
    fc.assert(
      fc.property(fc.json({ maxDepth: 5 }), fc.string({ unit: 'binary' }), (json, name) => {
        const value = JSON.stringify(/\p{Surrogate}/u.test(name) ? '' : name);
        expect(parse(`{${value}:${json}}`).ok).toBe(
          ![...json.matchAll(/-?\d+(?:\.\d+)?(?:e[+-]?\d+)?/gi)].some(
            ([number]) => Math.abs(Number(number)) > Number.MAX_SAFE_INTEGER,
          ) || parse(json).ok,
        );
        expect(parse(`[{${value}:0,"x":{${value}:1,${value}:2}}]`).ok).toBe(false);
      }),
    );
  });

  it('measures depth and members', () => {
    expect(isDeeper({ a: [{}] }, 3)).toBe(false);
    expect(isDeeper({ a: [{}] }, 2)).toBe(true);
    expect(countMembers({ a: [{ b: 1, c: {} }, 2] })).toBe(3);
  });
});
