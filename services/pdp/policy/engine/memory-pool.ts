import { wasmApi, type WasmMemory } from './wasm.ts';

/** The machine, not a limit of ours, has no memory for an instance. Later it may. */
export class NoMemoryLeft extends Error {}

export interface PooledMemory {
  readonly memory: WasmMemory;
  /** Somebody's bytes are in it. */
  readonly isUsed: boolean;
}

export interface MemoryPool {
  /** A memory of exactly this size. Throws `NoMemoryLeft`. */
  readonly take: (bytes: number, maxPages: number) => PooledMemory;
  /** For whoever comes next. Nothing else may refer to it any more. */
  readonly give: (memory: WasmMemory, maxPages: number) => void;
}

const PAGE_BYTES = 64 * 1024;
const MAX_KEPT = 4;
const MAX_KEPT_BYTES = 32 * 1024 * 1024;

interface Kept {
  readonly memory: WasmMemory;
  readonly maxPages: number;
}

/**
 * Memories that were given up, at most four and 32 MiB together. Each new memory makes V8 collect garbage, which takes
 * milliseconds; one that is used again takes a tenth of one.
 */
export const createMemoryPool = (): MemoryPool => {
  let kept: readonly Kept[] = [];
  const bytesOf = (list: readonly Kept[]): number =>
    list.reduce((sum, { memory }) => sum + memory.buffer.byteLength, 0);
  return {
    take(bytes, maxPages) {
      const found = kept.find((each) => each.memory.buffer.byteLength === bytes && each.maxPages === maxPages);
      if (found !== undefined) {
        kept = kept.filter((each) => each !== found);
        return { memory: found.memory, isUsed: true };
      }
      try {
        const memory = new wasmApi.Memory({ initial: bytes / PAGE_BYTES, maximum: maxPages });
        return { memory, isUsed: false };
      } catch (cause) {
        throw new NoMemoryLeft(`no memory of ${bytes} bytes can be had`, { cause });
      }
    },
    give(memory, maxPages) {
      kept = [...kept, { memory, maxPages }];
      while (kept.length > MAX_KEPT || bytesOf(kept) > MAX_KEPT_BYTES) kept = kept.slice(1);
    },
  };
};
