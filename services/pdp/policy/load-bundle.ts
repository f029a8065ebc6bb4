import { BUNDLE_LIMITS } from '../../shared/bundles/bundle-archive.ts';
import { packArchive } from '../../shared/bundles/pack-archive.ts';
import { applyDelta } from './bundle-delta.ts';
import { readBundle, type Bundle } from './bundle-reader.ts';
import type { SigningRequirement } from './bundle-signature.ts';
import type { EngineLimits } from './engine/host.ts';
import { engineLimitsFor } from './limits.ts';
import { runSelfCheck } from './self-check.ts';
import { createWasmEvaluator, type LoadedPolicy } from './wasm-evaluator.ts';

/** All that loading depends on, and nothing that a message cannot carry. */
export interface LoadRequest {
  /** The archive. */
  readonly bytes: Uint8Array;
  /** What is applied to it, oldest first. */
  readonly deltas: readonly Uint8Array[];
  /** Undefined: no signature is asked for. */
  readonly signing: SigningRequirement | undefined;
  /** The bundle may ask for less. */
  readonly limits: EngineLimits;
  /** Whether to find out what of the input the policy reads. */
  readonly withReads: boolean;
  /** Keys of what was loaded already. */
  readonly known: ReadonlySet<string>;
}

/** What a bundle says of itself, and its policy; nothing that a message cannot carry. */
export interface LoadedBundle extends Pick<
  Bundle,
  'name' | 'serial' | 'expiresMs' | 'roots' | 'digest' | 'digestBytes' | 'signature'
> {
  /** What it asks for that is content with less than its tenant has. */
  readonly asked: Bundle['limits'];
  /** What it was loaded within. */
  readonly limits: EngineLimits;
  /** Of its content and those limits: what has the same is the same. */
  readonly key: string;
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
export const loadBundle: LoadBundle = async ({ bytes, deltas, signing, limits: most, withReads, known }) => {
  let bundle = await readBundle(bytes, BUNDLE_LIMITS, signing);
  for (const delta of deltas) bundle = await applyDelta(bundle, delta, BUNDLE_LIMITS, signing);
  const { name, serial, expiresMs, roots, digest, digestBytes, signature, limits: asked } = bundle;
  const whole = deltas.length === 0 ? undefined : await packArchive(bundle.files);
  const limits = engineLimitsFor(most, asked);
  // The digest covers all that is compiled and checked; who signed it is asked of each source.
  const key = `${digest} ${limits.fuel} ${limits.memoryMaxBytes} ${limits.resultMaxBytes}`;
  const described = { name, serial, expiresMs, roots, digest, digestBytes, signature, asked, limits, key, whole };
  if (known.has(key)) return { ...described, policy: undefined };
  const { wasm, dataJson, files } = bundle;
  const evaluator = await createWasmEvaluator({ wasm, dataJson, files, ...limits, withReads });
  await runSelfCheck(bundle, evaluator);
  return { ...described, policy: evaluator.loaded };
};
