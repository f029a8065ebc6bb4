import { Type, type Static } from 'typebox';
import { Compile } from 'typebox/compile';
import { bundleDigest, digestText, type BundleFile } from '../../shared/contracts/bundle-digest.ts';
import { AppError, errorMessage } from '../../shared/contracts/errors.ts';
import { isObject, type Json } from '../../shared/contracts/json.ts';
import { BUNDLE_LIMITS, unpackArchive, type BundleLimits } from '../../shared/bundles/bundle-archive.ts';
import { OptionalLimits } from '../../shared/settings/policy-limits.ts';
import { canonicalBytesOf, readDocument } from './canonical-document.ts';
import { RegoObject, type Value } from './engine/value.ts';
import { checkDataRoots, checkOwnRoots, rootsOf } from './roots.ts';
import { verifySignature, type SigningRequirement, type VerifiedSignature } from './bundle-signature.ts';

/** The one entrypoint that a bundle must have: package `edict`, rule `decide`. */
export const ENTRYPOINT = 'edict/decide';

const strict = { additionalProperties: false } as const;

/** `.manifest` of an OPA bundle, with our member of `metadata`; what OPA may add is let through beside that. */
export const BundleManifest = Type.Object({
  revision: Type.Optional(Type.String({ maxLength: 1024 })),
  roots: Type.Optional(Type.Array(Type.String({ maxLength: 1024 }), { maxItems: 1024 })),
  rego_version: Type.Optional(Type.Integer()),
  wasm: Type.Array(
    Type.Object({ entrypoint: Type.String({ maxLength: 1024 }), module: Type.String({ maxLength: 1024 }) }),
    { minItems: 1, maxItems: 1024 },
  ),
  metadata: Type.Object({
    edict: Type.Object(
      {
        name: Type.String({ pattern: '^[a-z0-9][a-z0-9._-]{0,62}$' }),
        /** A u64 that never decreases; a JSON number, so below 2^53. */
        serial: Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER }),
        /** From when on it permits nothing (RFC 3339, UTC). */
        expires_at: Type.Optional(
          Type.String({ pattern: '^\\d{4}-\\d\\d-\\d\\dT\\d\\d:\\d\\d:\\d\\d(\\.\\d{1,3})?Z$' }),
        ),
        /** Less than its tenants have: it is content with it. */
        limits: Type.Optional(Type.Object(OptionalLimits, strict)),
        /** Of a delta: the digest of the bundle that it is for. */
        base: Type.Optional(Type.String({ pattern: '^sha256:[0-9a-f]{64}$' })),
      },
      strict,
    ),
  }),
});
export type BundleManifest = Static<typeof BundleManifest>;

/** A bundle that was read whole; nothing of it was compiled or run yet. */
export interface Bundle {
  readonly name: string;
  readonly serial: number;
  /** When it expires, milliseconds since 1970; undefined: never. */
  readonly expiresMs: number | undefined;
  /** What it asks for that is less than its tenants have. */
  readonly limits: OptionalLimits | undefined;
  /** Which parts of `data` it claims. */
  readonly roots: readonly string[];
  /** `sha256:` and 64 hex digits, of the files and so independent of how they were packed. */
  readonly digest: string;
  readonly digestBytes: Uint8Array;
  readonly manifest: BundleManifest;
  /** All files but folders, sorted by path. */
  readonly files: readonly BundleFile[];
  readonly wasm: Uint8Array;
  /** UTF-8 JSON text of one object, checked: what the module gets as `data`. */
  readonly dataJson: Uint8Array;
  /** By whom it is signed; undefined when nothing asked for a signature. */
  readonly signature: VerifiedSignature | undefined;
}

const manifestCheck = Compile(BundleManifest);

const refuse = (message: string, cause?: unknown): AppError => new AppError('bundle_invalid', message, { cause });

const parseJson = (file: BundleFile): unknown => {
  try {
    return JSON.parse(new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(file.bytes)) as Json;
  } catch (cause) {
    // The parser's own message quotes the text, which may be data that belongs in no log.
    throw refuse(`${file.path} is not UTF-8 JSON`, cause);
  }
};

export const readManifest = (file: BundleFile): BundleManifest => {
  const manifest = parseJson(file);
  if (!manifestCheck.Check(manifest)) {
    const faults = manifestCheck
      .Errors(manifest)
      .slice(0, 5)
      .map((fault) => `${fault.instancePath || '/'} ${fault.message}`);
    throw refuse(`.manifest is not that of a bundle made by 'edict policy build': ${faults.join('; ')}`);
  }
  return manifest;
};

const expiryOf = ({ metadata }: BundleManifest): number | undefined => {
  const { expires_at: text } = metadata.edict;
  if (text === undefined) return undefined;
  const expiresMs = Date.parse(text);
  if (Number.isNaN(expiresMs)) throw refuse(`.manifest says that it expires at ${text}, which is no time`);
  return expiresMs;
};

const merged = (target: RegoObject, source: RegoObject, path: string): RegoObject =>
  RegoObject.of([
    ...target.entries,
    ...source.entries.map(([key, value]): readonly [Value, Value] => {
      const there = target.get(key);
      if (there === undefined) return [key, value];
      if (there instanceof RegoObject && value instanceof RegoObject) return [key, merged(there, value, path)];
      throw refuse(`${path} gives a value that another data file gives too: ${JSON.stringify(key)}`);
    }),
  ]);

/** `data.json` at any depth; below the root it is data of its folder's path, as OPA reads it. Numbers stay as written. */
const readData = (files: readonly BundleFile[], roots: readonly string[]): Uint8Array => {
  const dataFiles = files.filter((file) => file.path === 'data.json' || file.path.endsWith('/data.json'));
  for (const file of dataFiles) {
    const document = parseJson(file);
    if (!isObject(document)) throw refuse(`${file.path} is not a JSON object`);
    checkDataRoots(document, file.path.split('/').slice(0, -1).join('/'), roots, file.path);
  }
  const [only] = dataFiles;
  if (dataFiles.length === 1 && only?.path === 'data.json') return only.bytes;
  let whole = RegoObject.of([]);
  for (const { path, bytes } of dataFiles) {
    const folders = path.split('/').slice(0, -1);
    const placed = folders.reduceRight<Value>(
      (inner, folder) => RegoObject.of([[folder, inner]]),
      readDocument(path, bytes),
    );
    if (placed instanceof RegoObject) whole = merged(whole, placed, path);
  }
  return canonicalBytesOf(whole);
};

/** The bundle that these files make; whether they are signed has been looked at. Throws `bundle_invalid`. */
export const bundleOf = (files: readonly BundleFile[], signature: VerifiedSignature | undefined): Bundle => {
  const byPath = new Map(files.map((file) => [file.path, file]));
  const manifestFile = byPath.get('.manifest');
  if (manifestFile === undefined) throw refuse('bundle has no .manifest');
  if (byPath.has('patch.json')) throw refuse('bundle is a delta (patch.json), and there is nothing that it changes');
  const yaml = files.find((file) => /(^|\/)data\.ya?ml$/.test(file.path));
  if (yaml !== undefined) throw refuse(`bundle has ${yaml.path}; data is read from data.json only`);
  const manifest = readManifest(manifestFile);
  const entry = manifest.wasm.find((module) => module.entrypoint === ENTRYPOINT);
  if (entry === undefined) throw refuse(`.manifest names no Wasm module for the entrypoint ${ENTRYPOINT}`);
  const wasmFile = byPath.get(entry.module.replace(/^\.?\//, ''));
  if (wasmFile === undefined) throw refuse(`bundle has no ${JSON.stringify(entry.module)}, which .manifest names`);
  const roots = rootsOf(manifest);
  checkOwnRoots(
    roots,
    manifest.wasm.map(({ entrypoint }) => entrypoint),
  );
  const digestBytes = bundleDigest(files);
  return {
    name: manifest.metadata.edict.name,
    serial: manifest.metadata.edict.serial,
    expiresMs: expiryOf(manifest),
    limits: manifest.metadata.edict.limits,
    roots,
    digest: digestText(digestBytes),
    digestBytes,
    manifest,
    files,
    wasm: wasmFile.bytes,
    dataJson: readData(files, roots),
    signature,
  };
};

/**
 * Reads an OPA bundle (gzipped tar) within limits. Throws `bundle_invalid` that names what is wrong: cut off, too
 * large, links or climbing or doubled paths, not signed as demanded, no `.manifest`, no `policy.wasm`, no
 * `edict/decide`, data that is no JSON.
 */
export const readBundle = async (
  archive: Uint8Array,
  limits: BundleLimits = BUNDLE_LIMITS,
  signing?: SigningRequirement,
): Promise<Bundle> => {
  const files = await unpackArchive(archive, limits);
  try {
    // Nothing of an unsigned bundle is looked at.
    const signature = signing === undefined ? undefined : verifySignature(files, signing);
    return bundleOf(files, signature);
  } catch (cause) {
    if (cause instanceof AppError) throw cause;
    throw refuse(`bundle cannot be read: ${errorMessage(cause)}`, cause);
  }
};
