import { lp, sha256 } from './bytes.ts';

/** A file of a bundle; `path` has no leading `/` or `./`. */
export interface BundleFile {
  readonly path: string;
  readonly bytes: Uint8Array;
}

/** The signature file stands outside the digest, so that a bundle can be signed after it was built. */
export const SIGNATURES_PATH = '.signatures.json';

/**
 * The 32-byte digest of a bundle: SHA-256("edict/bundle/v1\0" ‖ for each file but `.signatures.json`, in byte order of
 * its path: lp(path) ‖ SHA-256(bytes)). Throws on a path that stands twice.
 */
export const bundleDigest = (files: readonly BundleFile[]): Buffer => {
  const entries = files
    .filter((file) => file.path !== SIGNATURES_PATH)
    .map((file) => ({ path: Buffer.from(file.path, 'utf8'), digest: sha256(file.bytes) }))
    .sort((a, b) => Buffer.compare(a.path, b.path));
  entries.forEach((entry, i) => {
    if (entries[i + 1]?.path.equals(entry.path)) throw new TypeError(`path stands twice: ${entry.path.toString()}`);
  });
  return sha256('edict/bundle/v1\0', ...entries.flatMap((entry) => [lp(entry.path), entry.digest]));
};

/** The 32-byte digest of a set of bundles: SHA-256("edict/set/v1\0" ‖ their raw digests in byte order). */
export const setDigest = (digests: readonly Uint8Array[]): Buffer =>
  sha256('edict/set/v1\0', ...[...digests].sort((a, b) => Buffer.compare(a, b)));

/** `sha256:` and 64 hex digits. */
export const digestText = (digest: Uint8Array): string => `sha256:${Buffer.from(digest).toString('hex')}`;
