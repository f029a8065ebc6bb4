import fc from 'fast-check';
import { readPointers, readsText, unionReads, type InputReads } from '../../../services/pdp/core/input-reads.ts';

const names = fc.constantFrom('a', 'b', 'a/b', '~', '__proto__', 'toString');
const reads: fc.Arbitrary<InputReads> = fc.letrec<{ tree: InputReads }>((tie) => ({
  tree: fc.oneof(
    { depthSize: 'small' },
    fc.constant<InputReads>(true),
    fc.array(fc.tuple(names, tie('tree')), { maxLength: 3 }).map((pairs): InputReads => new Map(pairs)),
  ),
})).tree;
const document = fc.letrec<{ value: unknown }>((tie) => ({
  value: fc.oneof(
    { depthSize: 'small' },
    fc.constantFrom(null, true, 1, '', '!', '?', '(),', []),
    fc
      .array(fc.tuple(names, tie('value')), { maxLength: 3 })
      .map((pairs): unknown => JSON.parse(`{${pairs.map(([k, v]) => `"${k}":${JSON.stringify(v)}`).join(',')}}`)),
  ),
})).value;

/** What can be seen of a value through reads, said in another way. */
const seen = (at: InputReads, value: unknown): unknown => {
  if (value === undefined) return 'absent';
  if (at === true) return { is: value };
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return 'no object';
  return [...at].map(([name, below]) => seen(below, Object.getOwnPropertyDescriptor(value, name)?.value));
};

describe('what of an input is read', () => {
  it('has the same text for two inputs exactly when they agree in it', () => {
    let equal = 0;
    fc.assert(
      fc.property(reads, document, document, (at, a, b) => {
        const isSame = JSON.stringify(seen(at, a)) === JSON.stringify(seen(at, b));
        equal += isSame ? 1 : 0;
        expect(readsText(at, a) === readsText(at, b)).toBe(isSame);
      }),
      { numRuns: 2_000 },
    );
    expect(equal).toBeGreaterThan(50);
    expect(equal).toBeLessThan(1_950);
  });

  it('tells what is absent from null, from what has no members and from what has none of those that are read', () => {
    const at: InputReads = new Map([['x', new Map([['y', true]])]]);
    const texts = [{}, { x: null }, { x: {} }, { x: { y: null } }, { x: { y: '!' } }].map((each) =>
      readsText(at, each),
    );
    // A text has no members, and nor has null: a policy that asks for one cannot tell them apart.
    expect(new Set(texts).size).toBe(5);
    expect(readsText(at, { x: 1 })).toBe(readsText(at, { x: [] }));
    expect(readsText(at, { x: { y: 1, z: 2 }, w: 3 })).toBe(readsText(at, { w: 4, x: { z: 5, y: 1 } }));
  });

  it('is for two that read what either reads', () => {
    fc.assert(
      fc.property(reads, reads, document, document, (one, other, a, b) => {
        const both = unionReads(one, other);
        if (readsText(both, a) !== readsText(both, b)) return;
        expect(readsText(one, a)).toBe(readsText(one, b));
        expect(readsText(other, a)).toBe(readsText(other, b));
      }),
    );
  });

  it('is named by pointers', () => {
    const at: InputReads = new Map<string, InputReads>([
      ['s', new Map([['id', true]])],
      ['a/b~', true],
      ['e', new Map()],
    ]);
    expect(readPointers(at)).toEqual(['/a~1b~0', '/e', '/s/id']);
    expect(readPointers(true)).toEqual(['']);
    expect(readPointers(new Map())).toEqual(['']);
  });
});
