import type { Builtins } from './builtin.ts';
import { createBuiltinCalls, type BuiltinCalls, type Drawn } from './builtin-calls.ts';
import { faultOf, resultTooLarge, type EngineFault } from './fault.ts';
import { PolicyAbort, PolicyInstance, type DataPatch, type Image } from './instance.ts';
import {
  EngineRefusal,
  loadModule,
  messageOf,
  PAGE_BYTES,
  pagesWithin,
  refuse,
  type LoadedModule,
  type ModuleOptions,
} from './load-module.ts';
import { createMemoryPool, NoMemoryLeft, type MemoryPool } from './memory-pool.ts';
import { wasmApi, type WasmMemory } from './wasm.ts';

/** An instance never gives memory back, so one large input must not cost it for ever. */
const RECYCLE_GROWTH_BYTES = 32 * 1024 * 1024;
/** What a new instance may have to do again before it can evaluate. */
const MAX_SINCE = 64;
const MAX_SINCE_CHARS = 64 * 1024;
/** Data that has so much more than it had when it was built is built again: most of it may be holes. */
const REBUILD_FACTOR = 2;
const REBUILD_ROOM_BYTES = 1024 * 1024;

/** A copy of data that were changed is kept when it is no larger; larger data is built again from the changes. */
const MAX_OWN_IMAGE_BYTES = 4 * 1024 * 1024;

const rebuildAboveOf = (heapBytes: number): number => heapBytes * REBUILD_FACTOR + REBUILD_ROOM_BYTES;

const charsOf = (patches: readonly DataPatch[]): number =>
  patches.reduce((sum, { json }) => sum + (json?.length ?? 0), 0);

/** An event could hold no more of an answer. */
export const DEFAULT_RESULT_MAX_BYTES = 1024 * 1024;

/** What one evaluation may take. */
export interface EngineLimits {
  /** Linear memory of one instance, data included. */
  readonly memoryMaxBytes: number;
  /** Units of the meter, beyond the reading of its input. */
  readonly fuel: number;
  /** Of the result set, as text; more is not read. */
  readonly resultMaxBytes: number;
}

/** What runs a module. */
export interface EngineHost extends Omit<EngineLimits, 'resultMaxBytes'> {
  readonly builtins: Builtins;
  readonly resultMaxBytes?: number | undefined;
  /** Shared by engines of other modules; without it by those of this one. */
  readonly pool?: MemoryPool | undefined;
}

export interface EngineOptions extends ModuleOptions, EngineHost {}

export type EngineResult =
  | {
      readonly outcome: 'result';
      /** The result set: `[]` for undefined, else `[{"result": …}]`. */
      readonly text: string;
      readonly fuelUsed: number;
      readonly fuelLimit: number;
      readonly drawn: Drawn | undefined;
    }
  | ({ readonly outcome: 'fault'; readonly fuelUsed: number; readonly fuelLimit: number } & EngineFault);

/** One evaluation. `input` is JSON or Rego text that is known to be well-formed; undefined: there is no input. */
export interface EngineRequest {
  readonly entrypoint: number;
  readonly input: string | Uint8Array | undefined;
  /** The evaluation's clock, whole milliseconds since 1970. */
  readonly nowMs: number;
  /** What it need not draw. */
  readonly given?: Drawn | undefined;
  /** `rego` tells sets from arrays and keeps keys of any type. Default: `json`. */
  readonly format?: 'json' | 'rego';
}

export interface Engine {
  /** Never throws, never waits. */
  readonly evaluate: (request: EngineRequest) => EngineResult;
  /** Entrypoints by name, such as `edict/decide`. */
  readonly entrypoints: ReadonlyMap<string, number>;
  /** Built-ins that the module asks the host for, sorted. */
  readonly hostBuiltins: readonly string[];
  /** What it was made from: another thread can make engines from it too. */
  readonly loaded: LoadedModule;
  /** How many instances were made, that of the loading included. */
  readonly instances: () => number;
  /**
   * Changes the data in place, before the next evaluation; nothing is read again but what the patches hold. `whole` is
   * what leads from the data that were loaded to the data after these patches: it is asked for when the data is built
   * anew, because too little of the memory is in use any more or because it was given up. Throws `EngineRefusal` when
   * the module is older than ABI 1.3, or could not hold the data before.
   */
  readonly changeData: (patches: readonly DataPatch[], whole: () => readonly DataPatch[]) => void;
  /** Whether an evaluation can begin with nothing to be copied or read before it. */
  readonly isReady: () => boolean;
  /**
   * Does what is to be done before an evaluation, in steps of about a millisecond (a list of data is one step), as long
   * as `mayGoOn`. True when all is done. Throws `EngineRefusal` when the module cannot hold the data: every evaluation
   * is a fault from then on. Throws `NoMemoryLeft` when the machine has none; that may change.
   */
  readonly work: (mayGoOn: () => boolean) => boolean;
  /** What it has of memory, all of it reserved and some of it used. */
  readonly bytes: () => number;
  /** Gives up its memory, which comes back with the same data when it is worked on or evaluates. */
  readonly release: () => void;
  /** What an instance has at least. */
  readonly instanceBytes: number;
  /**
   * Another engine of the same module with the data that were loaded, which are copied, not read again. No work. Where
   * its `limits` have no room for that data, it refuses to be worked on.
   */
  readonly fork: (limits?: EngineLimits) => Engine;
}

/** What all engines of one module share. */
interface Prepared {
  readonly loaded: LoadedModule;
  readonly calls: BuiltinCalls;
  /** Those of the engine that was made first. */
  readonly limits: EngineLimits;
  readonly pool: MemoryPool;
  readonly hostBuiltins: readonly string[];
  /** An instance with the data of the loaded image that its owner can do without. */
  lend: () => PolicyInstance | undefined;
}

const tooLittle = ({ memoryBytes }: Image, { memoryMaxBytes }: EngineLimits): string =>
  `an instance of policy.wasm has ${memoryBytes} bytes, more than the ${memoryMaxBytes} that it may have`;

const bytesOf = ({ memory }: PolicyInstance): number => memory.buffer.byteLength;

/** An engine whose data are those of the loaded image, which `first` already has. */
const engineOf = (
  prepared: Prepared,
  limits: EngineLimits,
  first?: PolicyInstance,
): Engine & Pick<Prepared, 'lend'> => {
  const { calls, pool, loaded } = prepared;
  const { fuel, resultMaxBytes } = limits;
  const maxPages = pagesWithin(limits);
  let instances = first === undefined ? 0 : 1;
  /** It has the data once `queue` is empty. */
  let current = first;
  let making: Generator<void, void> | undefined;
  /** Of what is being made. */
  let begun: WasmMemory | undefined;
  /** Of the last instance; an own one need not be wiped. */
  let spare: WasmMemory | undefined;
  /** What the next instance begins with, and what it has to do again then: unless `isAnew`, `since`. */
  let image = loaded.image;
  let since: readonly DataPatch[] = [];
  let isAnew = false;
  let whole = (): readonly DataPatch[] => [];
  let hasOwnData = false;
  /** What `current` lacks, from `done` on. */
  let queue: DataPatch[] = [];
  let done = 0;
  /** The queue is all that leads from the first data to those of now. */
  let isBuilding = false;
  /** What the data needs; an instance with more has it from an evaluation. */
  let dataMemoryBytes = image.memoryBytes;
  let rebuildAbove = rebuildAboveOf(image.heap);
  /** Why the data is not what it should be. */
  let unusable = image.memoryBytes > maxPages * PAGE_BYTES ? tooLittle(image, limits) : undefined;

  const isReady = (): boolean => current !== undefined && done === queue.length;
  const dropSpare = (): void => {
    if (spare !== undefined) pool.give(spare, maxPages);
    spare = undefined;
  };
  /** Its memory serves its successor, unless it grew: what is reserved counts. */
  const giveUp = ({ memory }: PolicyInstance): void => {
    current = undefined;
    dropSpare();
    spare = memory.buffer.byteLength === image.memoryBytes ? memory : undefined;
  };
  const startAnew = (): void => {
    image = loaded.image;
    since = [];
    isAnew = true;
  };

  function* instanceOf(from: Image): Generator<void, PolicyInstance> {
    const isAlike = maxPages === pagesWithin(prepared.limits);
    const lent = from === loaded.image && isAlike ? prepared.lend() : undefined;
    if (lent !== undefined) {
      instances += 1;
      return lent;
    }
    const own = spare?.buffer.byteLength === from.memoryBytes ? spare : undefined;
    if (own === undefined) dropSpare();
    spare = undefined;
    const { memory, isUsed } =
      own === undefined ? pool.take(from.memoryBytes, maxPages) : { memory: own, isUsed: false };
    begun = memory;
    const instance = new PolicyInstance(loaded.module, memory, calls, maxPages * PAGE_BYTES);
    instances += 1;
    yield* instance.restore(from, isUsed);
    return instance;
  }

  const keepImage = (instance: PolicyInstance): void => {
    if (instance.heap > MAX_OWN_IMAGE_BYTES) return startAnew();
    image = instance.image();
    since = [];
    isAnew = false;
  };

  /** Brings `current` to the data of now. */
  function* bring(): Generator<void, void> {
    for (let isLast = false; ; isLast = true) {
      try {
        if (current === undefined) {
          queue = [...(isAnew ? whole() : since)];
          done = 0;
          isBuilding = isAnew;
          current = yield* instanceOf(image);
          begun = undefined;
        }
        const instance = current;
        for (let next = queue[done]; next !== undefined; next = queue[done]) {
          instance.patch(next);
          done += 1;
          yield;
        }
        queue = [];
        done = 0;
        dataMemoryBytes = bytesOf(instance);
        if (isBuilding) rebuildAbove = rebuildAboveOf(instance.heap);
        else if (instance.heap > rebuildAbove && !isLast) {
          startAnew();
          giveUp(instance);
          continue;
        }
        if (isBuilding || since.length > MAX_SINCE || charsOf(since) > MAX_SINCE_CHARS) keepImage(instance);
        isBuilding = false;
        return;
      } catch (cause) {
        current = undefined;
        begun = undefined;
        if (cause instanceof NoMemoryLeft) throw cause;
        if (!hasOwnData) throw new EngineRefusal(`policy.wasm cannot be set up again: ${messageOf(cause)}`, { cause });
        if (isLast || isBuilding) {
          unusable = `policy.wasm cannot hold the data in ${maxPages * PAGE_BYTES} bytes: ${messageOf(cause)}`;
          throw new EngineRefusal(unusable, { cause });
        }
        startAnew();
      }
    }
  }

  const work: Engine['work'] = (mayGoOn) => {
    if (unusable !== undefined) return refuse(unusable);
    if (isReady() && making === undefined) return true;
    making ??= bring();
    try {
      do {
        if (making.next().done !== true) continue;
        making = undefined;
        return true;
      } while (mayGoOn());
      return false;
    } catch (cause) {
      making = undefined;
      throw cause;
    }
  };

  const release = (): void => {
    dropSpare();
    const memory = current?.memory ?? begun;
    if (memory !== undefined) pool.give(memory, maxPages);
    [current, begun, making] = [undefined, undefined, undefined];
    if (hasOwnData) startAnew();
  };

  const changeData: Engine['changeData'] = (patches, next) => {
    if (!loaded.isPatchable) refuse('policy.wasm is older than ABI 1.3: no data can be pushed to it');
    if (unusable !== undefined) refuse(unusable);
    whole = next;
    // The module leaves tables of objects larger than in data that is read anew, which only a known layout tells how to
    // mend.
    if (hasOwnData && !loaded.image.isKnownLayout) release();
    // What an evaluation made larger would stay as large in every instance after it.
    if (current !== undefined && isReady() && bytesOf(current) > dataMemoryBytes) giveUp(current);
    if (!hasOwnData) {
      hasOwnData = true;
      isBuilding = true;
      startAnew();
    }
    if (!isAnew) since = [...since, ...patches];
    if (current !== undefined || making !== undefined) for (const patch of patches) queue.push(patch);
  };

  return {
    evaluate({ entrypoint, input = '', nowMs, given, format }) {
      calls.begin(nowMs, given);
      let instance: PolicyInstance | undefined;
      try {
        if (unusable !== undefined) throw new PolicyAbort(unusable);
        if (!isReady() || making !== undefined) work(always);
        instance = current;
        if (instance === undefined) throw new TypeError('no instance');
        const text = instance.evaluate(entrypoint, input, fuel, resultMaxBytes, format === 'rego' ? 1 : 0);
        const { fuelLimit } = instance;
        const fuelUsed = fuelLimit - instance.fuel;
        if (bytesOf(instance) > dataMemoryBytes + RECYCLE_GROWTH_BYTES) giveUp(instance);
        if (text === undefined) return { outcome: 'fault', fuelUsed, fuelLimit, ...resultTooLarge(resultMaxBytes) };
        return { outcome: 'result', text, fuelUsed, fuelLimit, drawn: calls.drawn() };
      } catch (cause) {
        const fuelLimit = instance?.fuelLimit ?? fuel;
        const left = instance?.fuel ?? fuelLimit;
        if (instance !== undefined) giveUp(instance);
        // A trap may come from a loop that had the counter to itself: what it used is not known, so it counts as all.
        const isTrap = cause instanceof wasmApi.RuntimeError;
        const fuelUsed = isTrap ? fuelLimit : Math.min(fuelLimit, Math.max(0, fuelLimit - Math.max(0, left)));
        return { outcome: 'fault', fuelUsed, fuelLimit, ...faultOf(cause, left < 0) };
      }
    },
    changeData,
    isReady: () => isReady() && making === undefined,
    work,
    bytes() {
      const held = current?.memory.buffer.byteLength ?? begun?.buffer.byteLength ?? 0;
      return held + (spare?.buffer.byteLength ?? 0) + (image === loaded.image ? 0 : image.bytes.length);
    },
    release,
    instanceBytes: loaded.image.memoryBytes,
    fork: (own = limits) => engineOf(prepared, own),
    entrypoints: loaded.entrypoints,
    hostBuiltins: prepared.hostBuiltins,
    loaded,
    instances: () => instances,
    lend() {
      const lent = current;
      if (lent === undefined || hasOwnData || making !== undefined || bytesOf(lent) !== image.memoryBytes)
        return undefined;
      current = undefined;
      return lent;
    },
  };
};

const always = (): boolean => true;

const engineWith = (
  loaded: LoadedModule,
  { memoryMaxBytes, fuel, resultMaxBytes = DEFAULT_RESULT_MAX_BYTES, pool = createMemoryPool() }: EngineHost,
  calls: BuiltinCalls,
  first?: PolicyInstance,
): Engine => {
  const hostBuiltins = [...loaded.builtins.keys()].sort();
  const limits = { memoryMaxBytes, fuel, resultMaxBytes };
  const prepared: Prepared = { loaded, calls, limits, pool, hostBuiltins, lend: () => undefined };
  const engine = engineOf(prepared, limits, first);
  prepared.lend = engine.lend;
  return engine;
};

/** An engine of a module that was loaded with these built-ins, maybe by another thread. It has no instance yet. */
export const engineFrom = (loaded: LoadedModule, host: EngineHost): Engine => {
  const names = new Map([...loaded.builtins].map(([name, id]) => [id, name] as const));
  return engineWith(loaded, host, createBuiltinCalls(names, host.builtins));
};

/**
 * Loads a module and gives an engine that has its first instance. Throws `EngineRefusal`.
 *
 * An instance is given up after anything was thrown out of it: an abort leaves its stack pointer where it was. The next
 * one begins with a copy of the memory with the data in it.
 */
export const createEngine = async (options: EngineOptions): Promise<Engine> => {
  const { loaded, first, calls } = await loadModule(options);
  return engineWith(loaded, options, calls, first);
};
