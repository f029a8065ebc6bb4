import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { BUNDLE_LIMITS, unpackArchive } from '../../shared/bundles/bundle-archive.ts';
import { packArchive } from '../../shared/bundles/pack-archive.ts';
import { ENTRYPOINT, readBundle, type Bundle } from '../../pdp/policy/bundle-reader.ts';
import type { BundleFile } from '../../shared/contracts/bundle-digest.ts';
import { AppError, errorCode, isAppError } from '../../shared/contracts/errors.ts';
import { canonicalJson, isObject } from '../../shared/contracts/json.ts';
import type { RunOpa } from '../opa-binary.ts';
import { ALL_ERRORS, capabilitiesFile, problemsOf } from './opa-problems.ts';

/** Files that are no part of a bundle: tests, test cases and what only the tools read. */
export const NOT_IN_BUNDLE = ['*_test.rego', 'cases', 'schemas'] as const;

interface Identity {
  readonly name: string;
  readonly serial: number;
  /** RFC 3339, UTC; undefined: never. */
  readonly expiresAt: string | undefined;
}

const withIdentity = (files: readonly BundleFile[], { name, serial, expiresAt }: Identity): readonly BundleFile[] =>
  files.map((file) => {
    if (file.path !== '.manifest') return file;
    const manifest: unknown = JSON.parse(Buffer.from(file.bytes).toString('utf8'));
    if (!isObject(manifest)) throw new AppError('bundle_invalid', 'opa build wrote a .manifest that is no object');
    const metadata = isObject(manifest['metadata']) ? manifest['metadata'] : {};
    // What else the folder's own .manifest says is judged when the bundle is read back.
    const own = isObject(metadata['edict']) ? metadata['edict'] : {};
    const edict = { ...own, name, serial, expires_at: expiresAt };
    const text = canonicalJson({ ...manifest, metadata: { ...metadata, edict } });
    return { path: file.path, bytes: Buffer.from(text, 'utf8') };
  });

/** Runs `opa build` on a folder and gives the files of its bundle, without name and serial. */
const compile = async (runOpa: RunOpa, policiesFolder: string): Promise<readonly BundleFile[]> => {
  const scratch = await mkdtemp(path.join(tmpdir(), 'edict-build-'));
  try {
    const output = path.join(scratch, 'bundle.tar.gz');
    const ignores = NOT_IN_BUNDLE.flatMap((pattern) => ['--ignore', pattern]);
    // -O0: partial evaluation would bake data into the module and makes Wasm slower, not faster.
    const args = ['build', '--target', 'wasm', '--entrypoint', ENTRYPOINT, '--optimize', '0', '--prune-unused'];
    const compiling = ['--capabilities', capabilitiesFile(), '--bundle', '.', ...ignores];
    const built = await runOpa([...args, ...compiling, '--output', output], { cwd: policiesFolder });
    if (built.exitCode !== 0) {
      // A build tells the row only.
      const checked = await runOpa(['check', '--format', 'json', ...ALL_ERRORS, ...compiling], { cwd: policiesFolder });
      const problems = problemsOf(checked.exitCode === 0 ? built : checked);
      throw new AppError('bundle_invalid', `opa build failed:\n${problems.join('\n')}`, { details: { problems } });
    }
    return await unpackArchive(await readFile(output), BUNDLE_LIMITS);
  } finally {
    await rm(scratch, { recursive: true, force: true });
  }
};

/** `cases/*.json`, as they lie there. */
const readCaseFiles = async (policiesFolder: string): Promise<readonly BundleFile[]> => {
  const names = await readdir(path.join(policiesFolder, 'cases')).catch((cause: unknown) => {
    throw new AppError('usage', `${policiesFolder} has no folder of cases`, { cause });
  });
  const json = names.filter((each) => each.endsWith('.json')).sort();
  return await Promise.all(
    json.map(async (each) => ({
      path: `cases/${each}`,
      bytes: await readFile(path.join(policiesFolder, 'cases', each)),
    })),
  );
};

/** Reads the bundle at a path; undefined when there is no file. */
export const readBundleFile = async (file: string): Promise<Bundle | undefined> => {
  try {
    return await readBundle(await readFile(file));
  } catch (cause) {
    if (errorCode(cause) === 'ENOENT') return undefined;
    if (isAppError(cause)) throw cause;
    throw new AppError('usage', `cannot read ${file}`, { cause });
  }
};

export interface BuildOptions {
  readonly policiesFolder: string;
  /** The bundle that was built before, whose serial goes on. */
  readonly previous: Bundle | undefined;
  /** Default: the previous name, else `mesh`. */
  readonly name?: string;
  /** Default: the previous serial when nothing changed, else one more; 1 for the first. */
  readonly serial?: number;
  /** RFC 3339, UTC; null: never. Default: as the previous one. */
  readonly expiresAt?: string | null;
  /** Whether the cases of the folder go with it. Default: whether they did before. */
  readonly withCases?: boolean;
}

export interface BuiltBundle {
  readonly bundle: Bundle;
  readonly archive: Uint8Array;
  /** False when the digest is that of the previous bundle. */
  readonly changed: boolean;
}

const assemble = async (files: readonly BundleFile[], identity: Identity) => {
  const archive = await packArchive(withIdentity(files, identity));
  return { archive, bundle: await readBundle(archive) };
};

/** Builds the bundle of a policies folder. Throws `bundle_invalid` with OPA's message when it does not compile. */
export const buildBundle = async (runOpa: RunOpa, options: BuildOptions): Promise<BuiltBundle> => {
  const { policiesFolder, previous } = options;
  const compiled = await compile(runOpa, policiesFolder);
  const { withCases = previous?.files.some(({ path: each }) => each.startsWith('cases/')) === true } = options;
  const files = withCases ? [...compiled, ...(await readCaseFiles(policiesFolder))] : compiled;
  const name = options.name ?? previous?.name ?? 'mesh';
  const expiresAt =
    options.expiresAt === undefined ? previous?.manifest.metadata.edict.expires_at : (options.expiresAt ?? undefined);
  if (options.serial !== undefined) {
    if (previous !== undefined && previous.name === name && options.serial < previous.serial) {
      throw new AppError('usage', `serial ${options.serial} is below ${previous.serial}; a serial never decreases`);
    }
    const built = await assemble(files, { name, serial: options.serial, expiresAt });
    return { ...built, changed: built.bundle.digest !== previous?.digest };
  }
  if (previous === undefined || previous.name !== name)
    return { ...(await assemble(files, { name, serial: 1, expiresAt })), changed: true };
  const same = await assemble(files, { name, serial: previous.serial, expiresAt });
  if (same.bundle.digest === previous.digest) return { ...same, changed: false };
  return { ...(await assemble(files, { name, serial: previous.serial + 1, expiresAt })), changed: true };
};
