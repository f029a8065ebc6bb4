import fc from 'fast-check';
import { createDataBook, snapshotOf, tenantDataOf } from '../../../services/pdp/core/data-book.ts';
import { encodeRecord, recordOf, type DataRecord } from '../../../services/pdp/core/data-record.ts';
import { PatchConflict } from '../../../services/pdp/core/json-patch.ts';
import {
  applyChange,
  dataInsideRoots,
  NOTHING_PUSHED,
  ownershipProblem,
  patchesBetween,
  type DataChange,
  type PushedData,
} from '../../../services/pdp/core/pushed-data.ts';

const MAX = 10_000;
const put = (path: readonly string[], value: unknown): DataChange => ({ op: 'put', path, value });
const after = (...changes: readonly DataChange[]): PushedData =>
  changes.reduce((data, change, offset) => applyChange(data, change, offset, MAX), NOTHING_PUSHED);
const idOf = (n: number): string => `00000000-0000-7000-8000-${String(n).padStart(12, '0')}`;
const book = (maxBytes = MAX) =>
  createDataBook({
    maxBytes,
    setTimer: (done, ms) => {
      const timer = setTimeout(done, ms);
      return () => clearTimeout(timer);
    },
  });

describe('pushed data', () => {
  it('has no identity until something was pushed, then revision and digest of the whole document', () => {
    expect(NOTHING_PUSHED.identity).toBeUndefined();
    const one = after(put(['a', 'b'], 1));
    expect(one).toMatchObject({ document: { a: { b: 1 } }, identity: { revision: 0 } });
    // The digest is of the document, whatever led to it.
    const other = after(put(['a'], { c: 2, b: 1 }), { op: 'delete', path: ['a', 'c'] });
    expect(other.identity).toEqual({ revision: 1, digest: one.identity?.digest });
    expect(one.identity?.digest).toBe('sha256:2b74fad645ee9c1ec4489b2ea91e1f38faa248f3f4ae90e3a0908310c7ab297c');
  });

  it('is emptied by a delete of everything, and says that it is', () => {
    expect(after(put(['a'], 1), { op: 'delete', path: [] })).toMatchObject({ document: {}, identity: { revision: 1 } });
  });

  it.each<readonly [string, DataChange]>([
    ['a path through text', put(['a', 'b', 'c', 'd'], 1)],
    ['a delete of nothing', { op: 'delete', path: ['x'] }],
    ['a document that is no object', put([], [1])],
    ['too many bytes', put(['big'], 'x'.repeat(MAX))],
    [
      'too many levels',
      put(
        Array.from({ length: 70 }, () => 'd'),
        1,
      ),
    ],
    ['a patch that fails', { op: 'patch', path: ['a'], operations: [{ op: 'test', path: ['b'], value: 2 }] }],
  ])('refuses %s and stays as it was', (_name, change) => {
    const data = after(put(['a', 'b', 'c'], 'text'));
    expect(() => applyChange(data, change, 7, MAX)).toThrow(PatchConflict);
    expect(data.document).toEqual({ a: { b: { c: 'text' } } });
  });

  it('may be pushed beside the roots of bundles, never into them or over them', () => {
    const roots = [['mesh'], ['acme', 'policies']];
    const owned = (change: DataChange) => ownershipProblem(change, roots)?.message;
    expect(owned(put(['users', 'bob'], 1))).toBeUndefined();
    expect(owned(put(['acme', 'users'], 1))).toBeUndefined();
    expect(owned(put(['mesh', 'x'], 1))).toBe('/mesh/x belongs to a bundle, whose roots have /mesh; push beside it');
    expect(owned(put(['acme'], 1))).toContain('whose roots have /acme/policies');
    expect(owned(put([], {}))).toBeDefined();
    const patch = (path: readonly string[]): DataChange => ({
      op: 'patch',
      path: ['acme'],
      operations: [{ op: 'copy', from: ['users'], path }],
    });
    expect(owned(patch(['people']))).toBeUndefined();
    expect(owned(patch(['policies', 'x']))).toContain('/acme/policies');
    expect(owned({ op: 'delete', path: [] })).toBeUndefined();
    expect(ownershipProblem(put(['a'], 1), [[]])?.message).toContain('whose roots have all data');
    expect(ownershipProblem(put(['a'], 1), undefined)?.message).toContain('no bundle is active');
  });

  it('is found where a new bundle has its roots', () => {
    const data = after(put(['acme', 'users'], 1), put(['x'], 1));
    expect(
      dataInsideRoots(data, [['mesh'], ['acme', 'policies'], ['acme', 'users', 'z'].slice(0, 1).concat('q')]),
    ).toBeUndefined();
    expect(dataInsideRoots(data, [['acme', 'users']])).toBe('/acme/users');
    expect(dataInsideRoots(data, [['acme']])).toBe('/acme');
    expect(dataInsideRoots(data, [['x', 'y']])).toBe('/x');
    expect(dataInsideRoots(data, [[]])).toBe('');
    expect(dataInsideRoots(NOTHING_PUSHED, [[]])).toBeUndefined();
  });

  it('tells the least that leads from one document to another', () => {
    const before = after(put(['a'], { b: 1, c: [1, 2], d: { e: 1 } }));
    const then = applyChange(
      before,
      {
        op: 'patch',
        path: ['a'],
        operations: [
          { op: 'replace', path: ['c', '0'], value: 9 },
          { op: 'remove', path: ['b'] },
        ],
      },
      1,
      MAX,
    );
    expect(patchesBetween(before.document, then.document, [])).toEqual([
      { path: ['a', 'b'], json: undefined },
      { path: ['a', 'c'], json: '[9,2]' },
    ]);
    expect(patchesBetween({}, { a: { b: 1 } }, [['a', 'root']])).toEqual([{ path: ['a', 'b'], json: '1' }]);
  });

  it('leads, by these patches, to the other document, whatever both are', () => {
    const json = fc.jsonValue({ maxDepth: 4 });
    const document = fc.dictionary(fc.constantFrom('a', 'b', 'c', '__proto__'), json, { noNullPrototype: true });
    const at = (target: unknown, path: readonly string[], value: string | undefined): unknown => {
      const [name = '', ...rest] = path;
      const { [name]: below, ...others } = target as Record<string, unknown>;
      if (rest.length === 0 && value === undefined) return others;
      return {
        ...(target as object),
        [name]: rest.length === 0 ? (JSON.parse(value ?? '') as unknown) : at(below, rest, value),
      };
    };
    fc.assert(
      fc.property(document, document, (before, then) => {
        const patches = patchesBetween(before, then, []);
        const reached = patches.reduce<unknown>((target, { path, json: value }) => at(target, path, value), before);
        // -0 is 0 in JSON.
        expect(reached).toEqual(JSON.parse(JSON.stringify(then)));
      }),
    );
  });
});

describe('the record of a push', () => {
  it.each<DataChange>([
    put(['a', 'b/c'], { x: null }),
    { op: 'delete', path: [] },
    {
      op: 'patch',
      path: ['a'],
      operations: [
        { op: 'move', path: ['x~'], from: ['y/'] },
        { op: 'test', path: [], value: null },
      ],
    },
  ])('comes back as it went: %j', (change) => {
    const record: DataRecord = { id: idOf(1), tenant: 'acme', change };
    expect(recordOf(JSON.parse(encodeRecord(record)))).toEqual(record);
  });

  it('is nothing else', () => {
    const good = JSON.parse(encodeRecord({ id: idOf(1), tenant: 'acme', change: put(['a'], 1) })) as object;
    for (const bad of [
      null,
      [],
      { ...good, v: 2 },
      { ...good, id: 'x' },
      { ...good, tenant: '../x' },
      { ...good, op: 'get' },
    ])
      expect(recordOf(bad)).toBeUndefined();
  });
});

describe('the book of pushed data', () => {
  it('takes a record that comes twice once, and one that fails for no change', async () => {
    const kept = book();
    const add: DataChange = { op: 'patch', path: [], operations: [{ op: 'add', path: ['n'], value: 1 }] };
    const record = { id: idOf(1), tenant: 'acme', change: add };
    expect((await kept.tryOut(record, 4)).applied).toMatchObject({ kind: 'changed' });
    expect(kept.of('acme')).toBe(NOTHING_PUSHED);
    expect(await kept.apply(record, 4)).toMatchObject({ kind: 'changed', identity: { revision: 4 } });
    expect(await kept.apply(record, 5)).toEqual({ kind: 'repeated' });
    const failing = { id: idOf(2), tenant: 'acme', change: { op: 'delete', path: ['x'] } as const };
    expect(await kept.apply(failing, 6)).toMatchObject({ kind: 'conflict' });
    expect(kept.of('acme').identity?.revision).toBe(4);
    expect(kept.of('globex')).toBe(NOTHING_PUSHED);
  });

  it('lets 64 of a tenant wait, and the next one go at once', async () => {
    const kept = book();
    const waiting = Array.from({ length: 64 }, () => kept.waitFor('acme', 3, 10_000));
    await kept.waitFor('acme', 3, 10_000);
    const other = kept.waitFor('globex', 3, 10_000);
    kept.close();
    await Promise.all([...waiting, other]);
  });

  it('lets a waiter go at its revision, and at the end of its time', async () => {
    const kept = book();
    const reached = kept.waitFor('acme', 3, 10_000);
    await kept.apply({ id: idOf(1), tenant: 'acme', change: put(['a'], 1) }, 3);
    await reached;
    await kept.waitFor('acme', 2, 10_000);
    const startedMs = performance.now();
    await kept.waitFor('acme', 4, 50);
    expect(performance.now() - startedMs).toBeGreaterThan(40);
    const last = kept.waitFor('acme', 9, 10_000);
    kept.close();
    await last;
  });

  it('refuses an object that was edited and then moved too deep, and a snapshot that has one', () => {
    const deep = (levels: number): object => (levels === 0 ? {} : { a: deep(levels - 1) });
    const wide = {
      deep: deep(59),
      ...Object.fromEntries(Array.from({ length: 40 }, (_, i) => [`k${i}`, 'x'.repeat(1_000)])),
    };
    const maxBytes = 100_000;
    const pushed = [put(['w'], wide), put(['p'], { a: { b: {} } })].reduce(
      (data, change, offset) => applyChange(data, change, offset, maxBytes),
      NOTHING_PUSHED,
    );
    const editedAndMoved = (path: readonly string[]): DataChange => ({
      op: 'patch',
      path: [],
      operations: [
        { op: 'add', path: ['w', 'x'], value: 1 },
        { op: 'move', from: ['w'], path },
      ],
    });
    expect(() => applyChange(pushed, editedAndMoved(['p', 'a', 'b', 'w']), 2, maxBytes)).toThrow(PatchConflict);
    const data = applyChange(pushed, editedAndMoved(['p', 'a', 'w']), 2, maxBytes);
    const snapshot: unknown = JSON.parse(JSON.stringify(snapshotOf({ data, recent: [] })));
    expect(tenantDataOf(snapshot)?.data.identity).toEqual(data.identity);

    const tooDeep = { ...(snapshot as object), document: { p: deep(64) } };
    expect(tenantDataOf(tooDeep)).toBeUndefined();
    expect(tenantDataOf({ ...tooDeep, identity: data.identity })).toBeUndefined();
  });

  it('comes back from a snapshot, and not from one that was changed', async () => {
    const kept = book();
    await kept.apply({ id: idOf(1), tenant: 'acme', change: put(['a'], { b: [1, 2] }) }, 3);
    const text = JSON.stringify(snapshotOf(kept.stateOf('acme')));
    expect(tenantDataOf(JSON.parse(text))).toEqual(kept.stateOf('acme'));
    expect(tenantDataOf(JSON.parse(text.replace('[1,2]', '[1,3]')))).toBeUndefined();
    expect(tenantDataOf(JSON.parse(JSON.stringify(snapshotOf(kept.stateOf('globex')))))).toEqual(
      kept.stateOf('globex'),
    );
  });
});
