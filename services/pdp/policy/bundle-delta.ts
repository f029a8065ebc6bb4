import { isDeepStrictEqual } from 'node:util';
import { SIGNATURES_PATH, type BundleFile } from '../../shared/contracts/bundle-digest.ts';
import { AppError } from '../../shared/contracts/errors.ts';
import { canonicalJson } from '../../shared/contracts/json.ts';
import { BUNDLE_LIMITS, unpackArchive, type BundleLimits } from '../../shared/bundles/bundle-archive.ts';
import { bundleOf, readManifest, type Bundle, type BundleManifest } from './bundle-reader.ts';
import { verifySignature, type SigningRequirement } from './bundle-signature.ts';
import { canonicalBytesOf, readDocument } from './canonical-document.ts';
import { applyOperations, operationsOf, type DataOperation } from './data-patch.ts';
import { holdsPath, rootsOf } from './roots.ts';

const PATCH_PATH = 'patch.json';
const MANIFEST_PATH = '.manifest';
const FILES: ReadonlySet<string> = new Set([PATCH_PATH, MANIFEST_PATH, SIGNATURES_PATH]);

/** An archive that is larger is no delta; whoever has so much to say sends the whole bundle. */
export const MAX_DELTA_BYTES = 1024 * 1024;
/** All data is read and written again for each delta. */
const MAX_DATA_BYTES = 8 * 1024 * 1024;

const refuse = (message: string, cause?: unknown): AppError => new AppError('bundle_invalid', message, { cause });

/** Whoever looks decides too. A patch that is larger would make data that is too large. */
const LOOK_LIMITS: BundleLimits = { ...BUNDLE_LIMITS, unpackedBytes: MAX_DATA_BYTES };

/** Whether an archive is a delta: it has a `patch.json`. False for what cannot be read. */
export const isDelta = async (archive: Uint8Array): Promise<boolean> => {
  if (archive.length > MAX_DELTA_BYTES) return false;
  try {
    return (await unpackArchive(archive, LOOK_LIMITS)).some(({ path }) => path === PATCH_PATH);
  } catch {
    return false;
  }
};

const fileOf = (files: readonly BundleFile[], path: string): BundleFile => {
  const file = files.find((each) => each.path === path);
  if (file === undefined) throw refuse(`delta has no ${path}`);
  return file;
};

const sorted = (texts: readonly string[]): string => JSON.stringify([...texts].sort());

const checkManifest = (base: Bundle, manifest: BundleManifest): void => {
  // OPA's format has no place for it, and a patch of other data may make sense too.
  const { base: digest } = manifest.metadata.edict;
  if (digest === undefined) throw refuse('delta: .manifest has no metadata.edict.base, the digest of its base');
  if (manifest.metadata.edict.name !== base.name)
    throw refuse(`delta: it is for ${manifest.metadata.edict.name}, not for ${base.name}`);
  if (digest !== base.digest) throw refuse(`delta: it is for the bundle ${digest}, and here is ${base.digest}`);
  if (sorted(rootsOf(manifest)) !== sorted(base.roots)) throw refuse('delta: its roots are not those of its base');
  if (!isDeepStrictEqual(manifest.metadata.edict.limits, base.limits))
    throw refuse('delta: its limits are not those of its base');
  const modules = ({ wasm }: BundleManifest): string =>
    sorted(wasm.map(({ entrypoint, module }) => JSON.stringify([entrypoint, module])));
  if (modules(manifest) !== modules(base.manifest)) throw refuse('delta: its Wasm modules are not those of its base');
};

/** What a delta says, as it came. Throws `bundle_invalid` for other files than those of a delta. */
const readDelta = (files: readonly BundleFile[]) => {
  const other = files.find(({ path }) => !FILES.has(path));
  if (other !== undefined) throw refuse(`delta has ${other.path}; it may change data by ${PATCH_PATH} only`);
  const manifest = readManifest(fileOf(files, MANIFEST_PATH));
  const patch = fileOf(files, PATCH_PATH).bytes;
  return { manifest, patchBytes: patch.length, operations: operationsOf(readDocument(PATCH_PATH, patch)) };
};

export interface DeltaDescription extends Pick<Bundle, 'name' | 'serial'> {
  /** Digest of the bundle that it is for. */
  readonly base: string;
  readonly operations: readonly DataOperation[];
  /** Of `patch.json`. */
  readonly patchBytes: number;
}

/** What a delta says of itself, without its base and unverified. Throws `bundle_invalid`. */
export const describeDelta = (files: readonly BundleFile[]): DeltaDescription => {
  const { manifest, ...described } = readDelta(files);
  const { name, serial, base } = manifest.metadata.edict;
  if (base === undefined) throw refuse('delta: .manifest has no metadata.edict.base, the digest of its base');
  return { name, serial, base, ...described };
};

/** The manifest of the whole bundle: RFC 8785, as `edict policy build` writes it. */
const wholeManifest = (manifest: BundleManifest): BundleFile => {
  const { base: _, ...edict } = manifest.metadata.edict;
  const text = canonicalJson({ ...manifest, metadata: { ...manifest.metadata, edict } });
  return { path: MANIFEST_PATH, bytes: Buffer.from(text, 'utf8') };
};

/** As `opa build` writes data: Go's encoder, which escapes for HTML and ends the line. */
const dataBytesOf = (canonical: Uint8Array): Uint8Array => {
  const text = Buffer.from(canonical).toString('utf8');
  return Buffer.from(`${text.replace(/[<>&]/g, (sign) => `\\u00${sign.charCodeAt(0).toString(16)}`)}\n`, 'utf8');
};

/**
 * The whole bundle that a delta (OPA's: `.manifest` and `patch.json`, changes of data only) makes of its base: the files
 * of the base, with the delta's manifest less `metadata.edict.base` (RFC 8785) and one `data.json` (members sorted,
 * numbers as written, as `opa build` writes it) in place of theirs. So it has the digest of the same bundle built whole.
 * Throws `bundle_invalid` for a delta that is not signed as demanded, is for another bundle, changes roots or modules,
 * writes outside the roots, or cannot be applied.
 */
export const applyDelta = async (
  base: Bundle,
  archive: Uint8Array,
  limits: BundleLimits,
  signing?: SigningRequirement,
): Promise<Bundle> => {
  const files = await unpackArchive(archive, limits);
  const signature = signing === undefined ? undefined : verifySignature(files, signing);
  const { manifest, operations } = readDelta(files);
  checkManifest(base, manifest);
  const outside = operations.find(({ path }) => !base.roots.some((root) => holdsPath(root, path)));
  if (outside !== undefined) throw refuse(`delta: the roots do not permit a change at /${outside.path.join('/')}`);
  if (base.dataJson.length > MAX_DATA_BYTES)
    throw refuse(`delta: only data of at most ${MAX_DATA_BYTES} bytes is changed by deltas`);
  const changed = applyOperations(readDocument('data.json', base.dataJson), operations);
  const data = dataBytesOf(canonicalBytesOf(changed));
  if (data.length > MAX_DATA_BYTES) throw refuse(`delta: the data would have more than ${MAX_DATA_BYTES} bytes`);
  const isReplaced = ({ path }: BundleFile): boolean => FILES.has(path) || /(^|\/)data\.json$/.test(path);
  const whole = [
    ...base.files.filter((file) => !isReplaced(file)),
    wholeManifest(manifest),
    { path: 'data.json', bytes: data },
  ].sort((a, b) => Buffer.compare(Buffer.from(a.path), Buffer.from(b.path)));
  return bundleOf(whole, signature);
};
