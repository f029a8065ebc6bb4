import { constants } from 'node:fs';
import { open, readdir, stat } from 'node:fs/promises';
import path from 'node:path';
import { AppError, errorCode, isAppError } from '../../shared/contracts/errors.ts';
import { BUNDLE_LIMITS } from '../../shared/bundles/bundle-archive.ts';
import type { SigningRequirement } from './bundle-signature.ts';
import { sha256HexInTurns } from './bytes-in-turns.ts';
import {
  createHttpSource,
  type Downloaded,
  type HttpSource,
  type HttpSourceOptions,
  type RemoteStatus,
} from './http-source.ts';

/** Bundles that one set may have. */
const SET_MAX = 64;

/** Where bundles of a set come from. `signing` is undefined where they need no signature. */
export type BundleSource =
  /** An archive, or a folder of archives. */
  | { readonly path: string; readonly signing?: BundleSigning }
  /** A server of OPA's bundle API. */
  | { readonly http: HttpSourceOptions; readonly signing?: BundleSigning };

/** What the settings call it; also how a kept archive finds its source again. */
export const sourceName = (source: BundleSource): string => ('path' in source ? source.path : source.http.url);

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
  /** What its server sent of changes of it, oldest first. */
  readonly deltas?: readonly Uint8Array[] | undefined;
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
 * Looks at the archives of one set. Rejects with `bundle_invalid` when a path is missing, unreadable or too large, with
 * `upstream_unavailable` when a server gives nothing; the next look reads everything then.
 */
export type LookAtBundles = () => Promise<Look>;

export interface BundleWatch {
  readonly look: LookAtBundles;
  /** Versions from an earlier life, by source. Before `start`. */
  readonly seed: (kept: readonly Pick<SourceFile, 'source' | 'bytes' | 'deltas' | 'etag'>[]) => void;
  /** The next look reads everything again. */
  readonly forget: () => void;
  /** What was found could not be used: servers that sent deltas are asked for whole bundles, at once. */
  readonly resync: () => void;
  /** Begins to ask servers; `onChange` says that a look is worth it. */
  readonly start: (onChange: () => void) => void;
  readonly remotes: () => readonly RemoteStatus[];
  readonly close: () => Promise<void>;
}

interface Seen {
  readonly source: string;
  readonly path: string;
  readonly key: string;
  readonly signing: BundleSigning | undefined;
  /** What a server gave already. */
  readonly downloaded?: Omit<Downloaded, 'confirmedMs'>;
  readonly confirmedMs?: number;
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
const listFiles = async (source: string, signing: BundleSigning | undefined): Promise<readonly Seen[]> => {
  const stamp = await stampOf(source);
  if (!stamp.isFolder) return [{ source, path: source, key: stamp.key, signing }];
  const names = (await readdir(source)).filter((name) => name.endsWith('.tar.gz') && !name.startsWith('.')).sort();
  if (names.length === 0) throw new AppError('bundle_invalid', `${source} holds no *.tar.gz`);
  if (names.length > SET_MAX) throw new AppError('bundle_invalid', `${source} holds more than ${SET_MAX} bundles`);
  const found: Seen[] = [];
  for (const name of names) {
    const file = path.join(source, name);
    found.push({ source, path: file, key: (await stampOf(file)).key, signing });
  }
  return found;
};

interface Opened {
  readonly source: BundleSource;
  /** Undefined for files. */
  readonly http: HttpSource | undefined;
}

const listArchives = async (opened: readonly Opened[]): Promise<readonly Seen[]> => {
  const found: Seen[] = [];
  for (const { source, http } of opened) {
    const name = sourceName(source);
    if (http === undefined) {
      found.push(...(await listFiles(name, source.signing)));
      continue;
    }
    const { confirmedMs, ...downloaded } = await http.current();
    const key = (await Promise.all([downloaded.bytes, ...downloaded.deltas].map(sha256HexInTurns))).join();
    found.push({ source: name, path: name, key, signing: source.signing, downloaded, confirmedMs });
  }
  if (found.length > SET_MAX) throw new AppError('bundle_invalid', `more than ${SET_MAX} bundles in one set`);
  return found;
};

/** The whole file, or undefined when its size or times changed while it was read. */
const readWhole = async (seen: Seen): Promise<SourceFile | undefined> => {
  const { source, path: file, key, signing, downloaded } = seen;
  if (downloaded !== undefined) return { source, path: file, signing, ...downloaded };
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

/**
 * Watches files, folders and key files by their size and times, servers by asking them; contents are read only when
 * those change.
 */
export const createBundleSource = (sources: readonly BundleSource[], nowMs: () => number): BundleWatch => {
  const opened = sources.map((source): Opened => ({
    source,
    http: 'http' in source ? createHttpSource(source.http, { nowMs }) : undefined,
  }));
  const servers = opened.flatMap(({ http }) => (http === undefined ? [] : [http]));
  let lastStamps: string | undefined;

  const look: LookAtBundles = async () => {
    const lookedMs = nowMs();
    const seen = await listArchives(opened).catch((error: unknown) => {
      lastStamps = undefined;
      throw error;
    });
    const confirmedMs = Math.min(...seen.map((each) => each.confirmedMs ?? lookedMs));
    const stamps = await stampsOf(seen);
    if (stamps === lastStamps) return { files: undefined, confirmedMs };
    const files: SourceFile[] = [];
    for (const each of seen) {
      const file = await readWhole(each);
      if (file === undefined) return NOT_YET;
      files.push(file);
    }
    lastStamps = stamps;
    return { files, confirmedMs };
  };

  return {
    look,
    seed: (kept) => {
      for (const { source, http } of opened) {
        const before = kept.find((archive) => archive.source === sourceName(source));
        if (before !== undefined) http?.seed({ bytes: before.bytes, deltas: before.deltas ?? [], etag: before.etag });
      }
    },
    forget: () => {
      lastStamps = undefined;
    },
    resync: () => {
      for (const server of servers) server.resync();
    },
    start: (onChange) => {
      for (const server of servers) server.start(onChange);
    },
    remotes: () => servers.map((server) => server.status()),
    close: async () => {
      await Promise.all(servers.map((server) => server.close()));
    },
  };
};
