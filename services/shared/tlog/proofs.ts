import { bytesEqual } from '../contracts/bytes.ts';
import { nodeHash } from './merkle.ts';
import { TILE_WIDTH } from './tiles.ts';

/** The hashes `from` to `from + count - 1` of a tile level; each covers 256^level entries. */
export type ReadHashes = (level: number, from: bigint, count: number) => Promise<readonly Uint8Array[]>;

/** Leaves `from` to `to - 1`. */
interface Range {
  readonly from: bigint;
  readonly to: bigint;
}

const TILE_HEIGHT = 8;

/** The largest power of two below n, for n > 1: where RFC 6962 splits a tree. */
const splitOf = (n: bigint): bigint => 1n << BigInt((n - 1n).toString(2).length - 1);

/** PATH(m, D[n]) of RFC 6962, section 2.1.1, as the ranges whose roots it is made of, lowest first. */
const inclusionRanges = (index: bigint, size: bigint): readonly Range[] => {
  const out: Range[] = [];
  let [from, to] = [0n, size];
  while (to - from > 1n) {
    const middle = from + splitOf(to - from);
    if (index < middle) {
      out.push({ from: middle, to });
      to = middle;
    } else {
      out.push({ from, to: middle });
      from = middle;
    }
  }
  return out.reverse();
};

/** PROOF(m, D[n]) of RFC 6962, section 2.1.2, in the same way; 0 < m < n. */
const consistencyRanges = (before: bigint, size: bigint): readonly Range[] => {
  const out: Range[] = [];
  let [from, to] = [0n, size];
  let isWhole = true;
  while (to !== before) {
    const middle = from + splitOf(to - from);
    if (before <= middle) {
      out.push({ from: middle, to });
      to = middle;
    } else {
      out.push({ from, to: middle });
      from = middle;
      isWhole = false;
    }
  }
  if (!isWhole) out.push({ from, to });
  return out.reverse();
};

const joined = (hashes: readonly Uint8Array[]): Uint8Array => {
  let row = hashes;
  while (row.length > 1)
    row = Array.from({ length: row.length / 2 }, (_, n) => {
      const [left, right] = [row[2 * n], row[2 * n + 1]];
      if (left === undefined || right === undefined) throw new RangeError('not a full subtree');
      return nodeHash(left, right);
    });
  const [root] = row;
  if (root === undefined) throw new RangeError('no hashes');
  return root;
};

/** Reads each tile of a tree once, as wide as the tree has it. */
const tilesOf = (read: ReadHashes, size: bigint): ReadHashes => {
  const tiles = new Map<string, Promise<readonly Uint8Array[]>>();
  return async (level, from, count) => {
    const index = from / BigInt(TILE_WIDTH);
    const start = index * BigInt(TILE_WIDTH);
    const left = (size >> BigInt(TILE_HEIGHT * level)) - start;
    const key = `${level}/${index}`;
    const tile = tiles.get(key) ?? read(level, start, left < TILE_WIDTH ? Number(left) : TILE_WIDTH);
    tiles.set(key, tile);
    const at = Number(from - start);
    return (await tile).slice(at, at + count);
  };
};

/** MTH(D[from:to]), for a range that begins where one of its size may: out of full subtrees, largest first. */
const rootOf = async (read: ReadHashes, { from, to }: Range): Promise<Uint8Array> => {
  const subtrees: Promise<readonly Uint8Array[]>[] = [];
  for (let at = from; at < to;) {
    const height = (to - at).toString(2).length - 1;
    const level = Math.floor(height / TILE_HEIGHT);
    subtrees.push(read(level, at >> BigInt(TILE_HEIGHT * level), 2 ** (height - TILE_HEIGHT * level)));
    at += 1n << BigInt(height);
  }
  return (await Promise.all(subtrees)).map(joined).reduceRight((right, left) => nodeHash(left, right));
};

/** All tiles are asked for at once: a proof takes as long as one of them, not as all. */
const hashesOf = async (read: ReadHashes, size: bigint, ranges: readonly Range[]): Promise<readonly Uint8Array[]> => {
  const tiles = tilesOf(read, size);
  return await Promise.all(ranges.map((range) => rootOf(tiles, range)));
};

/** RFC 6962 inclusion proof of entry `index` in the tree of `size` entries. Throws RangeError unless index < size. */
export const inclusionProof = async (index: bigint, size: bigint, read: ReadHashes): Promise<readonly Uint8Array[]> => {
  if (index < 0n || index >= size) throw new RangeError('no such entry');
  return hashesOf(read, size, inclusionRanges(index, size));
};

/** The roots of the full subtrees of a tree of `size` entries, largest first: what a tree goes on from. */
export const fullSubtrees = async (size: bigint, read: ReadHashes): Promise<readonly Uint8Array[]> => {
  const ranges: Range[] = [];
  for (let at = 0n; at < size;) {
    const to = at + (1n << BigInt((size - at).toString(2).length - 1));
    ranges.push({ from: at, to });
    at = to;
  }
  return hashesOf(read, size, ranges);
};

/** RFC 6962 consistency proof; empty between equal sizes. Throws RangeError unless 0 < before <= size. */
export const consistencyProof = async (
  before: bigint,
  size: bigint,
  read: ReadHashes,
): Promise<readonly Uint8Array[]> => {
  if (before <= 0n || before > size) throw new RangeError('no such tree');
  return before === size ? [] : hashesOf(read, size, consistencyRanges(before, size));
};

/** The root that an inclusion proof leads to, RFC 9162, section 2.1.3.2; undefined when it has the wrong length. */
export const rootOfInclusion = (
  leaf: Uint8Array,
  index: bigint,
  size: bigint,
  proof: readonly Uint8Array[],
): Uint8Array | undefined => {
  if (index < 0n || index >= size) return undefined;
  let [fn, sn, root] = [index, size - 1n, leaf];
  for (const hash of proof) {
    if (sn === 0n) return undefined;
    if ((fn & 1n) === 1n || fn === sn) {
      root = nodeHash(hash, root);
      while ((fn & 1n) === 0n && fn !== 0n) [fn, sn] = [fn >> 1n, sn >> 1n];
    } else root = nodeHash(root, hash);
    [fn, sn] = [fn >> 1n, sn >> 1n];
  }
  return sn === 0n ? root : undefined;
};

/** Whether a proof shows that the larger tree begins with the smaller one, RFC 9162, section 2.1.4.2. */
export const isConsistent = (
  before: { readonly size: bigint; readonly root: Uint8Array },
  after: { readonly size: bigint; readonly root: Uint8Array },
  proof: readonly Uint8Array[],
): boolean => {
  if (before.size <= 0n || before.size > after.size) return false;
  if (before.size === after.size) return proof.length === 0 && bytesEqual(before.root, after.root);
  const isPower = (before.size & (before.size - 1n)) === 0n;
  const [first, ...rest] = isPower ? [before.root, ...proof] : proof;
  if (first === undefined) return false;
  let [fn, sn] = [before.size - 1n, after.size - 1n];
  while ((fn & 1n) === 1n) [fn, sn] = [fn >> 1n, sn >> 1n];
  let [old, root] = [first, first];
  for (const hash of rest) {
    if (sn === 0n) return false;
    if ((fn & 1n) === 1n || fn === sn) {
      old = nodeHash(hash, old);
      root = nodeHash(hash, root);
      while ((fn & 1n) === 0n && fn !== 0n) [fn, sn] = [fn >> 1n, sn >> 1n];
    } else root = nodeHash(root, hash);
    [fn, sn] = [fn >> 1n, sn >> 1n];
  }
  return sn === 0n && bytesEqual(old, before.root) && bytesEqual(root, after.root);
};
