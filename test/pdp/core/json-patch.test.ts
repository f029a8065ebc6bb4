import { applyPatch, parsePatch, PatchConflict } from '../../../services/pdp/core/json-patch.ts';
import { formatPointer, parsePointer } from '../../../services/pdp/core/json-pointer.ts';

const patched = (document: unknown, patch: unknown): unknown => {
  const parsed = parsePatch(patch);
  if (!parsed.ok) throw new Error(JSON.stringify(parsed.problems));
  return applyPatch(document, parsed.operations);
};

/** RFC 6902, appendix A, and what its text says beside. */
const DONE: readonly (readonly [name: string, document: unknown, patch: unknown, expected: unknown])[] = [
  ['A.1', { foo: 'bar' }, [{ op: 'add', path: '/baz', value: 'qux' }], { baz: 'qux', foo: 'bar' }],
  ['A.2', { foo: ['bar', 'baz'] }, [{ op: 'add', path: '/foo/1', value: 'qux' }], { foo: ['bar', 'qux', 'baz'] }],
  ['A.3', { baz: 'qux', foo: 'bar' }, [{ op: 'remove', path: '/baz' }], { foo: 'bar' }],
  ['A.4', { foo: ['bar', 'qux', 'baz'] }, [{ op: 'remove', path: '/foo/1' }], { foo: ['bar', 'baz'] }],
  ['A.5', { baz: 'qux' }, [{ op: 'replace', path: '/baz', value: 'boo' }], { baz: 'boo' }],
  [
    'A.6',
    { foo: { bar: 'baz', waldo: 'fred' }, qux: { corge: 'grault' } },
    [{ op: 'move', from: '/foo/waldo', path: '/qux/thud' }],
    { foo: { bar: 'baz' }, qux: { corge: 'grault', thud: 'fred' } },
  ],
  [
    'A.7',
    { foo: ['all', 'cows', 'eat'] },
    [{ op: 'move', from: '/foo/1', path: '/foo/2' }],
    { foo: ['all', 'eat', 'cows'] },
  ],
  ['A.8', { baz: 'qux' }, [{ op: 'test', path: '/baz', value: 'qux' }], { baz: 'qux' }],
  ['A.10', { foo: 'bar' }, [{ op: 'add', path: '/child', value: { g: {} } }], { foo: 'bar', child: { g: {} } }],
  ['A.11', { foo: 'bar' }, [{ op: 'add', path: '/baz', value: 1, xyz: 123 }], { foo: 'bar', baz: 1 }],
  ['A.14', { '/': 9, '~1': 10 }, [{ op: 'test', path: '/~01', value: 10 }], { '/': 9, '~1': 10 }],
  ['A.16', { foo: ['bar'] }, [{ op: 'add', path: '/foo/-', value: ['abc'] }], { foo: ['bar', ['abc']] }],
  ['a copy', { a: { b: 1 } }, [{ op: 'copy', from: '/a', path: '/c' }], { a: { b: 1 }, c: { b: 1 } }],
  ['a null', { a: null }, [{ op: 'test', path: '/a', value: null }], { a: null }],
  ['the whole document', { a: 1 }, [{ op: 'replace', path: '', value: { b: 2 } }], { b: 2 }],
  [
    'members in any order',
    { a: { x: 1, y: 2 } },
    [{ op: 'test', path: '/a', value: { y: 2, x: 1 } }],
    { a: { x: 1, y: 2 } },
  ],
];

const CONFLICTS: readonly (readonly [name: string, document: unknown, patch: unknown])[] = [
  ['A.9: a test that fails', { baz: 'qux' }, [{ op: 'test', path: '/baz', value: 'bar' }]],
  ['A.12: a parent that is missing', { foo: 'bar' }, [{ op: 'add', path: '/baz/bat', value: 'qux' }]],
  ['A.15: text is no number', { '~1': 10 }, [{ op: 'test', path: '/~01', value: '10' }]],
  ['an index beyond the end', { a: [1] }, [{ op: 'add', path: '/a/2', value: 1 }]],
  ['an index with a zero before it', { a: [1, 2] }, [{ op: 'remove', path: '/a/01' }]],
  ['a removal of what is missing', {}, [{ op: 'remove', path: '/a' }]],
  ['a replacement of what is missing', {}, [{ op: 'replace', path: '/a', value: 1 }]],
  ['a move into itself', { a: { b: {} } }, [{ op: 'move', from: '/a', path: '/a/b/c' }]],
  ['a path through text', { a: 'x' }, [{ op: 'add', path: '/a/0', value: 1 }]],
  ['a name from the prototype', {}, [{ op: 'test', path: '/constructor', value: 1 }]],
  [
    'an operation after which another fails',
    { a: 1 },
    [
      { op: 'remove', path: '/a' },
      { op: 'remove', path: '/b' },
    ],
  ],
];

describe('a JSON patch', () => {
  it.each(DONE)('does %s of RFC 6902, and leaves the document before as it was', (_name, document, patch, expected) => {
    const before = structuredClone(document);
    expect(patched(document, patch)).toEqual(expected);
    expect(document).toEqual(before);
  });

  it.each(CONFLICTS)('has a conflict: %s', (_name, document, patch) => {
    expect(() => patched(document, patch)).toThrow(PatchConflict);
  });

  it('takes __proto__ for a name like any other', () => {
    const document = patched({}, [{ op: 'add', path: '/__proto__', value: { x: 1 } }]);
    expect(JSON.stringify(document)).toBe('{"__proto__":{"x":1}}');
    expect(JSON.stringify(patched(document, [{ op: 'remove', path: '/__proto__/x' }]))).toBe('{"__proto__":{}}');
    expect(JSON.stringify(patched(document, [{ op: 'remove', path: '/__proto__' }]))).toBe('{}');
    expect(({} as { x?: number }).x).toBeUndefined();
  });

  it('stops a document that is copied into itself', () => {
    const doubling = Array.from({ length: 60 }, (_, i) => ({ op: 'copy', from: '/a', path: `/a/n${i}` }));
    expect(() => patched({ a: { text: 'x'.repeat(100) } }, doubling)).toThrow(PatchConflict);
    const deep = Array.from({ length: 100 }, () => ({ op: 'move', from: '/a', path: '/b' }));
    expect(() => patched({ a: {} }, deep)).toThrow(PatchConflict);
  });

  it('copies a large object once, not once an operation', () => {
    const document = { all: Object.fromEntries(Array.from({ length: 75_000 }, (_, i) => [`k${i}`, i])) };
    const patch = Array.from({ length: 1_000 }, (_, i) =>
      i % 2 === 0 ? { op: 'add', path: `/all/n${i}`, value: i } : { op: 'remove', path: `/all/k${i}` },
    );
    const startedMs = performance.now();
    const { all } = patched(document, patch) as typeof document;
    // It was a minute when each operation made a copy.
    expect(performance.now() - startedMs).toBeLessThan(10_000);
    expect(Object.keys(all)).toHaveLength(75_000);
    expect([all['n998'], all['k999'], document.all['k999']]).toEqual([998, undefined, 999]);
  });

  it('changes a copy, a moved part and what an operation brought in one place only', () => {
    const operations = [
      { op: 'add', path: '/a/n', value: [1] },
      { op: 'copy', from: '/a', path: '/b' },
      { op: 'add', path: '/b/n/-', value: 2 },
      { op: 'add', path: '/a/n/0', value: 0 },
      { op: 'move', from: '/a', path: '/b/c' },
      { op: 'add', path: '/a', value: {} },
      { op: 'add', path: '/b/c/n/-', value: 3 },
    ];
    const before = structuredClone(operations);
    const same = { x: 1 };
    const document = { a: { s: same }, t: same };
    const expected = { b: { s: { x: 1 }, n: [1, 2], c: { s: { x: 1 }, n: [0, 1, 3] } }, a: {}, t: { x: 1 } };
    expect(patched(document, operations)).toEqual(expected);
    expect(patched(document, operations)).toEqual(expected);
    expect(operations).toEqual(before);
    expect(patched({ s: same, t: same }, [{ op: 'add', path: '/s/y', value: 2 }])).toEqual({
      s: { x: 1, y: 2 },
      t: same,
    });
    expect(same).toEqual({ x: 1 });
  });

  it('stops tests that look at too much', () => {
    const large = Object.fromEntries(Array.from({ length: 5_000 }, (_, i) => [`k${i}`, i]));
    const tests = Array.from({ length: 1_000 }, () => ({ op: 'test', path: '/a', value: large }));
    expect(() => patched({ a: { ...large } }, tests)).toThrow('too much compared');
  });

  it.each([
    [{}, ''],
    [[], ''],
    [[1], '/0'],
    [[{ op: 'add', path: '/a' }], '/0/value'],
    [[{ op: 'add', path: 'a', value: 1 }], '/0/path'],
    [[{ op: 'add', path: '/~2', value: 1 }], '/0/path'],
    [[{ op: 'move', path: '/a' }], '/0/from'],
    [
      [
        { op: 'test', path: '/a', value: 1 },
        { op: 'merge', path: '/a' },
      ],
      '/1/op',
    ],
    [Array.from({ length: 1_001 }, () => ({ op: 'remove', path: '/a' })), ''],
  ])('is refused whole when %j is none', (patch, pointer) => {
    expect(parsePatch(patch)).toMatchObject({ ok: false, problems: [{ pointer }] });
  });

  it('has pointers that come back as they went', () => {
    for (const path of [[], [''], ['a/b', '~', '~1'], ['é', '__proto__']])
      expect(parsePointer(formatPointer(path))).toEqual(path);
  });
});
