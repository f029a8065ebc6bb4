import { digestText, setDigest } from '../../shared/contracts/bundle-digest.ts';
import type { BundleIdentity } from '../../shared/contracts/decision.ts';
import { AppError } from '../../shared/contracts/errors.ts';
import type { PolicyOutput } from '../../shared/contracts/policy-io.ts';
import { combineOutputs, type NamedOutput } from '../core/combine-outputs.ts';
import type { Evaluate } from '../core/evaluate.ts';
import type { Freshness } from '../core/freshness.ts';
import { unionReads, type InputReads } from '../core/input-reads.ts';
import { BUNDLE_LIMITS } from '../../shared/bundles/bundle-archive.ts';
import { packArchive } from '../../shared/bundles/pack-archive.ts';
import type { DataPath } from '../core/json-pointer.ts';
import { applyDelta } from './bundle-delta.ts';
import { readBundle, type Bundle } from './bundle-reader.ts';
import { checkSetRoots, rootPath } from './roots.ts';
import type { VerifiedSignature } from './bundle-signature.ts';
import type { SourceFile } from './bundle-source.ts';
import { runSelfCheck } from './self-check.ts';
import {
  createWasmEvaluator,
  WASM_ENGINE,
  type EvaluatorLimits,
  type ForkedEvaluator,
  type WasmEvaluator,
} from './wasm-evaluator.ts';

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
  /** What the bundles own of `data`: nothing is pushed there. */
  readonly roots: readonly DataPath[];
  /** The same set with data of its own beside that of the bundles. */
  readonly fork: () => ForkedEvaluator;
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

interface NamedEvaluate {
  readonly bundle: string;
  readonly evaluate: Evaluate;
}

interface NamedEvaluator extends NamedEvaluate {
  readonly fork: () => ForkedEvaluator;
}

const isWithinOutputBounds = (output: PolicyOutput): boolean =>
  output.reasons.length <= 256 && output.obligations.length <= 64 && output.advice.length <= 64;

/** Asks every bundle; the first that faults makes the whole set fault. */
const evaluateAll =
  (evaluators: readonly NamedEvaluate[]): Evaluate =>
  (inputJson, nowMs) => {
    const outputs: NamedOutput[] = [];
    let fuelUsed = 0;
    let fuelLimit = 0;
    let drawn: Record<string, Readonly<Record<string, string>>> | undefined;
    for (const { bundle, evaluate } of evaluators) {
      const result = evaluate(inputJson, nowMs);
      fuelUsed += result.fuelUsed;
      fuelLimit += result.fuelLimit;
      if (result.outcome === 'fault')
        return { ...result, message: `bundle ${bundle}: ${result.message}`, fuelUsed, fuelLimit };
      outputs.push({ bundle, output: result.value });
      // Each bundle draws for itself, so what two drew stands apart.
      for (const [name, values] of Object.entries(result.drawn ?? {})) (drawn ??= {})[`${bundle}/${name}`] = values;
    }
    const value = combineOutputs(outputs);
    if (isWithinOutputBounds(value)) return { outcome: 'answer', value, fuelUsed, fuelLimit, drawn };
    const message = 'the bundles together give too many reasons or duties';
    return { outcome: 'fault', code: 'policy_output_invalid', message, fuelUsed, fuelLimit };
  };

const together = (evaluators: readonly NamedEvaluate[], only: NamedEvaluate): Evaluate =>
  evaluators.length === 1 ? only.evaluate : evaluateAll(evaluators);

/** Pushed data is seen by every bundle of the set. */
const forkAll =
  (evaluators: readonly NamedEvaluator[], only: NamedEvaluator): (() => ForkedEvaluator) =>
  () => {
    const [first = only.fork(), ...others] = evaluators.map(({ fork }) => fork());
    const forks = [first, ...others];
    const named = forks.map(({ evaluate }, i) => ({ bundle: evaluators[i]?.bundle ?? '', evaluate }));
    return {
      evaluate: together(named, { bundle: only.bundle, evaluate: first.evaluate }),
      patchData: (patches, whole) => {
        for (const each of forks) each.patchData(patches, whole);
      },
    };
  };

const readsOf = (evaluators: readonly WasmEvaluator[]): InputReads | undefined =>
  evaluators
    .map(({ reads }) => reads)
    .reduce((all, reads) => (all === undefined || reads === undefined ? undefined : unionReads(all, reads)));

const inFile = (file: SourceFile, cause: unknown): unknown =>
  cause instanceof AppError
    ? new AppError(cause.code, `${file.path}: ${cause.message}`, { cause, details: cause.details })
    : cause;

const loadOne = async (
  file: SourceFile,
  limits: EvaluatorLimits,
): Promise<{ readonly bundle: Bundle; readonly evaluator: WasmEvaluator }> => {
  try {
    const requirement = await file.signing?.requirement();
    let bundle = await readBundle(file.bytes, BUNDLE_LIMITS, requirement);
    for (const delta of file.deltas ?? []) bundle = await applyDelta(bundle, delta, BUNDLE_LIMITS, requirement);
    const { wasm, dataJson, files } = bundle;
    const evaluator = await createWasmEvaluator({ wasm, dataJson, files, ...limits });
    await runSelfCheck(bundle, evaluator);
    return { bundle, evaluator };
  } catch (cause) {
    throw inFile(file, cause);
  }
};

/** Reads, compiles, instantiates and probes every archive of a set. Throws `bundle_invalid`, naming the file. */
export const loadPolicySet = async (files: readonly SourceFile[], limits: EvaluatorLimits = {}): Promise<LoadedSet> => {
  const archives: LoadedArchive[] = [];
  const digests: Uint8Array[] = [];
  const evaluators: NamedEvaluator[] = [];
  const loadedEvaluators: WasmEvaluator[] = [];
  const bundles: Bundle[] = [];
  let entrypoint = '';
  for (const file of files) {
    const loaded = await loadOne(file, limits);
    const { name, digest, serial, digestBytes, signature, expiresMs } = loaded.bundle;
    const twin = archives.find((archive) => archive.name === name);
    if (twin !== undefined) {
      throw new AppError('bundle_invalid', `${file.path} and ${twin.path} are both named ${name}`);
    }
    const { source, path, bytes, deltas = [], etag } = file;
    const whole = deltas.length === 0 ? bytes : await packArchive(loaded.bundle.files);
    archives.push({ name, digest, serial, source, path, bytes, deltas, whole, signature, etag, expiresMs });
    bundles.push(loaded.bundle);
    digests.push(digestBytes);
    loadedEvaluators.push(loaded.evaluator);
    evaluators.push({ bundle: name, evaluate: loaded.evaluator.evaluate, fork: loaded.evaluator.fork });
    entrypoint = loaded.evaluator.entrypoint;
  }
  const [only] = evaluators;
  if (only === undefined) throw new AppError('bundle_invalid', 'the set has no bundle');
  checkSetRoots(bundles);
  const setDigestBytes = setDigest(digests);
  const snapshot = {
    evaluate: together(evaluators, only),
    engine: WASM_ENGINE,
    entrypoint,
    bundles: archives.map(({ name, digest, serial }) => Object.freeze({ name, digest, serial })),
    setDigest: digestText(setDigestBytes),
    setDigestBytes,
    reads: readsOf(loadedEvaluators),
    roots: bundles.flatMap(({ roots }) => roots.map(rootPath)),
    fork: forkAll(evaluators, only),
  };
  Object.freeze(snapshot.bundles);
  return { snapshot, archives };
};
