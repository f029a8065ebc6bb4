import fc from 'fast-check';
import { nodeHash } from '../../../services/shared/tlog/merkle.ts';
import {
  consistencyProof,
  inclusionProof,
  isConsistent,
  rootOfInclusion,
  type ReadHashes,
} from '../../../services/shared/tlog/proofs.ts';
import { sha256 } from '../../../services/shared/contracts/bytes.ts';

const SIZE = 70_000;
const leaves = Array.from({ length: SIZE }, (_, n) => sha256(`leaf ${n}`));

/** RFC 6962, section 2.1, as it stands there; trees of powers of two are remembered. */
const known = new Map<string, Buffer>();
const mth = (from: number, to: number): Buffer => {
  const key = `${from}/${to}`;
  const found = known.get(key) ?? (to - from === 1 ? leaves[from] : undefined);
  if (found !== undefined) return found;
  if (to === from) return sha256();
  let split = 1;
  while (split * 2 < to - from) split *= 2;
  const root = nodeHash(mth(from, from + split), mth(from + split, to));
  if (split * 2 === to - from) known.set(key, root);
  return root;
};

/** Sections 2.1.1 and 2.1.2, as they stand there. */
const path = (m: number, from: number, to: number): Buffer[] => {
  if (to - from === 1) return [];
  let split = 1;
  while (split * 2 < to - from) split *= 2;
  return m < split
    ? [...path(m, from, from + split), mth(from + split, to)]
    : [...path(m - split, from + split, to), mth(from, from + split)];
};
const subproof = (m: number, from: number, to: number, isWhole: boolean): Buffer[] => {
  if (m === to - from) return isWhole ? [] : [mth(from, to)];
  let split = 1;
  while (split * 2 < to - from) split *= 2;
  return m <= split
    ? [...subproof(m, from, from + split, isWhole), mth(from + split, to)]
    : [...subproof(m - split, from + split, to, false), mth(from, from + split)];
};

/** As tiles have them: only full subtrees of trees of this size. */
const readIn =
  (size: number, asked: string[] = []): ReadHashes =>
  (level, from, count) => {
    const width = 256 ** level;
    asked.push(`${level}/${from}+${count}`);
    if ((Number(from) + count) * width > size) throw new Error('no tile has this hash');
    return Promise.resolve(
      Array.from({ length: count }, (_, n) => mth((Number(from) + n) * width, (Number(from) + n + 1) * width)),
    );
  };

const sizes = fc.oneof(fc.integer({ min: 1, max: 600 }), fc.integer({ min: 1, max: SIZE }));

describe('inclusion proofs', () => {
  it('are those of RFC 6962, and lead to the root', async () => {
    await fc.assert(
      fc.asyncProperty(sizes, fc.double({ min: 0, max: 1, noNaN: true, maxExcluded: true }), async (size, at) => {
        const index = Math.floor(at * size);
        const proof = await inclusionProof(BigInt(index), BigInt(size), readIn(size));
        expect(proof).toEqual(path(index, 0, size));
        expect(rootOfInclusion(leaves[index]!, BigInt(index), BigInt(size), proof)).toEqual(mth(0, size));
      }),
      { numRuns: 150 },
    );
  });

  it('of every entry of every small tree', async () => {
    for (let size = 1; size <= 20; size += 1)
      for (let index = 0; index < size; index += 1) {
        const proof = await inclusionProof(BigInt(index), BigInt(size), readIn(size));
        expect(rootOfInclusion(leaves[index]!, BigInt(index), BigInt(size), proof)).toEqual(mth(0, size));
        // Of no other entry, no other size, and with no hash more or less.
        for (let other = 0; other < size; other += 1)
          if (other !== index)
            expect(rootOfInclusion(leaves[other]!, BigInt(index), BigInt(size), proof)).not.toEqual(mth(0, size));
        expect(rootOfInclusion(leaves[index]!, BigInt(index), BigInt(size), [...proof, leaves[0]!])).toBeUndefined();
        if (size > 1)
          expect(rootOfInclusion(leaves[index]!, BigInt(index), BigInt(size), proof.slice(1))).not.toEqual(
            mth(0, size),
          );
      }
  });

  it('read each tile once', async () => {
    const asked: string[] = [];
    await inclusionProof(12_345n, BigInt(SIZE), readIn(SIZE, asked));
    expect(new Set(asked).size).toBe(asked.length);
    expect(asked.length).toBeLessThanOrEqual(5);
  });

  it('of no entry behind the end', async () => {
    await expect(inclusionProof(5n, 5n, readIn(5))).rejects.toThrow('no such entry');
    expect(rootOfInclusion(leaves[0]!, 5n, 5n, [])).toBeUndefined();
  });
});

describe('consistency proofs', () => {
  const treeOf = (size: number) => ({ size: BigInt(size), root: mth(0, size) });

  it('are those of RFC 6962, and show that a tree begins with another', async () => {
    await fc.assert(
      fc.asyncProperty(sizes, fc.double({ min: 0, max: 1, noNaN: true, maxExcluded: true }), async (size, at) => {
        const before = 1 + Math.floor(at * size);
        const proof = await consistencyProof(BigInt(before), BigInt(size), readIn(size));
        expect(proof).toEqual(before === size ? [] : subproof(before, 0, size, true));
        expect(isConsistent(treeOf(before), treeOf(size), proof)).toBe(true);
      }),
      { numRuns: 150 },
    );
  });

  it('between all small trees, and of no others', async () => {
    const other = sha256('another root');
    for (let size = 1; size <= 20; size += 1)
      for (let before = 1; before <= size; before += 1) {
        const [old, now] = [treeOf(before), treeOf(size)];
        const proof = await consistencyProof(BigInt(before), BigInt(size), readIn(size));
        expect(isConsistent(old, now, proof)).toBe(true);
        expect(isConsistent({ ...old, root: other }, now, proof)).toBe(false);
        expect(isConsistent(old, { ...now, root: other }, proof)).toBe(false);
        expect(isConsistent(old, now, [...proof, other])).toBe(false);
        if (proof.length > 0) {
          expect(isConsistent(old, now, proof.slice(1))).toBe(false);
          expect(isConsistent(old, now, [other, ...proof.slice(1)])).toBe(false);
        }
      }
  });

  it('of nothing, or of a tree that is larger', async () => {
    await expect(consistencyProof(0n, 5n, readIn(5))).rejects.toThrow('no such tree');
    await expect(consistencyProof(6n, 5n, readIn(5))).rejects.toThrow('no such tree');
    expect(isConsistent({ size: 0n, root: sha256() }, treeOf(5), [])).toBe(false);
    expect(isConsistent(treeOf(6), treeOf(5), [])).toBe(false);
  });
});
