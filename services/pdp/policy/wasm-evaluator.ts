import { Compile } from 'typebox/compile';
import type { BundleFile } from '../../shared/contracts/bundle-digest.ts';
import { AppError } from '../../shared/contracts/errors.ts';
import { isObject } from '../../shared/contracts/json.ts';
import { PolicyOutput } from '../../shared/contracts/policy-io.ts';
import type { Evaluate } from '../core/evaluate.ts';
import type { InputReads } from '../core/input-reads.ts';
import { ENTRYPOINT } from './bundle-reader.ts';
import { BUILTINS } from './engine/builtins.ts';
import { createEngine, DEFAULT_RESULT_MAX_BYTES, engineFrom, type Engine, type EngineLimits } from './engine/host.ts';
import { findInputReads } from './engine/input-reads.ts';
import { EngineRefusal, hostBuiltinsOf, type LoadedModule } from './engine/load-module.ts';
import { NONDETERMINISTIC } from './engine/nondeterministic.ts';
import type { MemoryPool } from './engine/memory-pool.ts';
import { describeMissing, locateBuiltins } from './missing-builtins.ts';

/** Stands in events, so that a decision can be evaluated again by the same engine. */
export const WASM_ENGINE = 'edict-wasm/3';

/** A decision of the mesh policies takes some 20,000; this ends a runaway in milliseconds. */
export const DEFAULT_FUEL = 1_000_000;
export const DEFAULT_LIMITS: EngineLimits = {
  memoryMaxBytes: 256 * 1024 * 1024,
  fuel: DEFAULT_FUEL,
  resultMaxBytes: DEFAULT_RESULT_MAX_BYTES,
};
const EXTRAS_BYTES = 64 * 1024;
/** UTF-16 units, and how many such texts: a bound on what is kept. */
const MAX_KNOWN_TEXT = 4_096;
const MAX_KNOWN_OUTPUTS = 512;

/** Default: `DEFAULT_LIMITS`. */
export interface EvaluatorLimits extends Partial<EngineLimits> {
  /** Whether to find out what of the input the policy reads, which its answers can be remembered by. */
  readonly withReads?: boolean;
  /** What instances of several modules share. */
  readonly pool?: MemoryPool;
}

export interface WasmEvaluatorOptions extends EvaluatorLimits {
  readonly wasm: Uint8Array;
  /** UTF-8 JSON text of the `data` document. */
  readonly dataJson: Uint8Array;
  /** The bundle's; a refusal names places in its sources. */
  readonly files?: readonly BundleFile[];
}

/** A policy that answered the probe. It can be sent to another thread of the process. */
export interface LoadedPolicy {
  readonly module: LoadedModule;
  /** What of the input its answers depend on; undefined: on chance or time as well, or nobody asked. */
  readonly reads: InputReads | undefined;
}

export interface WasmEvaluator {
  readonly evaluate: Evaluate;
  readonly engine: string;
  readonly entrypoint: string;
  /** Built-ins that the module asks the host for. */
  readonly hostBuiltins: readonly string[];
  readonly entrypoints: readonly string[];
  /** As in what it was made from. */
  readonly reads: InputReads | undefined;
  readonly loaded: LoadedPolicy;
  /** How many instances were made, that of the loading included. */
  readonly instances: () => number;
  /**
   * An evaluator of the same module with data of its own, that of the bundle at first, and limits of its own (default:
   * those of this one). Has no instance yet.
   */
  readonly fork: (limits?: EngineLimits) => ForkedEvaluator;
  /** As those of an engine. What was released comes back with the next evaluation. */
  readonly bytes: Engine['bytes'];
  readonly release: Engine['release'];
  readonly work: Engine['work'];
  readonly instanceBytes: number;
}

/** The members but `evaluate` are as those of an engine; they throw `bundle_invalid` in place of `EngineRefusal`. */
export interface ForkedEvaluator extends Pick<Engine, 'changeData' | 'isReady' | 'work' | 'bytes' | 'release'> {
  readonly evaluate: Evaluate;
}

const outputCheck = Compile(PolicyOutput);

const refuse = (message: string, cause?: unknown): AppError => new AppError('bundle_invalid', message, { cause });

/** The engine's refusals are those of the bundle. `details.missing`: built-ins that are not supplied, with places. */
const refusing = async <T>(work: Promise<T>, files: readonly BundleFile[] = []): Promise<T> => {
  try {
    return await work;
  } catch (cause) {
    if (!(cause instanceof EngineRefusal)) throw cause;
    if (cause.missing.length === 0) throw refuse(cause.message, cause);
    const missing = locateBuiltins(cause.missing, files);
    const more = cause.missing.length - missing.length;
    const named = `${missing.map(describeMissing).join(', ')}${more > 0 ? ` and ${more} more` : ''}`;
    const message = `policy.wasm needs built-ins that are not supplied: ${named}`;
    throw new AppError('bundle_invalid', message, { cause, details: { missing } });
  }
};

/** The built-ins that a module asks its host for, sorted. Throws when the bytes are no OPA policy module. */
export const wasmHostBuiltins = async (bytes: Uint8Array): Promise<readonly string[]> =>
  await refusing(hostBuiltinsOf(bytes));

const refusingNow = <T>(work: () => T): T => {
  try {
    return work();
  } catch (cause) {
    throw cause instanceof EngineRefusal ? refuse(cause.message, cause) : cause;
  }
};

const isBounded = (output: PolicyOutput, text: string): boolean =>
  text.length <= EXTRAS_BYTES || JSON.stringify([output.obligations, output.advice]).length <= EXTRAS_BYTES;

type Read =
  | { readonly value: PolicyOutput }
  | { readonly code: 'policy_undefined' | 'policy_output_invalid'; readonly message: string };

const readOutput = (text: string): Read => {
  const results: unknown = JSON.parse(text);
  if (!Array.isArray(results) || results.length !== 1) {
    const count = Array.isArray(results) ? results.length : 'no list of';
    return { code: 'policy_undefined', message: `${ENTRYPOINT} gave ${count} results, expected exactly one` };
  }
  const [first] = results as readonly unknown[];
  const value = isObject(first) ? first['result'] : undefined;
  if (!outputCheck.Check(value)) {
    const [problem] = outputCheck.Errors(value);
    const where = problem === undefined ? '' : `: ${problem.instancePath || '/'} ${problem.message}`;
    return { code: 'policy_output_invalid', message: `${ENTRYPOINT} gave a value outside the output schema${where}` };
  }
  if (!isBounded(value, text))
    return { code: 'policy_output_invalid', message: 'obligations and advice are larger than 64 KiB' };
  return { value };
};

/**
 * A policy says the same few things over and over, in the same text: what that text means is read and checked once.
 * Nobody changes an output.
 */
const createOutputReader = (): ((text: string) => Read) => {
  const known = new Map<string, Read>();
  return (text) => {
    const found = known.get(text);
    if (found !== undefined) return found;
    const read = readOutput(text);
    if (text.length > MAX_KNOWN_TEXT) return read;
    if (known.size >= MAX_KNOWN_OUTPUTS) known.clear();
    known.set(text, read);
    return read;
  };
};

const PROBE_MS = 1_767_225_600_000;
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

const evaluatorOf = (engine: Engine, reads: InputReads | undefined): WasmEvaluator => {
  const entrypoint = engine.entrypoints.get(ENTRYPOINT);
  if (entrypoint === undefined) throw refuse(`policy.wasm has no entrypoint ${ENTRYPOINT}`);
  const read = createOutputReader();
  const evaluateOn =
    (used: Engine): Evaluate =>
    (input, nowMs, given) => {
      const result = used.evaluate({ entrypoint, input, nowMs, given });
      if (result.outcome === 'fault') return result;
      const { fuelUsed, fuelLimit, drawn } = result;
      const output = read(result.text);
      return 'value' in output
        ? { outcome: 'answer', value: output.value, fuelUsed, fuelLimit, drawn }
        : { outcome: 'fault', code: output.code, message: output.message, fuelUsed, fuelLimit };
    };
  return {
    evaluate: evaluateOn(engine),
    engine: WASM_ENGINE,
    entrypoint: ENTRYPOINT,
    hostBuiltins: engine.hostBuiltins,
    entrypoints: [...engine.entrypoints.keys()].sort(),
    reads,
    loaded: { module: engine.loaded, reads },
    instances: engine.instances,
    bytes: engine.bytes,
    release: engine.release,
    work: engine.work,
    instanceBytes: engine.instanceBytes,
    fork: (limits) => {
      const forked = engine.fork(limits);
      return {
        evaluate: evaluateOn(forked),
        changeData: (patches, whole) => refusingNow(() => forked.changeData(patches, whole)),
        isReady: forked.isReady,
        work: (mayGoOn) => refusingNow(() => forked.work(mayGoOn)),
        bytes: forked.bytes,
        release: forked.release,
      };
    },
  };
};

/** The evaluator of a policy that was loaded within the same limits, maybe by another thread. Has no instance yet. */
export const evaluatorFrom = (
  { module, reads }: LoadedPolicy,
  limits: EngineLimits,
  pool?: MemoryPool,
): WasmEvaluator => evaluatorOf(engineFrom(module, { builtins: BUILTINS, pool, ...limits }), reads);

/**
 * Compiles a policy module, makes one instance and evaluates a probe: the longer the data, the longer this thread is
 * busy. Throws `bundle_invalid` when the bytes are no policy module, ask for built-ins that are not supplied, lack the
 * entrypoint, need more memory, or fail the probe.
 */
export const createWasmEvaluator = async (options: WasmEvaluatorOptions): Promise<WasmEvaluator> => {
  const { wasm, files } = options;
  const engine = await refusing(createEngine({ ...DEFAULT_LIMITS, ...options, builtins: BUILTINS }), files);
  const isRepeatable = !engine.hostBuiltins.some((name) => NONDETERMINISTIC.has(name));
  const reads = options.withReads === true && isRepeatable ? await findInputReads(wasm) : undefined;
  const evaluator = evaluatorOf(engine, reads);
  const probe = evaluator.evaluate(PROBE, PROBE_MS);
  if (probe.outcome === 'fault') throw refuse(`policy fails its self-check (${probe.code}): ${probe.message}`);
  return evaluator;
};
