/**
 * A large object of a document, never changed: a tree by a hash of the names, so that a change copies, hashes and archives
 * some of its nodes and not all of it. Its form depends on nothing but its members. An object is one when its RFC 8785
 * text has more than `PLAIN_BYTES`; smaller ones, and those inside lists, are plain.
 */
export const PLAIN_BYTES = 16 * 1024;
const BITS = 5;
const MAX_LEVEL = 6;
/** Of names with one hash: far more than there ever are, unless somebody looks for them. */
const MAX_ALIKE = 4_096;
/** What stands in a leaf for a member that is a wide object. */
const DIGEST_BYTES = 74;

/** A value and the bytes of its RFC 8785 text. */
export interface Sized {
  readonly value: unknown;
  readonly bytes: number;
  /** Containers inside each other, itself counted. */
  readonly depth: number;
}

interface Sums {
  readonly count: number;
  /** Of all members: name, colon, value, comma. */
  readonly bytes: number;
  /** The same, with digests for members that are wide objects. */
  readonly inline: number;
  readonly depth: number;
}

export interface Leaf extends Sums {
  readonly members: ReadonlyMap<string, Sized>;
}

export interface Branch extends Sums {
  readonly children: readonly (Trie | undefined)[];
}

export type Trie = Leaf | Branch;

/** Undefined: the member goes. */
type Change = readonly [name: string, sized: Sized | undefined, hash: number];

/** An object that may not be: a change that leads to it has no effect. */
export class NoObject extends Error {}

/** FNV-1a over UTF-16 units, its bits mixed once more (MurmurHash3's end). */
const hashOf = (name: string): number => {
  let hash = 0x811c9dc5;
  for (let index = 0; index < name.length; index += 1) hash = Math.imul(hash ^ name.charCodeAt(index), 0x01000193);
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return (hash ^ (hash >>> 16)) >>> 0;
};
const slotOf = (hash: number, level: number): number => (hash >>> (level * BITS)) & 31;

export const textBytes = (value: unknown): number => Buffer.byteLength(JSON.stringify(value), 'utf8');

const leafOf = (members: ReadonlyMap<string, Sized>): Leaf => {
  let [bytes, inline, depth] = [0, 0, 0];
  for (const [name, { value, bytes: own, depth: below }] of members) {
    const around = textBytes(name) + 2;
    bytes += around + own;
    inline += around + (value instanceof WideObject ? DIGEST_BYTES : own);
    depth = Math.max(depth, below);
  }
  return { members, count: members.size, bytes, inline, depth };
};

const branchOf = (children: readonly (Trie | undefined)[]): Branch => {
  let [count, bytes, inline, depth] = [0, 0, 0, 0];
  for (const child of children) {
    count += child?.count ?? 0;
    bytes += child?.bytes ?? 0;
    inline += child?.inline ?? 0;
    depth = Math.max(depth, child?.depth ?? 0);
  }
  return { children, count, bytes, inline, depth };
};

const isSmall = ({ count, inline }: Sums): boolean => count <= 1 || inline <= PLAIN_BYTES;

function* membersOf(trie: Trie): Generator<readonly [string, Sized]> {
  if ('members' in trie) yield* trie.members;
  else for (const child of trie.children) if (child !== undefined) yield* membersOf(child);
}

const grown = (trie: Trie | undefined, level: number, changes: readonly Change[]): Trie | undefined => {
  let next: Trie;
  if (trie === undefined || 'members' in trie) {
    const members = new Map(trie?.members);
    for (const [name, sized] of changes) {
      if (sized === undefined) members.delete(name);
      else members.set(name, sized);
    }
    const leaf = leafOf(members);
    if (level < MAX_LEVEL && !isSmall(leaf)) {
      const all = [...members].map(([name, sized]): Change => [name, sized, hashOf(name)]);
      return spread(
        Array.from({ length: 32 }, () => undefined),
        level,
        all,
      );
    }
    if (level === MAX_LEVEL && leaf.count > MAX_ALIKE) throw new NoObject('has too many names with one hash');
    next = leaf;
  } else next = spread(trie.children, level, changes);
  if (next.count === 0) return undefined;
  return 'children' in next && isSmall(next) ? leafOf(new Map(membersOf(next))) : next;
};

const spread = (children: readonly (Trie | undefined)[], level: number, changes: readonly Change[]): Branch => {
  const groups = new Map<number, Change[]>();
  for (const change of changes) {
    const slot = slotOf(change[2], level);
    const group = groups.get(slot);
    if (group === undefined) groups.set(slot, [change]);
    else group.push(change);
  }
  const next = [...children];
  for (const [slot, group] of groups) next[slot] = grown(children[slot], level + 1, group);
  return branchOf(next);
};

export class WideObject {
  readonly trie: Trie;
  constructor(trie: Trie) {
    this.trie = trie;
  }

  get bytes(): number {
    return this.trie.bytes + 1;
  }
  get depth(): number {
    return this.trie.depth + 1;
  }
  get count(): number {
    return this.trie.count;
  }

  member(name: string): Sized | undefined {
    const hash = hashOf(name);
    let trie: Trie | undefined = this.trie;
    for (let level = 0; trie !== undefined && 'children' in trie; level += 1) trie = trie.children[slotOf(hash, level)];
    return trie?.members.get(name);
  }

  *entries(): Generator<readonly [string, unknown]> {
    for (const [name, { value }] of membersOf(this.trie)) yield [name, value];
  }

  toJSON(): Readonly<Record<string, unknown>> {
    return Object.fromEntries(this.entries());
  }
}

/** Members of which two objects do not have the same; parts that are the same are not looked into. */
export function* changedNames(before: Trie | undefined, after: Trie | undefined): Generator<string> {
  if (before === after) return;
  if (before !== undefined && after !== undefined && 'children' in before && 'children' in after) {
    for (const [slot, child] of before.children.entries()) yield* changedNames(child, after.children[slot]);
    return;
  }
  const old = new Map(before === undefined ? [] : membersOf(before));
  const next = new Map(after === undefined ? [] : membersOf(after));
  for (const name of old.keys()) if (!next.has(name)) yield name;
  for (const [name, { value }] of next) if (old.get(name)?.value !== value || !old.has(name)) yield name;
}

/** An object with other members: plain or wide, by its size. Throws `NoObject`. */
export const withMembers = (
  wide: WideObject | undefined,
  changes: Iterable<readonly [string, Sized | undefined]>,
): Sized => {
  const trie = grown(
    wide?.trie,
    0,
    Array.from(changes, ([name, sized]): Change => [name, sized, hashOf(name)]),
  );
  if (trie === undefined) return { value: {}, bytes: 2, depth: 1 };
  const object = new WideObject(trie);
  const { bytes, depth } = object;
  return { value: bytes > PLAIN_BYTES ? object : object.toJSON(), bytes, depth };
};
