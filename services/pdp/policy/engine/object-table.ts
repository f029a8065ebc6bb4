/*
 * An object is a hash table whose buckets are sorted by key (OPA, wasm/src/value.c). The module makes tables larger and
 * never smaller, and going over one takes fuel for each bucket: without this an evaluation would pay for members that
 * are long gone.
 */
import { HASH_BEGIN, HASH_PRIME, OBJECT } from './value-layout.ts';

const MIN_BUCKETS = 8;
const LOAD_FACTOR = 0.7;

/** Buckets of a table that never had more members than these; a power of two. */
export const bucketsFor = (count: number): number => {
  let buckets = MIN_BUCKETS;
  while (count > buckets * LOAD_FACTOR) buckets *= 2;
  return buckets;
};

/** What the allocator gives lies anywhere. */
const wordAt = (memory: Buffer, address: number): number => memory.readUInt32LE(address);

/** As the module compares the keys of two elements. */
const compareKeys = (memory: Buffer, one: number, other: number): number => {
  const a = wordAt(memory, one);
  const b = wordAt(memory, other);
  const aStart = wordAt(memory, a + 8);
  const bStart = wordAt(memory, b + 8);
  const aLength = wordAt(memory, a + 4);
  const bLength = wordAt(memory, b + 4);
  const common = Math.min(aLength, bLength);
  for (let index = 0; index < common; index += 1) {
    const difference = (memory[aStart + index] ?? 0) - (memory[bStart + index] ?? 0);
    if (difference !== 0) return difference;
  }
  return aLength - bLength;
};

const hasKey = (memory: Buffer, element: number, wanted: Buffer): boolean => {
  const key = wordAt(memory, element);
  const start = wordAt(memory, key + 8);
  return memory.subarray(start, start + wordAt(memory, key + 4)).equals(wanted);
};

const isObjectAt = (memory: Buffer, address: number): boolean => memory[address] === OBJECT;

/** Address of a member's value; 0: there is none. */
const memberAt = (memory: Buffer, object: number, name: string): number => {
  const wanted = Buffer.from(name, 'utf8');
  let hash = HASH_BEGIN;
  for (const byte of wanted) hash = Math.imul(hash, HASH_PRIME) ^ byte;
  const bucket = hash & (wordAt(memory, object + 8) - 1);
  let element = wordAt(memory, wordAt(memory, object + 4) + bucket * 4);
  while (element !== 0 && !hasKey(memory, element, wanted)) element = wordAt(memory, element + 8);
  return element === 0 ? 0 : wordAt(memory, element + 4);
};

/** Links the elements of two buckets into one, by key: its first element. */
const merged = (memory: Buffer, one: number, other: number): number => {
  let first = 0;
  let last = 0;
  let a = one;
  let b = other;
  while (a !== 0 && b !== 0) {
    const isOne = compareKeys(memory, a, b) < 0;
    const next = isOne ? a : b;
    if (last === 0) first = next;
    else memory.writeUInt32LE(next, last + 8);
    last = next;
    if (isOne) a = wordAt(memory, a + 8);
    else b = wordAt(memory, b + 8);
  }
  const rest = a === 0 ? b : a;
  if (last === 0) return rest;
  memory.writeUInt32LE(rest, last + 8);
  return first;
};

/**
 * Makes the table of the object at `path` below `root` as large as if what it has were all it ever had. The memory that
 * is left over stays with the table, and becomes free with it.
 */
export const fitTable = (memory: Buffer, root: number, path: readonly string[]): void => {
  let object = root;
  for (const name of path) {
    if (!isObjectAt(memory, object)) return;
    object = memberAt(memory, object, name);
  }
  if (!isObjectAt(memory, object)) return;
  const table = wordAt(memory, object + 4);
  const buckets = wordAt(memory, object + 8);
  const fewer = bucketsFor(wordAt(memory, object + 12));
  if (fewer >= buckets) return;
  for (let bucket = 0; bucket < fewer; bucket += 1) {
    let chain = 0;
    for (let from = bucket; from < buckets; from += fewer)
      chain = merged(memory, chain, wordAt(memory, table + from * 4));
    memory.writeUInt32LE(chain, table + bucket * 4);
  }
  memory.writeUInt32LE(fewer, object + 8);
};
