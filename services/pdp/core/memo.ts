import { sha256Hex } from '../../shared/contracts/bytes.ts';
import type { PolicyOutput } from '../../shared/contracts/policy-io.ts';
import type { Evaluate, EvaluationResult } from './evaluate.ts';
import { readsText, type InputReads } from './input-reads.ts';

export interface MemoOptions {
  /** Answers of all tenants together. */
  readonly maxEntries: number;
  /** What they may take, roughly. */
  readonly maxBytes: number;
}

/** One set of bundles with one state of the data: as long as it is the same object, it answers the same. */
export interface RememberedPolicy {
  readonly evaluate: Evaluate;
  /** Undefined: its answers depend on more than the input, so none is remembered. */
  readonly reads?: InputReads | undefined;
}

/** The same document twice. */
export interface RememberedInput {
  readonly text: string;
  /** Asked for only where not all of the input is read. */
  readonly document: () => object;
}

export interface MemoStats {
  readonly hits: number;
  /** Evaluations of policies whose answers are remembered. */
  readonly misses: number;
  readonly entries: number;
  readonly bytes: number;
}

export interface Memo {
  /**
   * The policy's result and whether it was remembered; then it took no fuel. Throws what `evaluate` throws. Faults are
   * never remembered, nor is what drew anything.
   */
  readonly evaluate: (
    tenant: string,
    policy: RememberedPolicy,
    input: RememberedInput,
    nowMs: number,
  ) => readonly [result: EvaluationResult, isHit: boolean];
  readonly stats: () => MemoStats;
}

interface Entry {
  readonly result: EvaluationResult;
  readonly bytes: number;
  /** Asked for since eviction last came by. */
  isUsed: boolean;
}

interface Partition {
  /** Of the policy that made all entries. A number, so that a policy which is gone is not kept by them. */
  readonly policy: number;
  /** By digest, oldest first. A digest, because nobody can make many that fall together in the table. */
  readonly entries: Map<string, Entry>;
  bytes: number;
}

/** Digest, entry and its place in the table. */
const ENTRY_BYTES = 256;
const BYTES_PER_UNIT = 2;
/** How many entries that are in use eviction spares before it takes one all the same. */
const SPARED = 16;

/**
 * Remembers answers, each tenant's apart. What a tenant's policy was replaced by, other bundles or other data, begins
 * with nothing. When there is no room the tenant that has most gives up what was not asked for longest: nobody drives
 * out another who has less.
 */
export const createMemo = ({ maxEntries, maxBytes }: MemoOptions): Memo => {
  const partitions = new Map<string, Partition>();
  const numbers = new WeakMap<RememberedPolicy, number>();
  const sizes = new WeakMap<PolicyOutput, number>();
  let policies = 0;
  let entries = 0;
  let bytes = 0;
  let hits = 0;
  let misses = 0;

  const numberOf = (policy: RememberedPolicy): number => {
    const known = numbers.get(policy);
    if (known !== undefined) return known;
    policies += 1;
    numbers.set(policy, policies);
    return policies;
  };

  const sizeOf = (output: PolicyOutput): number => {
    const known = sizes.get(output);
    if (known !== undefined) return known;
    const size = ENTRY_BYTES + JSON.stringify(output).length * BYTES_PER_UNIT;
    sizes.set(output, size);
    return size;
  };

  const partitionOf = (tenant: string, policy: number): Partition => {
    const known = partitions.get(tenant);
    if (known?.policy === policy) return known;
    if (known !== undefined) {
      entries -= known.entries.size;
      bytes -= known.bytes;
    }
    const partition: Partition = { policy, entries: new Map(), bytes: 0 };
    partitions.set(tenant, partition);
    return partition;
  };

  const remove = (tenant: string, partition: Partition, digest: string, entry: Entry): void => {
    partition.entries.delete(digest);
    partition.bytes -= entry.bytes;
    entries -= 1;
    bytes -= entry.bytes;
    if (partition.entries.size === 0) partitions.delete(tenant);
  };

  const evict = (): void => {
    let [tenant, largest] = ['', undefined as Partition | undefined];
    for (const [name, partition] of partitions)
      if (largest === undefined || partition.bytes > largest.bytes) [tenant, largest] = [name, partition];
    if (largest === undefined) return;
    let spared = 0;
    for (const [digest, entry] of largest.entries) {
      if (!entry.isUsed || spared >= SPARED) return remove(tenant, largest, digest, entry);
      // To the end: its second chance.
      entry.isUsed = false;
      spared += 1;
      largest.entries.delete(digest);
      largest.entries.set(digest, entry);
    }
  };

  const keep = (tenant: string, policy: number, digest: string, entry: Entry): void => {
    if (entry.bytes > maxBytes) return;
    while (entries > 0 && (entries >= maxEntries || bytes + entry.bytes > maxBytes)) evict();
    // Only now: its partition may have gone for want of room.
    const partition = partitionOf(tenant, policy);
    partition.entries.set(digest, entry);
    partition.bytes += entry.bytes;
    entries += 1;
    bytes += entry.bytes;
  };

  return {
    evaluate(tenant, policy, input, nowMs) {
      const { reads } = policy;
      if (reads === undefined) return [policy.evaluate(input.text, nowMs), false];
      const digest = sha256Hex(reads === true ? input.text : readsText(reads, input.document()));
      const number = numberOf(policy);
      const partition = partitionOf(tenant, number);
      const known = partition.entries.get(digest);
      if (known !== undefined) {
        hits += 1;
        known.isUsed = true;
        return [known.result, true];
      }
      misses += 1;
      const result = policy.evaluate(input.text, nowMs);
      if (result.outcome === 'answer' && result.drawn === undefined)
        keep(tenant, number, digest, {
          result: { ...result, fuelUsed: 0 },
          bytes: sizeOf(result.value),
          isUsed: false,
        });
      return [result, false];
    },
    stats: () => ({ hits, misses, entries, bytes }),
  };
};
