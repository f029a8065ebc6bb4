import { sha256 } from '../contracts/bytes.ts';

const NODE = Buffer.from([0x01]);
/** 0x01 ‖ left ‖ right, filled anew for each node: hashing is synchronous. */
const node = Buffer.alloc(1 + 32 + 32, NODE);

/** node = H(0x01 ‖ left ‖ right), RFC 6962, section 2.1. */
export const nodeHash = (left: Uint8Array, right: Uint8Array): Buffer => {
  // No hashes of a tree: what somebody else calls a proof may hold anything.
  if (left.length !== 32 || right.length !== 32) return sha256(Buffer.concat([NODE, left, right]));
  node.set(left, 1);
  node.set(right, 33);
  return sha256(node);
};

/** A tree without its leaves: enough to go on, and to tell the root. */
export interface TreeState {
  readonly size: bigint;
  /** Roots of the full subtrees, largest first: one for each bit of `size`. */
  readonly subtrees: readonly Uint8Array[];
}

/** The root over leaf hashes that come one by one; holds one hash for each bit of the size. */
export interface TreeHasher {
  readonly add: (leaf: Uint8Array) => void;
  readonly size: () => bigint;
  /** The RFC 6962 tree head over what was added so far; H("") for nothing. */
  readonly root: () => Buffer;
  readonly state: () => TreeState;
}

/** A full subtree of 2^height leaves, the `index`-th of its height. */
export type OnSubtree = (height: number, index: bigint, hash: Buffer) => void;

const onesIn = (size: bigint): number => size.toString(2).replaceAll('0', '').length;

/**
 * Begins with `from`, else with nothing; `onSubtree` is told of every full subtree, leaves not, as it is completed.
 * Throws RangeError for a state that has not one subtree for each bit of its size.
 */
export const createTreeHasher = (from?: TreeState, onSubtree?: OnSubtree): TreeHasher => {
  const subtrees: Buffer[] = (from?.subtrees ?? []).map((hash) => Buffer.from(hash));
  let size = from?.size ?? 0n;
  if (size < 0n || subtrees.length !== onesIn(size) || subtrees.some(({ length }) => length !== 32))
    throw new RangeError('not the state of a tree');
  return {
    add: (leaf) => {
      let top: Buffer = Buffer.from(leaf);
      let height = 0;
      for (let rest = size; (rest & 1n) === 1n; rest >>= 1n) {
        const left = subtrees.pop();
        if (left === undefined) break;
        top = nodeHash(left, top);
        height += 1;
        onSubtree?.(height, rest >> 1n, top);
      }
      subtrees.push(top);
      size += 1n;
    },
    size: () => size,
    root: () => (subtrees.length === 0 ? sha256() : subtrees.reduceRight((right, left) => nodeHash(left, right))),
    state: () => ({ size, subtrees: [...subtrees] }),
  };
};
