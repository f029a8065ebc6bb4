import { open, readdir, stat } from 'node:fs/promises';
import path from 'node:path';
import { AppError, errorCode } from '../../shared/contracts/errors.ts';
import { BUNDLE_LIMITS } from './bundle-archive.ts';
import type { SigningRequirement } from './bundle-signature.ts';

/** Bundles that one set may have. */
const SET_MAX = 64;

/** Where bundles of a set come from. */
export interface BundleSource {
  /** An archive, or a folder of archives. */
  readonly path: string;
  /** Undefined where bundles need no signature. */
  readonly signing?: BundleSigning;
}

export interface BundleSigning {
  /** Reads the keys again, so that a key file can be replaced while the program runs. */
  readonly requirement: () => Promise<SigningRequirement>;
  /** When one of them changes, what was refused is judged again. */
  readonly keyFiles: readonly string[];
}

/** One archive as it lay at its source. */
export interface SourceFile {
  /** Which source it is of, as the settings name it. */
  readonly source: string;
  readonly path: string;
  readonly bytes: Uint8Array;
  readonly signing: BundleSigning | undefined;
  /** What its server calls this version; undefined for a file. */
  readonly etag?: string | undefined;
}

/** What one look found. */
export interface Look {
  /** All archives of the set; undefined when nothing changed since the last look. */
  readonly files: readonly SourceFile[] | undefined;
  /** Until when the sources are known to have this, milliseconds since 1970; undefined while a file is written. */
  readonly confirmedMs: number | undefined;
}

/**
 * Looks at the archives of one set. Rejects with `bundle_invalid` when a path is missing, unreadable or too large; the
 * next look reads everything then.
 */
export type LookAtBundles = () => Promise<Look>;

interface Seen {
  readonly source: string;
  readonly path: string;
  readonly key: string;
  readonly signing: BundleSigning | undefined;
}

const unreadable = (file: string, cause: unknown): AppError =>
  new AppError('bundle_invalid', `cannot read ${file} (${errorCode(cause) ?? 'unknown error'})`, { cause });

const stampOf = async (
  file: string,
): Promise<{ readonly isFolder: boolean; readonly size: number; readonly key: string }> => {
  try {
    const found = await stat(file, { bigint: true });
    const key = [found.dev, found.ino, found.size, found.mtimeNs, found.ctimeNs].join(':');
    return { isFolder: found.isDirectory(), size: Number(found.size), key };
  } catch (cause) {
    throw unreadable(file, cause);
  }
};

/** A path is an archive, or a folder with archives (`*.tar.gz`) beside each other. */
const listArchives = async (sources: readonly BundleSource[]): Promise<readonly Seen[]> => {
  const found: Seen[] = [];
  for (const { path: each, signing } of sources) {
    const stamp = await stampOf(each);
    if (!stamp.isFolder) {
      found.push({ source: each, path: each, key: stamp.key, signing });
      continue;
    }
    const names = (await readdir(each)).filter((name) => name.endsWith('.tar.gz') && !name.startsWith('.')).sort();
    if (names.length === 0) throw new AppError('bundle_invalid', `${each} holds no *.tar.gz`);
    if (names.length > SET_MAX) throw new AppError('bundle_invalid', `${each} holds more than ${SET_MAX} bundles`);
    for (const name of names) {
      const file = path.join(each, name);
      found.push({ source: each, path: file, key: (await stampOf(file)).key, signing });
    }
  }
  if (found.length > SET_MAX) throw new AppError('bundle_invalid', `more than ${SET_MAX} bundles in one set`);
  return found;
};

/** The whole file, or undefined when its size or times changed while it was read. */
const readWhole = async ({ source, path: file, key, signing }: Seen): Promise<SourceFile | undefined> => {
  const { size } = await stampOf(file);
  if (size > BUNDLE_LIMITS.compressedBytes) {
    throw new AppError(
      'bundle_invalid',
      `${file} has ${size} bytes, at most ${BUNDLE_LIMITS.compressedBytes} are read`,
    );
  }
  const bytes = Buffer.alloc(size);
  try {
    const handle = await open(file, 'r');
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
  return after.key === key ? { source, path: file, bytes, signing } : undefined;
};

/** A key file that is missing is a state like any other: it makes the bundle refused, not the look. */
const keyStamp = async (file: string): Promise<string> =>
  await stampOf(file).then(
    ({ key }) => key,
    () => 'missing',
  );

const stampsOf = async (seen: readonly Seen[]): Promise<string> => {
  const keyFiles = [...new Set(seen.flatMap(({ signing }) => signing?.keyFiles ?? []))];
  const keys = await Promise.all(keyFiles.map(keyStamp));
  return JSON.stringify([seen.map(({ path: file, key }) => [file, key]), keys]);
};

const NOT_YET: Look = { files: undefined, confirmedMs: undefined };

/** Watches files, folders and key files by their size and times; contents are read only when those change. */
export const createBundleSource = (sources: readonly BundleSource[], nowMs: () => number): LookAtBundles => {
  let lastStamps: string | undefined;
  return async () => {
    const lookedMs = nowMs();
    const seen = await listArchives(sources).catch((error: unknown) => {
      lastStamps = undefined;
      throw error;
    });
    const stamps = await stampsOf(seen);
    if (stamps === lastStamps) return { files: undefined, confirmedMs: lookedMs };
    const files: SourceFile[] = [];
    for (const each of seen) {
      const file = await readWhole(each);
      if (file === undefined) return NOT_YET;
      files.push(file);
    }
    lastStamps = stamps;
    return { files, confirmedMs: lookedMs };
  };
};
