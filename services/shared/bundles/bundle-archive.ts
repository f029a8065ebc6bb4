import { promisify } from 'node:util';
import { gunzip } from 'node:zlib';
import { extract } from 'tar-stream';
import type { BundleFile } from '../contracts/bundle-digest.ts';
import { AppError, errorCode, errorMessage, isAppError } from '../contracts/errors.ts';

/** What an archive may cost before it is refused. */
export interface BundleLimits {
  readonly compressedBytes: number;
  /** Of the tar stream, padding and headers included. */
  readonly unpackedBytes: number;
  readonly fileBytes: number;
  readonly files: number;
  /** Unpacked to compressed; looked at from 1 MiB unpacked. */
  readonly ratio: number;
}

export const BUNDLE_LIMITS: BundleLimits = {
  compressedBytes: 32 * 1024 * 1024,
  unpackedBytes: 128 * 1024 * 1024,
  fileBytes: 64 * 1024 * 1024,
  files: 4096,
  ratio: 100,
};

const RATIO_FROM_BYTES = 1024 * 1024;
const PATH_BYTES = 1024;

const unzip = promisify(gunzip);

const refuse = (message: string, cause?: unknown): AppError => new AppError('bundle_invalid', message, { cause });

/** Shows a hostile name without letting it write to a terminal. */
const quoted = (name: string): string => JSON.stringify(name.length > 100 ? `${name.slice(0, 100)}…` : name);

const inflate = async (archive: Uint8Array, limits: BundleLimits): Promise<Buffer> => {
  if (archive.length > limits.compressedBytes) {
    throw refuse(`archive has ${archive.length} bytes, at most ${limits.compressedBytes} are read`);
  }
  const byRatio = Math.max(RATIO_FROM_BYTES, archive.length * limits.ratio);
  const maxOutputLength = Math.min(limits.unpackedBytes, byRatio);
  try {
    return await unzip(archive, { maxOutputLength });
  } catch (cause) {
    if (errorCode(cause) === 'ERR_BUFFER_TOO_LARGE') {
      throw refuse(`archive unpacks to more than ${maxOutputLength} bytes`, cause);
    }
    throw refuse(`archive is not whole gzip data: ${errorMessage(cause)}`, cause);
  }
};

/** The path without one leading `/` or `./` (OPA writes the first); whatever could leave the bundle is refused. */
const normalise = (name: string): string => {
  const path = name.replace(/^(\.?\/)/, '');
  // eslint-disable-next-line no-control-regex
  const odd = Buffer.byteLength(path) > PATH_BYTES || /[\u0000-\u001f\u007f\\\ufffd]/.test(path);
  if (odd || path.split('/').some((part) => part === '' || part === '.' || part === '..')) {
    throw refuse(`archive holds the path ${quoted(name)}, which is not a plain path inside a bundle`);
  }
  return path;
};

/**
 * Unpacks a gzipped tar archive in memory, sorted by path. Throws `bundle_invalid` for anything but plain files and
 * folders under plain relative paths, each once, within the limits.
 */
export const unpackArchive = async (
  archive: Uint8Array,
  limits: BundleLimits = BUNDLE_LIMITS,
): Promise<readonly BundleFile[]> => {
  const tar = await inflate(archive, limits);
  const files = new Map<string, Uint8Array>();
  const unpack = extract();
  unpack.end(tar);
  let entries = 0;
  try {
    for await (const entry of unpack) {
      const { name, type, size } = entry.header;
      entries += 1;
      if (entries > limits.files) throw refuse(`archive holds more than ${limits.files} entries`);
      if (type === 'directory') {
        if (!/^(\.?\/?)$/.test(name)) normalise(name.replace(/\/$/, ''));
        entry.resume();
        continue;
      }
      if (type !== 'file') throw refuse(`archive holds ${quoted(name)}, a ${type}; only files and folders are read`);
      const path = normalise(name);
      if (files.has(path)) throw refuse(`archive holds the path ${quoted(path)} twice`);
      if ((size ?? 0) > limits.fileBytes) {
        throw refuse(`${quoted(path)} has ${size} bytes, at most ${limits.fileBytes} are read`);
      }
      const chunks: Uint8Array[] = [];
      for await (const chunk of entry) chunks.push(chunk as Uint8Array);
      files.set(path, Buffer.concat(chunks));
    }
  } catch (cause) {
    if (isAppError(cause)) throw cause;
    throw refuse(`archive is not a whole tar stream: ${errorMessage(cause)}`, cause);
  } finally {
    unpack.destroy();
  }
  return [...files]
    .map(([path, bytes]) => ({ path, bytes }))
    .sort((a, b) => Buffer.compare(Buffer.from(a.path), Buffer.from(b.path)));
};
