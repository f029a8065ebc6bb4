import { randomBytes } from 'node:crypto';
import { closeSync, linkSync, mkdirSync, openSync, readdirSync, unlinkSync } from 'node:fs';
import { connect, createServer, type Server } from 'node:net';
import { join } from 'node:path';
import { AppError, errorCode, errorMessage } from '../contracts/errors.ts';

export interface HeldLock {
  /** Gives the lock up. A process that ends in any way gives it up too. */
  readonly release: () => Promise<void>;
  /** Whether another one asked for it meanwhile. */
  readonly isWanted: () => boolean;
}

/** The longest path of a socket is 107 bytes on Linux and 103 on macOS. */
const MAX_SOCKET_PATH_BYTES = 103;
const MAX_ATTEMPTS = 16;
const CONNECT_TIMEOUT_MS = 5_000;

/**
 * Where sockets of `directory` are addressed: itself, or, when that is too long for a socket, through an open
 * descriptor of it (Linux).
 */
const socketDirectory = (
  directory: string,
  nameBytes: number,
): { readonly path: string; readonly close: () => void } => {
  if (Buffer.byteLength(directory) + 1 + nameBytes <= MAX_SOCKET_PATH_BYTES)
    return { path: directory, close: () => undefined };
  if (process.platform !== 'linux')
    throw new AppError('spool_failed', `${directory}: the path is too long for a lock; choose a shorter home`);
  const fd = openSync(directory, 'r');
  return { path: `/proc/self/fd/${fd}`, close: () => closeSync(fd) };
};

const listen = (path: string, onAsked: () => void): Promise<Server> =>
  new Promise((resolve, reject) => {
    const server = createServer((connection) => {
      onAsked();
      connection.destroy();
    });
    server.once('error', reject);
    server.listen(path, () => {
      server.removeListener('error', reject);
      // An error of one accepted connection must not end the process.
      server.on('error', () => undefined);
      server.unref();
      resolve(server);
    });
  });

const closeServer = (server: Server): Promise<void> => new Promise((resolve) => server.close(() => resolve()));

/** False only when the kernel says that nobody listens. Anything unclear counts as alive. */
const isAlive = (path: string): Promise<boolean> =>
  new Promise((resolve) => {
    const connection = connect(path);
    const answer = (alive: boolean): void => {
      connection.destroy();
      resolve(alive);
    };
    connection.setTimeout(CONNECT_TIMEOUT_MS, () => answer(true));
    connection.once('connect', () => answer(true));
    connection.once('error', (error) => answer(errorCode(error) !== 'ECONNREFUSED' && errorCode(error) !== 'ENOENT'));
  });

const generations = (directory: string, name: string): readonly number[] =>
  readdirSync(directory)
    .filter((file) => file.startsWith(`${name}.`) && /^\d{1,15}$/.test(file.slice(name.length + 1)))
    .map((file) => Number(file.slice(name.length + 1)))
    .toSorted((a, b) => b - a);

/**
 * Takes the exclusive lock `name` of `directory`, or returns undefined when a living process holds it. The lock is
 * a listening Unix socket, so it ends with its process, whatever ends that, and works between containers that share
 * the folder on one machine (process ids would not). It does not work over network file systems.
 *
 * The file is `<name>.<generation>`. A dead lock is never removed before its successor exists: the one who links the
 * next generation first has it, and the highest generation counts. So two cannot both take over.
 */
export const acquireLock = async (directory: string, name = 'lock'): Promise<HeldLock | undefined> => {
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  const temporary = `${name}-${randomBytes(6).toString('hex')}`;
  const sockets = socketDirectory(directory, Math.max(temporary.length, name.length + 16));
  let server: Server | undefined;
  let held = false;
  try {
    let wanted = false;
    server = await listen(join(sockets.path, temporary), () => {
      wanted = true;
    });
    for (let attempt = 0; attempt < MAX_ATTEMPTS; attempt += 1) {
      const highest = generations(directory, name)[0] ?? 0;
      if (highest > 0 && (await isAlive(join(sockets.path, `${name}.${highest}`)))) return undefined;
      const mine = highest + 1;
      try {
        linkSync(join(directory, temporary), join(directory, `${name}.${mine}`));
      } catch (cause) {
        if (errorCode(cause) === 'EEXIST') continue;
        throw cause;
      }
      const [top, ...older] = generations(directory, name);
      // Overtaken while this process slept between looking and linking.
      if (top !== mine) continue;
      for (const generation of older) removeQuietly(join(directory, `${name}.${generation}`));
      held = true;
      const listening = server;
      return {
        release: async () => {
          await closeServer(listening);
        },
        isWanted: () => wanted,
      };
    }
    return undefined;
  } catch (cause) {
    throw new AppError('spool_failed', `${directory}: cannot be locked (${errorCode(cause) ?? errorMessage(cause)})`, {
      cause,
    });
  } finally {
    removeQuietly(join(directory, temporary));
    if (!held && server !== undefined) await closeServer(server);
    sockets.close();
  }
};

const removeQuietly = (path: string): void => {
  try {
    unlinkSync(path);
  } catch {
    // Gone already: somebody newer cleaned up.
  }
};

/** True when a living process, this one included, holds the lock `name` of `directory`. Takes nothing. */
export const isLockHeld = async (directory: string, name = 'lock'): Promise<boolean> => {
  let highest: number | undefined;
  try {
    [highest] = generations(directory, name);
  } catch (cause) {
    if (errorCode(cause) === 'ENOENT') return false;
    throw cause;
  }
  if (highest === undefined) return false;
  const file = `${name}.${highest}`;
  const sockets = socketDirectory(directory, file.length);
  try {
    return await isAlive(join(sockets.path, file));
  } finally {
    sockets.close();
  }
};
