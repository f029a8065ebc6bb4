import fc from 'fast-check';
import { createTreeHasher, nodeHash } from '../../../services/shared/tlog/merkle.ts';
import { sha256 } from '../../../services/shared/contracts/bytes.ts';

const leafOf = (n: number): Buffer => sha256(`leaf ${n}`);
const leaves = Array.from({ length: 1_100 }, (_, n) => leafOf(n));

/** RFC 6962, section 2.1, as it stands there. */
const mth = (hashes: readonly Buffer[]): Buffer => {
  const [only] = hashes;
  if (only === undefined) return sha256();
  if (hashes.length === 1) return only;
  let split = 1;
  while (split * 2 < hashes.length) split *= 2;
  return nodeHash(mth(hashes.slice(0, split)), mth(hashes.slice(split)));
};

describe('the tree hasher', () => {
  it('has the root of the definition, also when it goes on from a state of itself', () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 600 }), fc.integer({ min: 0, max: 500 }), (first, more) => {
        const tree = createTreeHasher();
        for (const leaf of leaves.slice(0, first)) tree.add(leaf);
        const again = createTreeHasher(tree.state());
        for (const leaf of leaves.slice(first, first + more)) again.add(leaf);
        expect(again.root()).toEqual(mth(leaves.slice(0, first + more)));
        expect(again.size()).toBe(BigInt(first + more));
      }),
      { numRuns: 60 },
    );
  });

  it('tells of every full subtree once, with its place', () => {
    const found = new Map<string, Buffer>();
    const tree = createTreeHasher(undefined, (height, index, hash) => {
      expect(found.has(`${height}/${index}`)).toBe(false);
      found.set(`${height}/${index}`, hash);
    });
    for (const leaf of leaves) tree.add(leaf);
    let count = 0;
    for (let width = 2, height = 1; width <= leaves.length; width *= 2, height += 1)
      for (let at = 0; at + width <= leaves.length; at += width, count += 1)
        expect(found.get(`${height}/${at / width}`)).toEqual(mth(leaves.slice(at, at + width)));
    expect(found.size).toBe(count);
  });

  it.each([
    ['a subtree too many', { size: 2n, subtrees: [leafOf(1), leafOf(2)] }],
    ['a subtree too few', { size: 3n, subtrees: [leafOf(1)] }],
    ['a hash of another length', { size: 1n, subtrees: [Buffer.alloc(31)] }],
    ['a negative size', { size: -1n, subtrees: [] }],
  ])('refuses a state with %s', (_name, state) => {
    expect(() => createTreeHasher(state)).toThrow(RangeError);
  });
});
