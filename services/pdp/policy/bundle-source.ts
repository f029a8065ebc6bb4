import { constants } from 'node:fs';
import { open, readdir, stat } from 'node:fs/promises';
import path from 'node:path';
import { sha256 } from '../../shared/contracts/bytes.ts';
import { AppError, errorCode, isAppError } from '../../shared/contracts/errors.ts';
import { BUNDLE_LIMITS } from './bundle-archive.ts';

/** Bundles that one set may have. */
const SET_MAX = 64;

/** One archive as it lay on disk. */
export interface SourceFile {
  readonly path: string;
  readonly bytes: Uint8Array;
  /** SHA-256 of the bytes, hex; not the digest of the bundle. */
  readonly contentHash: string;
}

export interface SourceState {
  readonly files: readonly SourceFile[];
  /** Changes whenever the names or contents do. */
  readonly fingerprint: string;
}

/**
 * Looks at the archives of one set. Resolves with undefined when nothing changed since the last look, or when a file
 * was being written while it was read: the next look tells. Rejects with `bundle_invalid` when a path is missing,
 * unreadable or too large.
 */
export type LookAtBundles = () => Promise<SourceState | undefined>;

interface Seen {
  readonly path: string;
  readonly key: string;
}

const unreadable = (file: string, cause: unknown): AppError =>
  new AppError('bundle_invalid', `cannot read ${file} (${errorCode(cause) ?? 'unknown error'})`, { cause });

const stampOf = async (
  file: string,
): Promise<{ readonly isFolder: boolean; readonly size: number; readonly key: string }> => {
  try {
    const found = await stat(file, { bigint: true });
    // A pipe or a device can keep its reader waiting for ever.
    if (!found.isFile() && !found.isDirectory())
      throw new AppError('bundle_invalid', `${file} is neither a file nor a folder`);
    const key = [found.dev, found.ino, found.size, found.mtimeNs, found.ctimeNs].join(':');
    return { isFolder: found.isDirectory(), size: Number(found.size), key };
  } catch (cause) {
    throw isAppError(cause) ? cause : unreadable(file, cause);
  }
};

/** A path is an archive, or a folder with archives (`*.tar.gz`) beside each other. */
const listArchives = async (paths: readonly string[]): Promise<readonly Seen[]> => {
  const found: Seen[] = [];
  for (const each of paths) {
    const stamp = await stampOf(each);
    if (!stamp.isFolder) {
      found.push({ path: each, key: stamp.key });
      continue;
    }
    const names = (await readdir(each)).filter((name) => name.endsWith('.tar.gz') && !name.startsWith('.')).sort();
    if (names.length === 0) throw new AppError('bundle_invalid', `${each} holds no *.tar.gz`);
    if (names.length > SET_MAX) throw new AppError('bundle_invalid', `${each} holds more than ${SET_MAX} bundles`);
    for (const name of names) {
      const file = path.join(each, name);
      found.push({ path: file, key: (await stampOf(file)).key });
    }
  }
  if (found.length > SET_MAX) throw new AppError('bundle_invalid', `more than ${SET_MAX} bundles in one set`);
  return found;
};

/** The whole file, or undefined when its size or times changed while it was read. */
const readWhole = async ({ path: file, key }: Seen): Promise<SourceFile | undefined> => {
  const { size } = await stampOf(file);
  if (size > BUNDLE_LIMITS.compressedBytes) {
    throw new AppError(
      'bundle_invalid',
      `${file} has ${size} bytes, at most ${BUNDLE_LIMITS.compressedBytes} are read`,
    );
  }
  const bytes = Buffer.alloc(size);
  try {
    // Without waiting: it may have become a pipe since it was looked at.
    const handle = await open(file, constants.O_RDONLY | constants.O_NONBLOCK);
    try {
      let read = 0;
      while (read < size) {
        const { bytesRead } = await handle.read(bytes, read, size - read, read);
        if (bytesRead === 0) return undefined;
        read += bytesRead;
      }
    } finally {
      await handle.close();
    }
  } catch (cause) {
    throw unreadable(file, cause);
  }
  const after = await stampOf(file);
  return after.key === key ? { path: file, bytes, contentHash: sha256(bytes).toString('hex') } : undefined;
};

const stampsOf = (seen: readonly Seen[]): string => JSON.stringify(seen.map(({ path: file, key }) => [file, key]));

/**
 * Watches files and folders by their size and times; contents are read only when those change. `fingerprint` lets the
 * caller see whether the contents are those that it judged before.
 */
export const createBundleSource = (paths: readonly string[]): LookAtBundles => {
  let lastStamps: string | undefined;
  return async () => {
    const seen = await listArchives(paths).catch((error: unknown) => {
      lastStamps = undefined;
      throw error;
    });
    const stamps = stampsOf(seen);
    if (stamps === lastStamps) return undefined;
    const files: SourceFile[] = [];
    for (const each of seen) {
      const file = await readWhole(each);
      if (file === undefined) return undefined;
      files.push(file);
    }
    lastStamps = stamps;
    const fingerprint = sha256(JSON.stringify(files.map((file) => [file.path, file.contentHash]))).toString('hex');
    return { files, fingerprint };
  };
};
