import fc from 'fast-check';
import { parseDataNode } from '../../../services/shared/contracts/data-node.ts';
import { unarchivedNodes } from '../../../services/pdp/core/data-nodes.ts';
import { PatchConflict, valueAt } from '../../../services/pdp/core/json-patch.ts';
import {
  applyChange,
  changing,
  NOTHING_PUSHED,
  patchesBetween,
  restoredData,
  type DataChange,
  type PushedData,
} from '../../../services/pdp/core/pushed-data.ts';
import { WideObject } from '../../../services/pdp/core/wide-object.ts';

const MAX = 4 * 1024 * 1024;
const put = (path: readonly string[], value: unknown): DataChange => ({ op: 'put', path, value });
const plain = (value: unknown): unknown => JSON.parse(JSON.stringify(value));
const people = (count: number, bytes = 40): Record<string, unknown> =>
  Object.fromEntries(Array.from({ length: count }, (_, n) => [`user-${n}`, { grade: n % 7, note: 'x'.repeat(bytes) }]));
const pushed = (...changes: readonly DataChange[]): PushedData =>
  changes.reduce((data, change, offset) => applyChange(data, change, offset, MAX), NOTHING_PUSHED);
/** Names and values that make objects of every size, some of them large. */
const name = fc.constantFrom('a', 'b', 'c', '__proto__', '0', ...Array.from({ length: 40 }, (_, n) => `n${n}`));
const value = fc.oneof(
  fc.jsonValue({ maxDepth: 2 }),
  fc.nat(20_000).map((n) => 'y'.repeat(n)),
  fc.nat(600).map((n) => people(n)),
  fc.nat(300).map((n) => [people(n), n]),
);
const change = fc.oneof(
  fc.record({ op: fc.constant('put' as const), path: fc.array(name, { minLength: 1, maxLength: 3 }), value }),
  fc.record({ op: fc.constant('delete' as const), path: fc.array(name, { minLength: 1, maxLength: 3 }) }),
  fc
    .record({
      from: fc.array(name, { minLength: 1, maxLength: 2 }),
      path: fc.array(name, { minLength: 1, maxLength: 2 }),
    })
    .chain(({ from, path }) =>
      fc.constantFrom('move' as const, 'copy' as const).map((op): DataChange => ({
        op: 'patch',
        path: [],
        operations: [{ op, from, path }],
      })),
    ),
);

describe('a large document', () => {
  it('has one digest and one form, whatever led to it, and says the same as its JSON', () => {
    fc.assert(
      fc.property(fc.array(change, { maxLength: 12 }), (changes) => {
        let data = NOTHING_PUSHED;
        for (const [offset, each] of changes.entries()) {
          const before = data;
          const said = JSON.stringify(before.document);
          try {
            data = applyChange(data, each, offset, MAX);
          } catch (cause) {
            expect(cause).toBeInstanceOf(PatchConflict);
          }
          expect(JSON.stringify(before.document)).toBe(said);
          const once = restoredData(plain(data.document) as Record<string, unknown>, data.identity);
          expect(once?.identity).toEqual(data.identity);
          // Patches of an engine lead from one to the other.
          const reached = patchesBetween(before.document, data.document, []).reduce<PushedData>(
            (at, { path, json }) =>
              applyChange(at, json === undefined ? { op: 'delete', path } : put(path, JSON.parse(json)), 0, MAX),
            before,
          );
          expect(reached.identity?.digest ?? data.identity?.digest).toBe(
            before === data ? before.identity?.digest : data.identity?.digest,
          );
        }
      }),
      { numRuns: 60 },
    );
  });

  it('is plain again when it becomes small, with the digest of a small one', () => {
    const large = pushed(put(['users'], people(2_000)));
    expect(large.document).toBeInstanceOf(WideObject);
    expect(valueAt(large.document, ['users', 'user-7', 'grade'])).toEqual({ value: 0 });
    const small = applyChange(large, put(['users'], people(3)), 1, MAX);
    expect(small.document).toEqual({ users: people(3) });
    expect(small.identity?.digest).toBe(pushed(put(['users'], people(3))).identity?.digest);
  });

  it('archives the nodes that a change made and no others, each below 32 KiB, and they say all of it', () => {
    const archived = new WeakSet();
    const one = pushed(put(['users'], people(20_000, 150)), put(['x'], 1));
    const first = [...unarchivedNodes(one.document, archived)];
    expect(first.length).toBeGreaterThan(200);
    expect(first.at(-1)?.digest).toBe(one.identity?.digest);
    const two = applyChange(one, put(['users', 'user-9', 'grade'], 'new'), 2, MAX);
    const then = [...unarchivedNodes(two.document, archived)];
    expect(then.length).toBeLessThanOrEqual(5);
    expect(then.at(-1)?.digest).toBe(two.identity?.digest);
    expect([...unarchivedNodes(two.document, archived)]).toEqual([]);

    const texts = new Map([...first, ...then].map(({ digest, text }) => [digest, text()]));
    for (const text of texts.values()) expect(text.length).toBeLessThan(32 * 1024);
    const said = (digest: string): Record<string, unknown> => {
      const node = parseDataNode(Buffer.from(texts.get(digest)!));
      if (node === undefined) throw new Error('no node');
      if ('parts' in node) return Object.assign({}, ...node.parts.map(said)) as Record<string, unknown>;
      const large = Object.entries(node.nodes).map(([at, below]) => [at, said(below)] as const);
      return { ...node.members, ...Object.fromEntries(large) };
    };
    expect(said(one.identity!.digest)).toEqual({ users: people(20_000, 150), x: 1 });
    expect(said(two.identity!.digest)).toEqual(plain(two.document));
  });

  it('is hashed in steps of a node, and what is known not again', () => {
    const steps = (data: PushedData, each: DataChange): number => {
      const work = changing(data, each, 1, MAX);
      let count = 0;
      while (work.next().done !== true) count += 1;
      return count;
    };
    const whole = put(['users'], people(20_000, 150));
    expect(steps(NOTHING_PUSHED, whole)).toBeGreaterThan(200);
    expect(steps(pushed(whole), put(['users', 'user-9'], 1))).toBeLessThan(10);
  });

  it('changes a member of many in milliseconds', () => {
    let data = pushed(put(['users'], people(60_000, 20)));
    const startedMs = performance.now();
    for (let n = 0; n < 100; n += 1) {
      const before = data;
      data = applyChange(data, put(['users', `user-${n}`, 'grade'], n + 10), n, MAX);
      expect(patchesBetween(before.document, data.document, [])).toHaveLength(1);
    }
    // 0.2 s here; to copy and to hash all of it each time took 40.
    expect(performance.now() - startedMs).toBeLessThan(5_000);
  });

  it('is nested no deeper than it may be, however it came to be so', () => {
    const deep = (levels: number): unknown => (levels === 0 ? people(1_000) : { d: deep(levels - 1) });
    const data = pushed(put(['deep'], deep(50)), put(['in', 'a', 'b'], 1));
    const move = (path: readonly string[]): DataChange => ({
      op: 'patch',
      path: [],
      operations: [{ op: 'move', from: ['deep'], path }],
    });
    expect(() =>
      applyChange(
        data,
        put(
          Array.from({ length: 20 }, () => 'e'),
          deep(50),
        ),
        2,
        MAX,
      ),
    ).toThrow(PatchConflict);
    const far = applyChange(
      data,
      put(
        Array.from({ length: 20 }, (_, n) => `e${n}`),
        {},
      ),
      2,
      MAX,
    );
    const at = Array.from({ length: 20 }, (_, n) => `e${n}`);
    expect(() => applyChange(far, move([...at, 'x']), 3, MAX)).toThrow('nested more than 64');
    expect(valueAt(applyChange(far, move(['in', 'a', 'c']), 3, MAX).document, ['in', 'a', 'c', 'd'])).toBeDefined();
  });
});
