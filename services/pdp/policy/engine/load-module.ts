import type { Builtins } from './builtin.ts';
import { createBuiltinCalls, type BuiltinCalls } from './builtin-calls.ts';
import { builtinCallers } from './call-sites.ts';
import { NEEDED_EXPORTS, PATCH_EXPORTS, PolicyInstance, ROOM_BYTES, type Image } from './instance.ts';
import { FUEL_EXPORT, meterModule } from './meter.ts';
import { MeterError } from './wasm-reader.ts';
import { wasmApi, type WasmMemory, type WasmModule } from './wasm.ts';

export const PAGE_BYTES = 64 * 1024;
export const pagesWithin = ({ memoryMaxBytes }: { readonly memoryMaxBytes: number }): number =>
  Math.floor(memoryMaxBytes / PAGE_BYTES);

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

export const refuse = (message: string, cause?: unknown): never => {
  throw new EngineRefusal(message, { cause });
};

export const messageOf = (cause: unknown): string => (cause instanceof Error ? cause.message : String(cause));

/** A module and its data, ready for instances. It can be sent to another thread of the process. */
export interface LoadedModule {
  readonly module: WasmModule;
  /** The memory of an instance that has read the data. */
  readonly image: Image;
  /** Whether it exports what changing its data needs. */
  readonly isPatchable: boolean;
  /** The built-ins that it asks its host for, with their numbers in it. */
  readonly builtins: ReadonlyMap<string, number>;
  /** By name, such as `edict/decide`. */
  readonly entrypoints: ReadonlyMap<string, number>;
}

export interface ModuleOptions {
  readonly wasm: Uint8Array;
  /** UTF-8 JSON text of the `data` document. */
  readonly dataJson: Uint8Array;
  readonly builtins: Builtins;
  /** Linear memory of one instance, data included. */
  readonly memoryMaxBytes: number;
}

interface Compiled extends Pick<LoadedModule, 'module' | 'isPatchable'> {
  /** The least that the module can be given. */
  readonly memoryPages: number;
}

const compile = async (bytes: Uint8Array): Promise<Compiled> => {
  try {
    // Before it is rewritten: the counter, which is added, must not be something that the module already names.
    if (!wasmApi.validate(bytes)) return refuse('policy.wasm is no WebAssembly module');
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
    initial * PAGE_BYTES,
  );
  return [...tableOf(instance, 'builtins').keys()].sort();
};

const checkBuiltins = (wasm: Uint8Array, needed: ReadonlyMap<string, number>, supplied: Builtins): void => {
  const missing = [...needed.keys()].filter((name) => !Object.hasOwn(supplied, name)).sort();
  if (missing.length === 0) return;
  const callers = builtinCallers(wasm);
  throw new EngineRefusal(`policy.wasm needs built-ins that are not supplied: ${missing.join(', ')}`, {
    missing: missing.map((builtin) => ({ builtin, rules: callers.get(needed.get(builtin) ?? -1) ?? [] })),
  });
};

/**
 * Meters and compiles a policy module (off this thread), makes one instance and reads the data into it, on this one.
 * Throws `EngineRefusal`. `first` is that instance; `calls` are its.
 */
export const loadModule = async ({
  wasm,
  dataJson,
  builtins: supplied,
  memoryMaxBytes,
}: ModuleOptions): Promise<{
  readonly loaded: LoadedModule;
  readonly first: PolicyInstance;
  readonly calls: BuiltinCalls;
}> => {
  const maxPages = pagesWithin({ memoryMaxBytes });
  const { module, memoryPages, isPatchable } = await compile(wasm);
  /** The module's built-ins by their numbers in it; known once there is an instance. */
  const names = new Map<number, string>();
  const calls = createBuiltinCalls(names, supplied);
  try {
    const initial = Math.min(memoryPages + ROOM_BYTES / PAGE_BYTES, maxPages);
    const memory: WasmMemory = new wasmApi.Memory({ initial, maximum: maxPages });
    const first = new PolicyInstance(module, memory, calls, maxPages * PAGE_BYTES);
    const [major, minor] = first.abi;
    if (major !== 1 || minor < 2) return refuse(`policy.wasm speaks ABI ${major}.${minor}; 1.2 or later is needed`);
    const builtins = tableOf(first, 'builtins');
    const entrypoints = tableOf(first, 'entrypoints');
    checkBuiltins(wasm, builtins, supplied);
    for (const [name, id] of builtins) names.set(id, name);
    const image = first.readData(dataJson);
    return { loaded: { module, image, isPatchable, builtins, entrypoints }, first, calls };
  } catch (cause) {
    if (cause instanceof EngineRefusal) throw cause;
    return refuse(`policy.wasm cannot be set up in ${maxPages * PAGE_BYTES} bytes: ${messageOf(cause)}`, cause);
  }
};
