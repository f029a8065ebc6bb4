import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { replaceFile } from '../../services/cli/replace-file.ts';
import { packArchive } from '../../services/shared/bundles/pack-archive.ts';
import { readBundle, type Bundle } from '../../services/pdp/policy/bundle-reader.ts';
import { createWasmEvaluator } from '../../services/pdp/policy/wasm-evaluator.ts';
import { AppError } from '../../services/shared/contracts/errors.ts';
import { canonicalJson } from '../../services/shared/contracts/json.ts';

const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '..', '..');

/** The bundle in the repository: its compiled policy is what the replay and the system tests use. */
export const DEMO_BUNDLE = path.join(root, 'bundles', 'mesh.tar.gz');

export const readDemoBundle = async (): Promise<Bundle> => await readBundle(await readFile(DEMO_BUNDLE));

/**
 * The archive of `bundle` with another data document, name and serial; checked by the reader of the services. With other
 * data it carries no cases: they say what is decided by the data that they were written for.
 */
export const bundleWith = async (
  bundle: Bundle,
  change: { readonly data?: unknown; readonly name?: string; readonly serial?: number },
): Promise<Uint8Array> => {
  const identity = { name: change.name ?? bundle.name, serial: change.serial ?? bundle.serial };
  const manifest = { ...bundle.manifest, metadata: { ...bundle.manifest.metadata, edict: identity } };
  const kept = bundle.files.filter((file) => change.data === undefined || !file.path.startsWith('cases/'));
  const files = kept.map((file) => {
    if (file.path === '.manifest') return { path: file.path, bytes: Buffer.from(canonicalJson(manifest)) };
    if (file.path !== 'data.json' || change.data === undefined) return file;
    return { path: file.path, bytes: Buffer.from(canonicalJson(change.data)) };
  });
  const archive = await packArchive(files);
  const written = await readBundle(archive);
  if (written.serial !== identity.serial) throw new AppError('internal', 'the bundle does not read as it was written');
  return archive;
};

/**
 * Writes one bundle a suite into `folder`; resolves with the file of each. Rejects with `bundle_invalid` where a decision
 * point would refuse one, and go on waiting for another.
 */
export const writeReplayBundles = async (
  folder: string,
  directories: ReadonlyMap<string, unknown>,
  demo?: Bundle,
): Promise<ReadonlyMap<string, string>> => {
  const base = demo ?? (await readDemoBundle());
  const written = new Map<string, string>();
  for (const [suite, data] of directories) {
    const file = path.join(folder, `${suite}.tar.gz`);
    const archive = await bundleWith(base, { data, name: `replay-${suite}` });
    await createWasmEvaluator(await readBundle(archive));
    await replaceFile(file, archive);
    written.set(suite, file);
  }
  return written;
};
