import { digestText, setDigest } from '../../shared/contracts/bundle-digest.ts';
import type { BundleIdentity } from '../../shared/contracts/decision.ts';
import { AppError } from '../../shared/contracts/errors.ts';
import type { PolicyOutput } from '../../shared/contracts/policy-io.ts';
import { combineOutputs, type NamedOutput } from '../core/combine-outputs.ts';
import type { Drawn, Evaluate } from '../core/evaluate.ts';
import type { Freshness } from '../core/freshness.ts';
import type { OptionalLimits } from '../../shared/settings/policy-limits.ts';
import { readPointers, unionReads, type InputReads } from '../core/input-reads.ts';
import type { DataPath } from '../core/json-pointer.ts';
import type { VerifiedSignature } from './bundle-signature.ts';
import type { SourceFile } from './bundle-source.ts';
import type { EngineLimits } from './engine/host.ts';
import { NoMemoryLeft } from './engine/memory-pool.ts';
import { NONDETERMINISTIC } from './engine/nondeterministic.ts';
import { engineLimitsFor, type AskedLimits } from './limits.ts';
import { loadBundle, type LoadBundle, type LoadedBundle } from './load-bundle.ts';
import { checkSetRoots, rootPath } from './roots.ts';
import {
  DEFAULT_LIMITS,
  evaluatorFrom,
  WASM_ENGINE,
  type EvaluatorLimits,
  type ForkedEvaluator,
  type WasmEvaluator,
} from './wasm-evaluator.ts';
import { createWorkQueue, type InTurns } from './work-queue.ts';

/** A set of bundles, ready to decide. A request (or a batch) takes one and uses nothing else. */
export interface PolicySnapshot {
  readonly evaluate: Evaluate;
  /** For events: which engine evaluates. */
  readonly engine: string;
  readonly entrypoint: string;
  readonly bundles: readonly BundleIdentity[];
  /** `sha256:` and 64 hex digits. */
  readonly setDigest: string;
  readonly setDigestBytes: Uint8Array;
  /** Whether it may still answer. */
  readonly freshness: Freshness;
  /** What of the input its answers depend on; undefined: on more than that, or nobody asked. */
  readonly reads: InputReads | undefined;
  /** The same as an operator sees it. */
  readonly memo: MemoFacts;
  /** What the bundles own of `data`: nothing is pushed there. */
  readonly roots: readonly DataPath[];
  /** What the bundles ask for that are content with less than their tenant has. */
  readonly asked: AskedLimits;
  /**
   * The same set with data of its own beside that of the bundles, within `limits` and what each bundle asks for (default:
   * those that it was loaded with). Costs nothing before it is worked on.
   */
  readonly fork: (limits?: EngineLimits) => ForkedEvaluator;
  /** What a fork has of memory at least. */
  readonly instanceBytes: number;
  /** What loading the bundles has left behind, which the first fork takes over. Sets of one bundle share it. */
  readonly unclaimed: Pick<ForkedEvaluator, 'bytes' | 'release'>;
}

export interface LoadedArchive {
  /** Which source it is of. */
  readonly source: string;
  readonly name: string;
  readonly digest: string;
  readonly serial: number;
  /** Where it was read from. */
  readonly path: string;
  /** The archive as it lay there. */
  readonly bytes: Uint8Array;
  /** What was applied to it, oldest first: the digest is that of the bundle that came out. */
  readonly deltas: readonly Uint8Array[];
  /** What decides, as one archive: `bytes`, or, where there are deltas, what they made of it. */
  readonly whole: Uint8Array;
  /** By whom it is signed; undefined where the source asks for no signature. */
  readonly signature: VerifiedSignature | undefined;
  /** What its server calls this version. */
  readonly etag: string | undefined;
  /** When it expires, milliseconds since 1970; undefined: never. */
  readonly expiresMs: number | undefined;
}

export interface LoadedSet {
  readonly snapshot: Omit<PolicySnapshot, 'freshness'>;
  readonly archives: readonly LoadedArchive[];
}

/** What answers can be remembered by, as JSON Pointers into the input (the empty one: all of it); or why they are not. */
export type MemoFacts = { readonly reads: readonly string[]; readonly more?: number } | { readonly never: string };

interface NamedEvaluate {
  readonly bundle: string;
  readonly evaluate: Evaluate;
}

interface NamedEvaluator extends NamedEvaluate {
  readonly evaluator: WasmEvaluator;
  readonly asked: OptionalLimits | undefined;
}

/** What was compiled and checked, by digest and limits, for as long as a set uses it: sets of several tenants share it. */
export type LoadedBundles = Map<string, WeakRef<WasmEvaluator>>;

/** How sets are loaded. */
export interface PolicyLoading {
  /** Of one evaluator. */
  readonly limits: EvaluatorLimits;
  /** What other sets have loaded. */
  readonly loaded: LoadedBundles;
  readonly load: LoadBundle;
  /** Where a first instance is made. */
  readonly inTurns: InTurns;
}

const isWithinOutputBounds = (output: PolicyOutput): boolean =>
  output.reasons.length <= 256 && output.obligations.length <= 64 && output.advice.length <= 64;

/** Each bundle draws for itself, so what two drew stands apart. */
const drawnBy = (drawn: Drawn, bundle: string): Drawn =>
  Object.fromEntries(
    Object.entries(drawn).flatMap(([name, calls]) =>
      name.startsWith(`${bundle}/`) ? [[name.slice(bundle.length + 1), calls] as const] : [],
    ),
  );

/** Asks every bundle; the first that faults makes the whole set fault. */
const evaluateAll =
  (evaluators: readonly NamedEvaluate[]): Evaluate =>
  (inputJson, nowMs, given) => {
    const outputs: NamedOutput[] = [];
    let fuelUsed = 0;
    let fuelLimit = 0;
    let drawn: Record<string, Readonly<Record<string, string>>> | undefined;
    for (const { bundle, evaluate } of evaluators) {
      const result = evaluate(inputJson, nowMs, given === undefined ? undefined : drawnBy(given, bundle));
      fuelUsed += result.fuelUsed;
      fuelLimit += result.fuelLimit;
      if (result.outcome === 'fault')
        return { ...result, message: `bundle ${bundle}: ${result.message}`, fuelUsed, fuelLimit };
      outputs.push({ bundle, output: result.value });
      for (const [name, values] of Object.entries(result.drawn ?? {})) (drawn ??= {})[`${bundle}/${name}`] = values;
    }
    const value = combineOutputs(outputs);
    if (isWithinOutputBounds(value)) return { outcome: 'answer', value, fuelUsed, fuelLimit, drawn };
    const message = 'the bundles together give too many reasons or duties';
    return { outcome: 'fault', code: 'policy_output_invalid', message, fuelUsed, fuelLimit };
  };

const together = (evaluators: readonly NamedEvaluate[], only: NamedEvaluate): Evaluate =>
  evaluators.length === 1 ? only.evaluate : evaluateAll(evaluators);

const bytesOf = (each: readonly Pick<ForkedEvaluator, 'bytes'>[]): number =>
  each.reduce((sum, { bytes }) => sum + bytes(), 0);

/** Pushed data is seen by every bundle of the set. */
const forkAll =
  (evaluators: readonly NamedEvaluator[], only: NamedEvaluator): PolicySnapshot['fork'] =>
  (limits) => {
    const forkOne = ({ evaluator, asked }: NamedEvaluator): ForkedEvaluator =>
      evaluator.fork(limits === undefined ? undefined : engineLimitsFor(limits, asked));
    if (evaluators.length === 1) return forkOne(only);
    const forks = evaluators.map((each) => ({ bundle: each.bundle, ...forkOne(each) }));
    return {
      evaluate: evaluateAll(forks),
      changeData: (patches, whole) => {
        for (const { changeData } of forks) changeData(patches, whole);
      },
      isReady: () => forks.every(({ isReady }) => isReady()),
      work: (mayGoOn) => forks.every(({ work }) => work(mayGoOn)),
      bytes: () => bytesOf(forks),
      release: () => {
        for (const { release } of forks) release();
      },
    };
  };

const readsOf = (evaluators: readonly WasmEvaluator[]): InputReads | undefined =>
  evaluators
    .map(({ reads }) => reads)
    .reduce((all, reads) => (all === undefined || reads === undefined ? undefined : unionReads(all, reads)));

/** More are counted only. */
const MAX_POINTERS = 64;

const memoOf = (evaluators: readonly NamedEvaluator[], reads: InputReads | undefined): MemoFacts => {
  for (const { bundle, evaluator } of evaluators) {
    const drawing = evaluator.hostBuiltins.filter((name) => NONDETERMINISTIC.has(name));
    if (drawing.length > 0) return { never: `bundle ${bundle} asks for ${drawing.join(', ')}` };
  }
  if (reads === undefined) return { never: 'pdp.memo.enabled is false' };
  const pointers = readPointers(reads);
  const more = pointers.length - MAX_POINTERS;
  return more > 0 ? { reads: pointers.slice(0, MAX_POINTERS), more } : { reads: pointers };
};

const unclaimedOf = (evaluators: readonly NamedEvaluator[], only: NamedEvaluator): PolicySnapshot['unclaimed'] =>
  evaluators.length === 1
    ? only.evaluator
    : {
        bytes: () => bytesOf(evaluators.map(({ evaluator }) => evaluator)),
        release: () => {
          for (const { evaluator } of evaluators) evaluator.release();
        },
      };

const inFile = (file: SourceFile, cause: unknown): unknown =>
  cause instanceof AppError
    ? new AppError(cause.code, `${file.path}: ${cause.message}`, { cause, details: cause.details })
    : cause;

interface Loaded {
  readonly bundle: LoadedBundle;
  readonly evaluator: WasmEvaluator;
}

/** The instance that the first engine takes over, so that no request waits for it. */
const makeFirst = async ({ work }: WasmEvaluator, inTurns: InTurns): Promise<void> => {
  try {
    await inTurns(work);
  } catch (cause) {
    // Engines that are in use have it, and give it up when one of this set is asked for.
    if (!(cause instanceof NoMemoryLeft)) throw cause;
  }
};

const loadOne = async (
  file: SourceFile,
  { limits, loaded, load, inTurns }: PolicyLoading,
  signal: AbortSignal,
): Promise<Loaded> => {
  const known = new Map<string, WasmEvaluator>();
  for (const [key, weak] of loaded) {
    const evaluator = weak.deref();
    if (evaluator === undefined) loaded.delete(key);
    else known.set(key, evaluator);
  }
  const { fuel, memoryMaxBytes, resultMaxBytes } = { ...DEFAULT_LIMITS, ...limits };
  try {
    const bundle = await load(
      {
        bytes: file.bytes,
        deltas: file.deltas ?? [],
        signing: await file.signing?.requirement(),
        limits: { fuel, memoryMaxBytes, resultMaxBytes },
        withReads: limits.withReads === true,
        known: new Set(known.keys()),
      },
      signal,
    );
    const { key, policy } = bundle;
    const found = known.get(key);
    if (found !== undefined) return { bundle, evaluator: found };
    if (policy === undefined) throw new AppError('internal', `the bundle ${bundle.digest} was not loaded`);
    const evaluator = evaluatorFrom(policy, bundle.limits, limits.pool);
    await makeFirst(evaluator, inTurns);
    loaded.set(key, new WeakRef(evaluator));
    return { bundle, evaluator };
  } catch (cause) {
    throw inFile(file, cause);
  }
};

/**
 * Loads every archive of a set, one after the other. Throws `bundle_invalid`, naming the file. On this thread nothing
 * takes long, provided that `load` works on another.
 */
export const loadPolicySet = async (
  files: readonly SourceFile[],
  loading: Partial<PolicyLoading> = {},
  signal: AbortSignal = new AbortController().signal,
): Promise<LoadedSet> => {
  const { limits = {}, loaded: known = new Map<string, WeakRef<WasmEvaluator>>(), load = loadBundle } = loading;
  const { inTurns = createWorkQueue(() => performance.now()) } = loading;
  const archives: LoadedArchive[] = [];
  const digests: Uint8Array[] = [];
  const evaluators: NamedEvaluator[] = [];
  const bundles: LoadedBundle[] = [];
  let entrypoint = '';
  for (const file of files) {
    const { bundle, evaluator } = await loadOne(file, { limits, loaded: known, load, inTurns }, signal);
    const { name, digest, serial, digestBytes, signature, expiresMs, whole = file.bytes } = bundle;
    const twin = archives.find((archive) => archive.name === name);
    if (twin !== undefined) {
      throw new AppError('bundle_invalid', `${file.path} and ${twin.path} are both named ${name}`);
    }
    const { source, path, bytes, deltas = [], etag } = file;
    archives.push({ name, digest, serial, source, path, bytes, deltas, whole, signature, etag, expiresMs });
    bundles.push(bundle);
    digests.push(digestBytes);
    evaluators.push({ bundle: name, evaluate: evaluator.evaluate, evaluator, asked: bundle.asked });
    entrypoint = evaluator.entrypoint;
  }
  const [only] = evaluators;
  if (only === undefined) throw new AppError('bundle_invalid', 'the set has no bundle');
  checkSetRoots(bundles);
  const setDigestBytes = setDigest(digests);
  const reads = readsOf(evaluators.map(({ evaluator }) => evaluator));
  const snapshot = {
    evaluate: together(evaluators, only),
    engine: WASM_ENGINE,
    entrypoint,
    bundles: archives.map(({ name, digest, serial }) => Object.freeze({ name, digest, serial })),
    setDigest: digestText(setDigestBytes),
    setDigestBytes,
    reads,
    memo: memoOf(evaluators, reads),
    roots: bundles.flatMap(({ roots }) => roots.map(rootPath)),
    asked: Object.fromEntries(
      evaluators.flatMap(({ bundle, asked }) => (asked === undefined ? [] : [[bundle, asked] as const])),
    ),
    fork: forkAll(evaluators, only),
    instanceBytes: evaluators.reduce((sum, { evaluator }) => sum + evaluator.instanceBytes, 0),
    unclaimed: unclaimedOf(evaluators, only),
  };
  Object.freeze(snapshot.bundles);
  return { snapshot, archives };
};
