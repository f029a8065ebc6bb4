import { sha256 } from '../../shared/contracts/bytes.ts';

const NODE = Buffer.from([0x01]);

/** node = H(0x01 ‖ left ‖ right), RFC 6962, section 2.1. */
export const nodeHash = (left: Uint8Array, right: Uint8Array): Buffer => sha256(NODE, left, right);

/** The root over leaf hashes that come one by one; holds one hash for each bit of the size. */
export interface TreeHasher {
  readonly add: (leaf: Uint8Array) => void;
  readonly size: () => bigint;
  /** The RFC 6962 tree head over what was added so far; H("") for nothing. */
  readonly root: () => Buffer;
}

export const createTreeHasher = (): TreeHasher => {
  /** Roots of the full subtrees, largest first; their sizes are the bits of `size`. */
  const subtrees: Buffer[] = [];
  let size = 0n;
  return {
    add: (leaf) => {
      let node: Buffer = Buffer.from(leaf);
      for (let rest = size; (rest & 1n) === 1n; rest >>= 1n) {
        const left = subtrees.pop();
        if (left !== undefined) node = nodeHash(left, node);
      }
      subtrees.push(node);
      size += 1n;
    },
    size: () => size,
    root: () => (subtrees.length === 0 ? sha256() : subtrees.reduceRight((right, left) => nodeHash(left, right))),
  };
};
