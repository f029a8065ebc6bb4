import { BUNDLE_LIMITS } from '../../shared/bundles/bundle-archive.ts';
import { packArchive } from '../../shared/bundles/pack-archive.ts';
import { applyDelta } from './bundle-delta.ts';
import { readBundle, type Bundle } from './bundle-reader.ts';
import type { SigningRequirement } from './bundle-signature.ts';
import { runSelfCheck } from './self-check.ts';
import { createWasmEvaluator, type EvaluatorLimits, type LoadedPolicy } from './wasm-evaluator.ts';

/** All that loading depends on, and nothing that a message cannot carry. */
export interface LoadRequest {
  /** The archive. */
  readonly bytes: Uint8Array;
  /** What is applied to it, oldest first. */
  readonly deltas: readonly Uint8Array[];
  /** Undefined: no signature is asked for. */
  readonly signing: SigningRequirement | undefined;
  readonly limits: Omit<EvaluatorLimits, 'pool'>;
  /** Digests of bundles that were loaded already, with these limits. */
  readonly known: ReadonlySet<string>;
}

/** What a bundle says of itself, and its policy; nothing that a message cannot carry. */
export interface LoadedBundle extends Pick<
  Bundle,
  'name' | 'serial' | 'expiresMs' | 'roots' | 'digest' | 'digestBytes' | 'signature'
> {
  /** Where there are deltas, what they made of the archive, as one. */
  readonly whole: Uint8Array | undefined;
  /** Compiled and checked; undefined where the bundle is one of `known`. */
  readonly policy: LoadedPolicy | undefined;
}

/** Loads one bundle. Throws `bundle_invalid`; rejects once `signal` is aborted, whatever is left undone. */
export type LoadBundle = (request: LoadRequest, signal: AbortSignal) => Promise<LoadedBundle>;

/**
 * Reads an archive and its deltas, compiles the policy, makes an instance with its data, evaluates the probe and the
 * bundle's own cases. All of it is done on this thread: some 200 ms for each MB of data.
 */
export const loadBundle: LoadBundle = async ({ bytes, deltas, signing, limits, known }) => {
  let bundle = await readBundle(bytes, BUNDLE_LIMITS, signing);
  for (const delta of deltas) bundle = await applyDelta(bundle, delta, BUNDLE_LIMITS, signing);
  const { name, serial, expiresMs, roots, digest, digestBytes, signature } = bundle;
  const whole = deltas.length === 0 ? undefined : await packArchive(bundle.files);
  const described = { name, serial, expiresMs, roots, digest, digestBytes, signature, whole };
  // The digest covers all that is compiled and checked; who signed it is asked of each source.
  if (known.has(digest)) return { ...described, policy: undefined };
  const { wasm, dataJson, files } = bundle;
  const evaluator = await createWasmEvaluator({ wasm, dataJson, files, ...limits });
  await runSelfCheck(bundle, evaluator);
  return { ...described, policy: evaluator.loaded };
};
