import { randomUUID } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdir, open, readdir, readFile, rename, rm } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Type, type Static } from 'typebox';
import { Compile } from 'typebox/compile';
import { AppError, errorCode, errorMessage } from '../../shared/contracts/errors.ts';
import { fsyncDirectory } from '../../shared/settings/home.ts';
import { acquireLock, type HeldLock } from '../../shared/spool/lock.ts';
import { sha256HexInTurns } from './bytes-in-turns.ts';

const STATE_FILE = 'state.json';
const SHA256 = '^[0-9a-f]{64}$';

const State = Type.Object({
  version: Type.Literal(1),
  /** As the settings named them. */
  sources: Type.Array(Type.String()),
  /** The highest serial that was ever active, by bundle name. */
  serials: Type.Record(Type.String(), Type.Integer({ minimum: 0 })),
  confirmed_ms: Type.Integer({ minimum: 0 }),
  archives: Type.Array(
    Type.Object({
      source: Type.String(),
      path: Type.String(),
      sha256: Type.String({ pattern: SHA256 }),
      deltas: Type.Optional(Type.Array(Type.String({ pattern: SHA256 }), { maxItems: 64 })),
      etag: Type.Optional(Type.String()),
    }),
  ),
});
type State = Static<typeof State>;

const stateCheck = Compile(State);

export interface KeptArchive {
  /** Which source it is of. */
  readonly source: string;
  /** Where it was read from. */
  readonly path: string;
  readonly bytes: Uint8Array;
  /** What was applied to it, oldest first. */
  readonly deltas: readonly Uint8Array[];
  /** What its server called this version; undefined for a file. */
  readonly etag: string | undefined;
}

/** The last good set of one tenant (or of all others), and what must not be forgotten of those before it. */
export interface KeptSet {
  readonly sources: readonly string[];
  readonly serials: ReadonlyMap<string, number>;
  readonly confirmedMs: number;
  readonly archives: readonly KeptArchive[];
}

/** Archives are read when somebody needs them; that throws `bundle_invalid` when they are not what was written. */
export type FoundSet = Omit<KeptSet, 'archives'> & { readonly archives: () => Promise<readonly KeptArchive[]> };

export interface BundleStore {
  /** Undefined when nothing was kept. Throws `bundle_invalid` when what is there is not what was written. */
  readonly read: () => Promise<FoundSet | undefined>;
  /**
   * All or nothing, durable when it resolves. A serial that is kept already never goes back; archives that another
   * process kept of a higher one stay. Resolves to the highest serials that are kept now, whoever wrote them. Throws
   * `spool_locked` when another process writes for too long, and `bundle_invalid`, with nothing written, when the state
   * that is there cannot be read: what it remembers would be lost.
   */
  readonly write: (kept: KeptSet) => Promise<ReadonlyMap<string, number>>;
}

const writeWhole = async (file: string, bytes: Uint8Array): Promise<void> => {
  const scratch = `${file}.${randomUUID()}.tmp`;
  try {
    const handle = await open(scratch, 'wx', 0o600);
    try {
      await handle.writeFile(bytes);
      await handle.sync();
    } finally {
      await handle.close();
    }
    await rename(scratch, file);
  } finally {
    await rm(scratch, { force: true });
  }
};

const invalid = (folder: string, why: string, cause?: unknown): AppError =>
  new AppError('bundle_invalid', `what was kept in ${folder} cannot be used: ${why}`, { cause });

/** Without it an older serial could become active, so nothing does until an operator has looked. */
const damaged = (folder: string, why: string, cause?: unknown): AppError =>
  invalid(folder, `${why}; which serials were active is not known: to forget them, stop and remove that folder`, cause);

const readState = async (folder: string): Promise<State | undefined> => {
  let text: string;
  try {
    text = await readFile(path.join(folder, STATE_FILE), 'utf8');
  } catch (cause) {
    // Where no folder can be there is nothing to forget; writing says why.
    if (errorCode(cause) === 'ENOENT' || errorCode(cause) === 'ENOTDIR') return undefined;
    throw damaged(folder, errorMessage(cause), cause);
  }
  let state: unknown;
  try {
    state = JSON.parse(text);
  } catch (cause) {
    throw damaged(folder, `${STATE_FILE} is no JSON`, cause);
  }
  if (!stateCheck.Check(state)) throw damaged(folder, `${STATE_FILE} has another form`);
  return state;
};

const writeState = async (folder: string, state: State): Promise<void> => {
  // What could not be read again would refuse every later activation.
  if (!stateCheck.Check(state)) throw new AppError('internal', `${folder}: what is to be kept has another form`);
  await writeWhole(path.join(folder, STATE_FILE), Buffer.from(JSON.stringify(state), 'utf8'));
  fsyncDirectory(folder);
};

const archiveFile = (folder: string, digest: string): string => path.join(folder, `${digest}.tar.gz`);

const readArchive = async (folder: string, digest: string): Promise<Uint8Array> => {
  const bytes = await readFile(archiveFile(folder, digest)).catch((cause: unknown) => {
    throw invalid(folder, errorMessage(cause), cause);
  });
  if ((await sha256HexInTurns(bytes)) !== digest) throw invalid(folder, `${digest}.tar.gz was changed`);
  return bytes;
};

const sameTexts = (a: readonly string[], b: readonly string[]): boolean =>
  a.length === b.length && a.every((text, index) => text === b[index]);

const LOCK_WAIT_MS = 10;
const LOCK_TIMEOUT_MS = 5_000;

/** Processes that share the folder write one after the other. */
const lock = async (folder: string): Promise<HeldLock> => {
  for (const deadlineMs = performance.now() + LOCK_TIMEOUT_MS; ;) {
    const held = await acquireLock(folder);
    if (held !== undefined) return held;
    if (performance.now() > deadlineMs)
      throw new AppError('spool_locked', `${folder}: another process keeps bundles there for too long`);
    await sleep(LOCK_WAIT_MS + Math.random() * LOCK_WAIT_MS);
  }
};

/**
 * Keeps the last good set in a folder: archives under the digest of their bytes, then `state.json` that names them,
 * each replaced as a whole, so that a reader finds the old set or the new one.
 */
export const createBundleStore = (folder: string): BundleStore => {
  /** Digests of archives that this process has written or read. */
  const sound = new Set<string>();

  const putArchive = async (digest: string, bytes: Uint8Array): Promise<void> => {
    const file = archiveFile(folder, digest);
    const isThere = sound.has(digest)
      ? existsSync(file)
      : await readArchive(folder, digest).then(
          () => true,
          () => false,
        );
    if (!isThere) await writeWhole(file, bytes);
    sound.add(digest);
  };

  const write = async ({ sources, serials, confirmedMs, archives }: KeptSet): Promise<ReadonlyMap<string, number>> => {
    const before = await readState(folder);
    // A map: a bundle may be called `constructor`.
    const highest = new Map(Object.entries(before?.serials ?? {}));
    // Another worker may have activated a newer set already; this one is about to.
    const isOvertaken = [...serials].some(([name, serial]) => (highest.get(name) ?? 0) > serial);
    for (const [name, serial] of serials) highest.set(name, Math.max(serial, highest.get(name) ?? 0));
    if (isOvertaken && before !== undefined && sameTexts(before.sources, sources)) {
      await writeState(folder, { ...before, serials: Object.fromEntries(highest) });
      return highest;
    }
    const contents = new Map<string, Uint8Array>();
    const noted = async (bytes: Uint8Array): Promise<string> => {
      const digest = await sha256HexInTurns(bytes);
      contents.set(digest, bytes);
      return digest;
    };
    const named: State['archives'] = [];
    for (const { source, path: from, bytes, deltas, etag } of archives)
      named.push({
        source,
        path: from,
        sha256: await noted(bytes),
        ...(deltas.length === 0 ? {} : { deltas: await Promise.all(deltas.map(noted)) }),
        ...(etag === undefined ? {} : { etag }),
      });
    for (const [digest, bytes] of contents) await putArchive(digest, bytes);
    const state: State = {
      version: 1,
      sources: [...sources],
      serials: Object.fromEntries(highest),
      confirmed_ms: confirmedMs,
      archives: named,
    };
    await writeState(folder, state);
    const old = (await readdir(folder)).filter((name) => /^[0-9a-f]{64}\.tar\.gz$/.test(name));
    for (const name of old) {
      if (contents.has(name.slice(0, 64))) continue;
      await rm(path.join(folder, name), { force: true });
      sound.delete(name.slice(0, 64));
    }
    return highest;
  };

  return {
    read: async () => {
      const state = await readState(folder);
      if (state === undefined) return undefined;
      const archives = (): Promise<readonly KeptArchive[]> =>
        Promise.all(
          state.archives.map(async ({ source, path: from, sha256, deltas = [], etag }) => ({
            source,
            path: from,
            etag,
            bytes: await readArchive(folder, sha256),
            deltas: await Promise.all(deltas.map((digest) => readArchive(folder, digest))),
          })),
        );
      const serials = new Map(Object.entries(state.serials));
      return { sources: state.sources, serials, confirmedMs: state.confirmed_ms, archives };
    },
    write: async (kept) => {
      await mkdir(folder, { recursive: true, mode: 0o700 });
      const held = await lock(folder);
      try {
        return await write(kept);
      } finally {
        await held.release();
      }
    },
  };
};
