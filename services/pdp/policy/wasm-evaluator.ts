import * as opaWasm from '@open-policy-agent/opa-wasm';
import { Compile } from 'typebox/compile';
import { AppError, errorMessage } from '../../shared/contracts/errors.ts';
import { isObject } from '../../shared/contracts/json.ts';
import { PolicyOutput } from '../../shared/contracts/policy-io.ts';
import type { Evaluate, EvaluationResult, PolicyFaultCode } from '../core/evaluate.ts';
import { ENTRYPOINT } from './bundle-reader.ts';
import { SUPPLIED_BUILTINS } from './supplied-builtins.ts';

/** Stands in events, so that a decision can be evaluated again by the same engine. */
export const WASM_ENGINE = 'opa-wasm/1.10.0';

const PAGE_BYTES = 64 * 1024;
/**
 * What an instance starts with: this, or the next power of four that the module's own data fits into. Little, because
 * the engine collects garbage by what is reserved, and a caller who can make evaluations fail makes instances.
 */
const INITIAL_PAGES = 16;
const DEFAULT_MEMORY_MAX_BYTES = 256 * 1024 * 1024;
/** An instance never gives memory back, so one large input must not cost it for ever. */
const RECYCLE_GROWTH_BYTES = 32 * 1024 * 1024;
const EXTRAS_BYTES = 64 * 1024;
const MESSAGE_CHARS = 500;

export interface WasmEvaluatorOptions {
  readonly wasm: Uint8Array;
  /** UTF-8 JSON text of the `data` document. */
  readonly dataJson: Uint8Array;
  /** Linear memory of one instance, data included. */
  readonly memoryMaxBytes?: number;
}

export interface WasmEvaluator {
  readonly evaluate: Evaluate;
  readonly engine: string;
  readonly entrypoint: string;
  /** Built-ins that the module asks the host for. */
  readonly hostBuiltins: readonly string[];
  readonly entrypoints: readonly string[];
  /** How many instances were made, the first included. */
  readonly instances: () => number;
}

/** A compiled module; the compiler's library has no types for WebAssembly without those of a browser. */
interface WasmModule {
  readonly [Symbol.toStringTag]: string;
}
const { WebAssembly: wasm } = globalThis as unknown as {
  readonly WebAssembly: {
    compile(bytes: Uint8Array): Promise<WasmModule>;
    readonly Module: { exports(module: WasmModule): readonly { readonly name: string }[] };
  };
};

/** The SDK's own handle; its types leave members untyped. */
interface LoadedPolicy {
  readonly mem: { readonly buffer: ArrayBuffer };
  readonly minorVersion: unknown;
  readonly wasmInstance: { readonly exports: Readonly<Record<string, unknown>> };
  readonly entrypoints: Readonly<Record<string, number>>;
  evaluate(input: ArrayBuffer, entrypoint: string): unknown;
  setData(data: ArrayBuffer): void;
}
type LoadPolicySync = (module: WasmModule, memory: { initial: number; maximum: number }) => LoadedPolicy;
// The ES entry gives `loadPolicySync` on its default export only, and its types leave the default out.
const { loadPolicySync } = (opaWasm as unknown as { readonly default: { readonly loadPolicySync: LoadPolicySync } })
  .default;

const outputCheck = Compile(PolicyOutput);
const encoder = new TextEncoder();

const refuse = (message: string, cause?: unknown): AppError => new AppError('bundle_invalid', message, { cause });

/** The SDK takes an `ArrayBuffer` as JSON text and stringifies everything else, typed arrays too. */
const toArrayBuffer = (json: Uint8Array | string): ArrayBuffer => {
  const bytes = typeof json === 'string' ? encoder.encode(json) : json;
  const { buffer, byteLength } = bytes;
  if (buffer instanceof ArrayBuffer && buffer.byteLength === byteLength) return buffer;
  const exact = new ArrayBuffer(byteLength);
  new Uint8Array(exact).set(bytes);
  return exact;
};

/** What the module asks for: its `builtins` export is the address of a value that its own dumper turns into JSON. */
const askedBuiltins = (policy: LoadedPolicy): readonly string[] => {
  const { builtins, opa_json_dump: dump } = policy.wasmInstance.exports;
  if (typeof builtins !== 'function' || typeof dump !== 'function') throw refuse('policy.wasm is no OPA policy module');
  const start = dump(builtins()) as number;
  const memory = Buffer.from(policy.mem.buffer);
  const names: unknown = JSON.parse(memory.toString('utf8', start, memory.indexOf(0, start)));
  return isObject(names) ? Object.keys(names).sort() : [];
};

const NEEDED_EXPORTS = ['opa_wasm_abi_version', 'opa_wasm_abi_minor_version', 'opa_eval', 'builtins', 'entrypoints'];

/** Compiles off the main thread. Throws `bundle_invalid` when the bytes are no policy module made by OPA. */
const compileModule = async (bytes: Uint8Array): Promise<WasmModule> => {
  let module: WasmModule;
  try {
    module = await wasm.compile(bytes);
  } catch (cause) {
    throw refuse(`policy.wasm is no WebAssembly module: ${errorMessage(cause)}`, cause);
  }
  const exported = new Set(wasm.Module.exports(module).map(({ name }) => name));
  if (!NEEDED_EXPORTS.every((name) => exported.has(name))) throw refuse('policy.wasm is no OPA policy module');
  return module;
};

/** Makes an instance with as few pages as the module's own data fits into; throws what the last try threw. */
const instantiateInLeast = (module: WasmModule, maximum: number): { policy: LoadedPolicy; initial: number } => {
  for (let initial = Math.min(INITIAL_PAGES, maximum); ; initial = Math.min(initial * 4, maximum)) {
    try {
      return { policy: loadPolicySync(module, { initial, maximum }), initial };
    } catch (cause) {
      // A module that declares more pages does not link; more are tried until there are none.
      if (initial >= maximum) throw cause;
    }
  }
};

/** The built-ins that a module asks its host for, sorted. Throws when the bytes are no OPA policy module. */
export const wasmHostBuiltins = async (bytes: Uint8Array): Promise<readonly string[]> => {
  const module = await compileModule(bytes);
  return askedBuiltins(instantiateInLeast(module, DEFAULT_MEMORY_MAX_BYTES / PAGE_BYTES).policy);
};

const faultCode = (message: string): PolicyFaultCode =>
  /opa_malloc|memory size exceeded|Memory\.grow/i.test(message) ? 'policy_memory' : 'policy_error';

const fault = (code: PolicyFaultCode, message: string): EvaluationResult => ({
  outcome: 'fault',
  code,
  message: message.slice(0, MESSAGE_CHARS),
});

const isBounded = (output: PolicyOutput): boolean =>
  (output.obligations.length === 0 && output.advice.length === 0) ||
  JSON.stringify([output.obligations, output.advice]).length <= EXTRAS_BYTES;

const readOutput = (results: unknown, timeNs: number): EvaluationResult => {
  if (!Array.isArray(results) || results.length !== 1) {
    const count = Array.isArray(results) ? results.length : 'no list of';
    return fault('policy_undefined', `${ENTRYPOINT} gave ${count} results, expected exactly one`);
  }
  const [first] = results as readonly unknown[];
  const value = isObject(first) ? first['result'] : undefined;
  if (!outputCheck.Check(value)) {
    const [problem] = outputCheck.Errors(value);
    const where = problem === undefined ? '' : `: ${problem.instancePath || '/'} ${problem.message}`;
    return fault('policy_output_invalid', `${ENTRYPOINT} gave a value outside the output schema${where}`);
  }
  if (!isBounded(value)) return fault('policy_output_invalid', 'obligations and advice are larger than 64 KiB');
  return { outcome: 'answer', value, timeNs };
};

/** An input that a policy must be able to answer, whatever the answer is. */
const PROBE = JSON.stringify({
  version: 1,
  tenant: 'edict',
  caller: { id: 'self-check', properties: {} },
  subject: { type: 'service', id: 'self-check', properties: {}, verified: false },
  action: { name: 'self-check', properties: {} },
  resource: { type: 'self-check', id: 'self-check', properties: {} },
  context: {},
  session: { labels: [], step: 1 },
  time: { rfc3339: '2026-01-01T00:00:00.000Z', ns: 1_767_225_600_000_000_000 },
});

/**
 * Compiles a policy module off the main thread, makes one instance and evaluates a probe. Throws `bundle_invalid` when
 * the bytes are no policy module, ask for built-ins that are not supplied, lack the entrypoint, need more memory, or
 * fail the probe.
 *
 * An instance is thrown away after any error: an abort leaves its stack pointer where it was, and some hundred aborts
 * later nothing evaluates any more. There is no limit of time: an evaluation runs to its end.
 */
export const createWasmEvaluator = async (options: WasmEvaluatorOptions): Promise<WasmEvaluator> => {
  const maximum = Math.floor((options.memoryMaxBytes ?? DEFAULT_MEMORY_MAX_BYTES) / PAGE_BYTES);
  const data = toArrayBuffer(options.dataJson);
  const module = await compileModule(options.wasm);
  let instances = 0;
  let initial = maximum;
  let hostBuiltins: readonly string[] = [];

  const withData = (policy: LoadedPolicy): LoadedPolicy => {
    policy.setData(data);
    instances += 1;
    return policy;
  };
  const checkModule = (policy: LoadedPolicy): void => {
    hostBuiltins = askedBuiltins(policy);
    const missing = hostBuiltins.filter((name) => !SUPPLIED_BUILTINS.has(name));
    if (missing.length > 0) throw refuse(`policy.wasm needs built-ins that are not supplied: ${missing.join(', ')}`);
    if (!Object.hasOwn(policy.entrypoints, ENTRYPOINT)) throw refuse(`policy.wasm has no entrypoint ${ENTRYPOINT}`);
    if (typeof policy.minorVersion !== 'number' || policy.minorVersion < 2) {
      throw refuse('policy.wasm was built by an OPA too old for this host (ABI 1.2 is needed)');
    }
  };
  const makeFirst = (): LoadedPolicy => {
    try {
      const made = instantiateInLeast(module, maximum);
      initial = made.initial;
      checkModule(made.policy);
      return withData(made.policy);
    } catch (cause) {
      if (cause instanceof AppError) throw cause;
      throw refuse(`policy.wasm cannot be set up in ${maximum * PAGE_BYTES} bytes: ${errorMessage(cause)}`, cause);
    }
  };
  const first = makeFirst();
  const baseBytes = first.mem.buffer.byteLength;

  let current: LoadedPolicy | undefined = first;
  const evaluate: Evaluate = (inputJson) => {
    const startedNs = process.hrtime.bigint();
    try {
      current ??= withData(loadPolicySync(module, { initial, maximum }));
      const results = current.evaluate(toArrayBuffer(inputJson), ENTRYPOINT);
      if (current.mem.buffer.byteLength > baseBytes + RECYCLE_GROWTH_BYTES) current = undefined;
      return readOutput(results, Number(process.hrtime.bigint() - startedNs));
    } catch (cause) {
      current = undefined;
      const message = errorMessage(cause);
      return fault(faultCode(message), message);
    }
  };

  const probe = evaluate(PROBE);
  if (probe.outcome === 'fault') throw refuse(`policy fails its self-check (${probe.code}): ${probe.message}`);
  return {
    evaluate,
    engine: WASM_ENGINE,
    entrypoint: ENTRYPOINT,
    hostBuiltins,
    entrypoints: Object.keys(first.entrypoints).sort(),
    instances: () => instances,
  };
};
