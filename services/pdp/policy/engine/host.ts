import type { Builtins } from './builtin.ts';
import { createBuiltinCalls, type BuiltinCalls, type Drawn } from './builtin-calls.ts';
import { builtinCallers } from './call-sites.ts';
import { faultOf, type EngineFault } from './fault.ts';
import { NEEDED_EXPORTS, PATCH_EXPORTS, PolicyAbort, PolicyInstance, type DataPatch, type Image } from './instance.ts';
import { FUEL_EXPORT, meterModule } from './meter.ts';
import { MeterError } from './wasm-reader.ts';
import { wasmApi, type WasmMemory, type WasmModule } from './wasm.ts';

export const PAGE_BYTES = 64 * 1024;
/** What an instance begins with beyond the module's own data, so that common inputs make it grow no more. */
const ROOM_PAGES = 128;
/** An instance never gives memory back, so one large input must not cost it for ever. */
const RECYCLE_GROWTH_BYTES = 32 * 1024 * 1024;
/** What a new instance may have to do again before it can evaluate. */
const MAX_SINCE = 64;
const MAX_SINCE_CHARS = 64 * 1024;
/** Data that has so much more than it had when it was built is built again: most of it may be holes. */
const REBUILD_FACTOR = 2;
const REBUILD_ROOM_BYTES = 1024 * 1024;

const rebuildAboveOf = (heapBytes: number): number => heapBytes * REBUILD_FACTOR + REBUILD_ROOM_BYTES;

const charsOf = (patches: readonly DataPatch[]): number =>
  patches.reduce((sum, { json }) => sum + (json?.length ?? 0), 0);

export interface EngineOptions {
  readonly wasm: Uint8Array;
  /** UTF-8 JSON text of the `data` document. */
  readonly dataJson: Uint8Array;
  readonly builtins: Builtins;
  /** Linear memory of one instance, data included. */
  readonly memoryMaxBytes: number;
  /** What one evaluation may cost, units of the meter, beyond the reading of its input. */
  readonly fuel: number;
}

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
  /** How many instances were made, the first included. */
  readonly instances: () => number;
  /**
   * Changes the data in place, between two evaluations; nothing is read again but what the patches hold. `whole` is
   * what leads from the data of `createEngine` to the data after these patches: it is asked for when too little of the
   * memory is in use any more, and the data is built anew. Throws `EngineRefusal` when the module cannot hold the
   * data, or is older than ABI 1.3; after the former every evaluation is a fault.
   */
  readonly patchData: (patches: readonly DataPatch[], whole: () => readonly DataPatch[]) => void;
  /** Another engine of the same module with the data of `createEngine`, which is copied, not read again. */
  readonly fork: () => Engine;
}

/** A built-in that the host was asked for, and the rules and functions that call it, as paths below `data`. */
export interface BuiltinUse {
  readonly builtin: string;
  /** Empty when the module has no names. */
  readonly rules: readonly string[];
}

/** The module cannot be used: no OPA policy module, built-ins that nobody supplies, no room for its data. */
export class EngineRefusal extends Error {
  /** The built-ins that nobody supplies, where those are the reason. */
  readonly missing: readonly BuiltinUse[];
  constructor(message: string, options: { readonly cause?: unknown; readonly missing?: readonly BuiltinUse[] } = {}) {
    super(message, options);
    this.missing = options.missing ?? [];
  }
}

const refuse = (message: string, cause?: unknown): never => {
  throw new EngineRefusal(message, { cause });
};

const messageOf = (cause: unknown): string => (cause instanceof Error ? cause.message : String(cause));

interface Compiled {
  readonly module: WasmModule;
  /** The least that the module can be given. */
  readonly memoryPages: number;
  /** Whether it exports what changing its data needs. */
  readonly isPatchable: boolean;
}

const compile = async (bytes: Uint8Array): Promise<Compiled> => {
  try {
    const { wasm, memoryPages } = meterModule(bytes);
    const module = await wasmApi.compile(wasm);
    const exported = new Set(wasmApi.Module.exports(module).map(({ name }) => name));
    if (![...NEEDED_EXPORTS, FUEL_EXPORT].every((name) => exported.has(name)))
      return refuse('policy.wasm is no OPA policy module');
    return { module, memoryPages, isPatchable: PATCH_EXPORTS.every((name) => exported.has(name)) };
  } catch (cause) {
    if (cause instanceof EngineRefusal) throw cause;
    if (cause instanceof MeterError) return refuse(`policy.wasm cannot be metered: ${cause.message}`, cause);
    return refuse(`policy.wasm is no WebAssembly module: ${messageOf(cause)}`, cause);
  }
};

const tableOf = (instance: PolicyInstance, which: 'builtins' | 'entrypoints'): ReadonlyMap<string, number> => {
  const table: unknown = JSON.parse(instance.tableJson(which));
  if (typeof table !== 'object' || table === null) return refuse(`policy.wasm has no table of ${which}`);
  return new Map(Object.entries(table).map(([name, number]) => [name, Number(number)]));
};

/** The built-ins that a module asks its host for, sorted. Throws `EngineRefusal` for what is no OPA policy module. */
export const hostBuiltinsOf = async (wasm: Uint8Array): Promise<readonly string[]> => {
  const { module, memoryPages } = await compile(wasm);
  const initial = memoryPages + 1;
  const instance = new PolicyInstance(
    module,
    new wasmApi.Memory({ initial, maximum: initial }),
    createBuiltinCalls(new Map(), {}),
  );
  return [...tableOf(instance, 'builtins').keys()].sort();
};

/** What all engines of one module share. */
interface Prepared {
  readonly make: (memory: WasmMemory) => PolicyInstance;
  readonly calls: BuiltinCalls;
  /** With the data of `createEngine`. */
  readonly image: Image;
  readonly maxPages: number;
  readonly fuel: number;
  readonly isPatchable: boolean;
  readonly entrypoints: ReadonlyMap<string, number>;
  readonly hostBuiltins: readonly string[];
}

const bytesOf = ({ memory }: PolicyInstance): number => memory.buffer.byteLength;

/** An engine whose data are those of `prepared.image`, which `first` already has. */
const engineOf = (prepared: Prepared, first?: PolicyInstance): Engine => {
  const { calls, fuel } = prepared;
  let instances = first === undefined ? 0 : 1;
  let current = first;
  let spare: WasmMemory | undefined;
  let image = prepared.image;
  /** Changes since the image was taken: copying all data for each would cost more than the change. */
  let since: readonly DataPatch[] = [];
  /** What the data needs; an instance with more has it from an evaluation. */
  let dataMemoryBytes = image.memoryBytes;
  let rebuildAbove = rebuildAboveOf(image.heap);
  /** Why the data is not what it should be. */
  let unusable: string | undefined;

  const instanceOf = (from: Image, patches: readonly DataPatch[]): PolicyInstance => {
    const pages = from.memoryBytes / PAGE_BYTES;
    const memory = spare?.buffer.byteLength === from.memoryBytes ? spare : undefined;
    spare = undefined;
    const instance = prepared.make(memory ?? new wasmApi.Memory({ initial: pages, maximum: prepared.maxPages }));
    instances += 1;
    instance.restore(from);
    for (const patch of patches) instance.patch(patch);
    return instance;
  };
  /** Its memory serves its successor, unless it grew: garbage collection counts what is reserved. */
  const giveUp = ({ memory }: PolicyInstance): void => {
    current = undefined;
    spare = memory.buffer.byteLength === image.memoryBytes ? memory : undefined;
  };
  const takeImage = (instance: PolicyInstance): void => {
    image = instance.image();
    since = [];
  };
  const rebuild = (patches: readonly DataPatch[]): PolicyInstance => {
    image = prepared.image;
    const instance = instanceOf(image, patches);
    rebuildAbove = rebuildAboveOf(instance.heap);
    takeImage(instance);
    return instance;
  };

  const patchInPlace = (patches: readonly DataPatch[]): PolicyInstance => {
    // What an evaluation made larger would stay as large in every instance after it.
    if (current !== undefined && bytesOf(current) > dataMemoryBytes) giveUp(current);
    const instance = current ?? instanceOf(image, since);
    for (const patch of patches) instance.patch(patch);
    since = [...since, ...patches];
    if (since.length > MAX_SINCE || charsOf(since) > MAX_SINCE_CHARS) takeImage(instance);
    return instance;
  };

  return {
    evaluate({ entrypoint, input = '', nowMs, format }) {
      calls.begin(nowMs);
      let instance: PolicyInstance | undefined;
      try {
        if (unusable !== undefined) throw new PolicyAbort(unusable);
        current ??= instanceOf(image, since);
        instance = current;
        const text = instance.evaluate(entrypoint, input, fuel, format === 'rego' ? 1 : 0);
        const { fuelLimit } = instance;
        const fuelUsed = fuelLimit - instance.fuel;
        if (bytesOf(instance) > dataMemoryBytes + RECYCLE_GROWTH_BYTES) giveUp(instance);
        return { outcome: 'result', text, fuelUsed, fuelLimit, drawn: calls.drawn() };
      } catch (cause) {
        const fuelLimit = instance?.fuelLimit ?? fuel;
        const left = instance?.fuel ?? fuelLimit;
        if (instance !== undefined) giveUp(instance);
        const fuelUsed = fuelLimit - Math.max(0, left);
        return { outcome: 'fault', fuelUsed, fuelLimit, ...faultOf(cause, left < 0) };
      }
    },
    patchData(patches, whole) {
      if (!prepared.isPatchable) refuse('policy.wasm is older than ABI 1.3: no data can be pushed to it');
      try {
        let instance: PolicyInstance;
        try {
          instance = patchInPlace(patches);
          if (instance.heap > rebuildAbove) instance = rebuild(whole());
        } catch {
          instance = rebuild(whole());
        }
        current = instance;
        dataMemoryBytes = bytesOf(instance);
      } catch (cause) {
        current = undefined;
        unusable = `policy.wasm cannot hold the data in ${prepared.maxPages * PAGE_BYTES} bytes: ${messageOf(cause)}`;
        refuse(unusable, cause);
      }
    },
    fork: () => engineOf(prepared),
    entrypoints: prepared.entrypoints,
    hostBuiltins: prepared.hostBuiltins,
    instances: () => instances,
  };
};

/**
 * Meters and compiles a policy module (off this thread), makes one instance and reads the data into it. Throws
 * `EngineRefusal`.
 *
 * An instance is given up after anything was thrown out of it: an abort leaves its stack pointer where it was. The next
 * one begins with a copy of the memory with the data in it.
 */
export const createEngine = async (options: EngineOptions): Promise<Engine> => {
  const maxPages = Math.floor(options.memoryMaxBytes / PAGE_BYTES);
  const { module, memoryPages, isPatchable } = await compile(options.wasm);
  const initial = Math.min(memoryPages + ROOM_PAGES, maxPages);
  /** The module's built-ins by their numbers in it; known once there is an instance. */
  const names = new Map<number, string>();
  const calls = createBuiltinCalls(names, options.builtins);
  const make = (memory: WasmMemory): PolicyInstance => new PolicyInstance(module, memory, calls);

  const begin = () => {
    const first = make(new wasmApi.Memory({ initial, maximum: maxPages }));
    const [major, minor] = first.abi;
    if (major !== 1 || minor < 2) return refuse(`policy.wasm speaks ABI ${major}.${minor}; 1.2 or later is needed`);
    const builtins = tableOf(first, 'builtins');
    const entrypoints = tableOf(first, 'entrypoints');
    const missing = [...builtins.keys()].filter((name) => !Object.hasOwn(options.builtins, name)).sort();
    if (missing.length > 0) {
      const callers = builtinCallers(options.wasm);
      throw new EngineRefusal(`policy.wasm needs built-ins that are not supplied: ${missing.join(', ')}`, {
        missing: missing.map((builtin) => ({ builtin, rules: callers.get(builtins.get(builtin) ?? -1) ?? [] })),
      });
    }
    return { first, builtins, entrypoints, image: first.readData(options.dataJson) };
  };
  const begun = (() => {
    try {
      return begin();
    } catch (cause) {
      if (cause instanceof EngineRefusal) throw cause;
      return refuse(`policy.wasm cannot be set up in ${maxPages * PAGE_BYTES} bytes: ${messageOf(cause)}`, cause);
    }
  })();
  const { first, builtins, entrypoints, image } = begun;
  for (const [name, id] of builtins) names.set(id, name);
  const hostBuiltins = [...builtins.keys()].sort();
  const { fuel } = options;
  return engineOf({ make, calls, image, maxPages, fuel, isPatchable, entrypoints, hostBuiltins }, first);
};
