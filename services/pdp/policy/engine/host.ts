import type { Builtins } from './builtin.ts';
import { createBuiltinCalls, type Drawn } from './builtin-calls.ts';
import { builtinCallers } from './call-sites.ts';
import { faultOf, type EngineFault } from './fault.ts';
import { NEEDED_EXPORTS, PolicyInstance, type Image } from './instance.ts';
import { FUEL_EXPORT, meterModule, MeterError } from './meter.ts';
import { wasmApi, type WasmMemory, type WasmModule } from './wasm.ts';

export const PAGE_BYTES = 64 * 1024;
/** What an instance begins with beyond the module's own data, so that common inputs make it grow no more. */
const ROOM_PAGES = 128;
/** An instance never gives memory back, so one large input must not cost it for ever. */
const RECYCLE_GROWTH_BYTES = 32 * 1024 * 1024;

export interface EngineOptions {
  readonly wasm: Uint8Array;
  /** UTF-8 JSON text of the `data` document. */
  readonly dataJson: Uint8Array;
  readonly builtins: Builtins;
  /** Linear memory of one instance, data included. */
  readonly memoryMaxBytes: number;
  /** What one evaluation may cost, passes of loops, beyond the reading of its input. */
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
}

const compile = async (bytes: Uint8Array): Promise<Compiled> => {
  try {
    const { wasm, memoryPages } = meterModule(bytes);
    const module = await wasmApi.compile(wasm);
    const exported = new Set(wasmApi.Module.exports(module).map(({ name }) => name));
    if (![...NEEDED_EXPORTS, FUEL_EXPORT].every((name) => exported.has(name)))
      return refuse('policy.wasm is no OPA policy module');
    return { module, memoryPages };
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

/**
 * Meters and compiles a policy module (off this thread), makes one instance and reads the data into it. Throws
 * `EngineRefusal`.
 *
 * An instance is given up after anything was thrown out of it: an abort leaves its stack pointer where it was. The next
 * one begins with a copy of what the first had after it read the data.
 */
export const createEngine = async (options: EngineOptions): Promise<Engine> => {
  const { fuel, memoryMaxBytes } = options;
  const maximum = Math.floor(memoryMaxBytes / PAGE_BYTES);
  const { module, memoryPages } = await compile(options.wasm);
  const initial = Math.min(memoryPages + ROOM_PAGES, maximum);
  let instances = 0;
  /** The module's built-ins by their numbers in it; known once there is an instance. */
  const names = new Map<number, string>();
  const calls = createBuiltinCalls(names, options.builtins);
  const make = (memory: WasmMemory): PolicyInstance => {
    instances += 1;
    return new PolicyInstance(module, memory, calls);
  };

  const begin = () => {
    const first = make(new wasmApi.Memory({ initial, maximum }));
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
      return refuse(`policy.wasm cannot be set up in ${maximum * PAGE_BYTES} bytes: ${messageOf(cause)}`, cause);
    }
  })();
  const { first, builtins, entrypoints, image } = begun;
  for (const [name, id] of builtins) names.set(id, name);

  let current: PolicyInstance | undefined = first;
  let spare: WasmMemory | undefined;
  const replacement = (): PolicyInstance => {
    const pages = image.memoryBytes / PAGE_BYTES;
    const instance = make(spare ?? new wasmApi.Memory({ initial: pages, maximum }));
    spare = undefined;
    instance.restore(image);
    return instance;
  };
  /** Its memory serves its successor, unless it grew: garbage collection counts what is reserved. */
  const giveUp = ({ memory }: PolicyInstance, { bytes, memoryBytes }: Image): void => {
    current = undefined;
    spare = memory.buffer.byteLength === memoryBytes && bytes.length <= memoryBytes ? memory : undefined;
  };

  return {
    evaluate({ entrypoint, input = '', nowMs, format }) {
      calls.begin(nowMs);
      let instance: PolicyInstance | undefined;
      try {
        current ??= replacement();
        instance = current;
        const text = instance.evaluate(entrypoint, input, fuel, format === 'rego' ? 1 : 0);
        const { fuelLimit } = instance;
        const fuelUsed = fuelLimit - instance.fuel;
        if (instance.memory.buffer.byteLength > image.memoryBytes + RECYCLE_GROWTH_BYTES) giveUp(instance, image);
        return { outcome: 'result', text, fuelUsed, fuelLimit, drawn: calls.drawn() };
      } catch (cause) {
        const fuelLimit = instance?.fuelLimit ?? fuel;
        const left = instance?.fuel ?? fuelLimit;
        if (instance !== undefined) giveUp(instance, image);
        const fuelUsed = fuelLimit - Math.max(0, left);
        return { outcome: 'fault', fuelUsed, fuelLimit, ...faultOf(cause, left < 0) };
      }
    },
    entrypoints,
    hostBuiltins: [...builtins.keys()].sort(),
    instances: () => instances,
  };
};
