import { fork, type ChildProcess } from 'node:child_process';
import { existsSync, mkdirSync, renameSync, rmSync } from 'node:fs';
import { open as openFile, readdir } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { AppError, errorCode, isAppError } from '../../shared/contracts/errors.ts';
import { fsyncDirectory } from '../../shared/settings/home.ts';
import type { Sql } from '../core/append.ts';
import { databaseError, type Database } from '../core/database.ts';
import type { EmbeddedAnswer, EmbeddedMode, EmbeddedRequest } from './messages.ts';

export interface EmbeddedOptions {
  /** How long one statement may take before its process is ended; default 120 s. */
  readonly statementTimeoutMs?: number;
  /** How long a query may wait for the transaction before it; default 60 s. */
  readonly waitTimeoutMs?: number;
  /** How long to wait for another process to give the folder up, as one that was just killed does; default 10 s. */
  readonly lockTimeoutMs?: number;
  readonly startTimeoutMs?: number;
  /** Ends making or opening the database; then `startEmbeddedPostgres` rejects with its reason. */
  readonly signal?: AbortSignal | undefined;
}

/** Queries and transactions that may wait; more are refused. */
const MAX_WAITING = 1_000;
const FILES_AT_ONCE = 32;

interface Connection {
  readonly query: (text: string, parameters?: readonly unknown[]) => Promise<readonly unknown[]>;
  readonly isOpen: () => boolean;
  readonly close: () => Promise<void>;
}

const unavailable = (message: string): AppError => new AppError('database_unavailable', message);

/** The program of the child: beside this file, compiled or not. */
const spawn = (mode: EmbeddedMode, folder: string): ChildProcess => {
  const isSource = import.meta.url.endsWith('.ts');
  const program = fileURLToPath(new URL(isSource ? './process.ts' : './process.js', import.meta.url));
  const loader = isSource ? ['--import', pathToFileURL(createRequire(import.meta.url).resolve('tsx')).href] : [];
  return fork(program, [mode, folder], {
    serialization: 'advanced',
    execArgv: ['--disable-warning=ExperimentalWarning', ...loader],
    stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
  });
};

const exited = (child: ChildProcess): Promise<number | null> =>
  new Promise((resolve) => {
    if (child.exitCode !== null || child.signalCode !== null) resolve(child.exitCode);
    else child.once('exit', resolve);
  });

/** Resolves when the child is ready; rejects with what it says, or with `database_unavailable`. */
const ready = (child: ChildProcess, limitMs: number): Promise<void> =>
  new Promise((resolve, reject) => {
    const timer = setTimeout(() => {
      child.kill('SIGKILL');
      finish(unavailable(`the embedded database did not start within ${limitMs} ms`));
    }, limitMs);
    const onMessage = (answer: EmbeddedAnswer): void => {
      if (answer.kind === 'ready') finish();
      else if (answer.kind === 'failed') finish(new AppError(answer.code, answer.message));
    };
    const onEnd = (): void => finish(unavailable('the process of the embedded database ended while starting'));
    const finish = (error?: AppError): void => {
      clearTimeout(timer);
      child.off('message', onMessage);
      child.off('exit', onEnd);
      child.off('error', onEnd);
      if (error === undefined) resolve();
      else reject(error);
    };
    child.on('message', onMessage);
    child.once('exit', onEnd);
    child.on('error', onEnd);
  });

/** Tries until the process that holds the folder is gone, for so long. */
const whenUnlocked = async <T>(
  limitMs: number,
  signal: AbortSignal | undefined,
  attempt: () => Promise<T>,
): Promise<T> => {
  const deadline = Date.now() + limitMs;
  for (;;) {
    try {
      return await attempt();
    } catch (error) {
      if (!isAppError(error) || error.code !== 'database_locked' || Date.now() >= deadline) throw error;
      signal?.throwIfAborted();
      await sleep(100);
    }
  }
};

/** Makes an empty database in a process that ends, because making one takes 0.8 GB that it never gives back. */
const initialize = async (folder: string, limitMs: number, signal: AbortSignal | undefined): Promise<void> => {
  signal?.throwIfAborted();
  mkdirSync(dirname(folder), { recursive: true, mode: 0o700 });
  rmSync(`${folder}.new`, { recursive: true, force: true });
  const child = spawn('initialize', folder);
  const kill = (): void => void child.kill('SIGKILL');
  const timer = setTimeout(kill, limitMs);
  // What it made so far lies beside the database and is removed by the next start.
  signal?.addEventListener('abort', kill, { once: true });
  const failure: { answer?: EmbeddedAnswer } = {};
  child.on('message', (answer: EmbeddedAnswer) => {
    failure.answer = answer;
  });
  child.on('error', () => undefined);
  const code = await exited(child);
  clearTimeout(timer);
  signal?.removeEventListener('abort', kill);
  signal?.throwIfAborted();
  if (code !== 0) {
    if (failure.answer?.kind === 'failed' && failure.answer.code === 'database_locked')
      throw new AppError('database_locked', failure.answer.message);
    throw unavailable('the embedded database could not be made');
  }
  await syncFolder(`${folder}.new`);
  renameSync(`${folder}.new`, folder);
  fsyncDirectory(dirname(folder));
};

const connect = async (folder: string, startTimeoutMs: number, statementTimeoutMs: number): Promise<Connection> => {
  const child = spawn('serve', folder);
  await ready(child, startTimeoutMs);
  let isOpen = true;
  let lastId = 0;
  const pending = new Map<number, { resolve: (rows: readonly unknown[]) => void; reject: (error: AppError) => void }>();
  child.on('message', (answer: EmbeddedAnswer) => {
    if (answer.kind !== 'rows' && answer.kind !== 'error') return;
    const waiting = pending.get(answer.id);
    pending.delete(answer.id);
    if (answer.kind === 'rows') waiting?.resolve(answer.rows);
    else {
      const cause = Object.assign(new Error(answer.message), {
        // Without a SQLSTATE it is the engine that failed, not the statement.
        code: answer.sqlstate ?? 'XX000',
        constraint: answer.constraint,
      });
      waiting?.reject(databaseError(cause));
    }
  });
  child.on('exit', () => {
    isOpen = false;
    for (const { reject } of pending.values()) reject(unavailable('the process of the embedded database ended'));
    pending.clear();
  });
  return {
    isOpen: () => isOpen,
    query: (text, parameters) =>
      new Promise((resolve, reject) => {
        if (!isOpen) {
          reject(unavailable('the process of the embedded database ended'));
          return;
        }
        lastId += 1;
        const id = lastId;
        const timer = setTimeout(() => {
          // It blocks its thread: ending the process is the only way to stop it. Nothing that was acknowledged is lost.
          child.kill('SIGKILL');
        }, statementTimeoutMs);
        pending.set(id, {
          resolve: (rows) => {
            clearTimeout(timer);
            resolve(rows);
          },
          reject: (error) => {
            clearTimeout(timer);
            reject(error);
          },
        });
        const request: EmbeddedRequest = { id, text, ...(parameters === undefined ? {} : { parameters }) };
        child.send(request, (error) => {
          if (error === null) return;
          pending.get(id)?.reject(unavailable('the process of the embedded database does not listen'));
          pending.delete(id);
        });
      }),
    close: async () => {
      if (!isOpen) return;
      const timer = setTimeout(() => child.kill('SIGKILL'), 10_000);
      child.send('close', () => undefined);
      await exited(child);
      clearTimeout(timer);
    },
  };
};

/** Syncs every file and folder below `folder` to disk: PGlite itself never does. */
export const syncFolder = async (folder: string): Promise<void> => {
  const found = await readdir(folder, { recursive: true, withFileTypes: true });
  const paths = [
    folder,
    ...found
      .filter((each) => each.isFile() || each.isDirectory())
      .map(({ parentPath, name }) => join(parentPath, name)),
  ];
  let next = 0;
  const worker = async (): Promise<void> => {
    for (;;) {
      const path = paths[next];
      next += 1;
      if (path === undefined) return;
      try {
        const file = await openFile(path, 'r');
        try {
          await file.sync();
        } finally {
          await file.close();
        }
      } catch (error) {
        // The database removed it meanwhile.
        if (errorCode(error) !== 'ENOENT') throw error;
      }
    }
  };
  await Promise.all(Array.from({ length: FILES_AT_ONCE }, worker));
};

/**
 * The embedded Postgres in `folder`, made when it is missing, in a process of its own. One session: transactions and
 * queries take turns in the order in which they ask (so `query` inside a transaction's work must be the transaction's
 * own). When the process dies the next query starts it again. Rejects with `database_locked` when another process
 * uses the folder, `ledger_corrupt` when it cannot be opened.
 */
export const startEmbeddedPostgres = async (folder: string, options: EmbeddedOptions = {}): Promise<Database> => {
  const statementTimeoutMs = options.statementTimeoutMs ?? 120_000;
  const waitTimeoutMs = options.waitTimeoutMs ?? 60_000;
  const lockTimeoutMs = options.lockTimeoutMs ?? 10_000;
  const startTimeoutMs = options.startTimeoutMs ?? 120_000;
  const { signal } = options;
  const open = (): Promise<Connection> =>
    whenUnlocked(lockTimeoutMs, signal, () => connect(folder, startTimeoutMs, statementTimeoutMs));

  if (!existsSync(join(folder, 'PG_VERSION'))) {
    if (existsSync(folder)) throw new AppError('ledger_corrupt', `${folder}: is not a database`);
    await whenUnlocked(lockTimeoutMs, signal, () => initialize(folder, startTimeoutMs, signal));
  }
  signal?.throwIfAborted();
  let connection = await open();
  if (signal?.aborted === true) {
    await connection.close();
    throw signal.reason;
  }
  let isClosed = false;

  let waiting = 0;
  let tail: Promise<unknown> = Promise.resolve();
  /** Runs `work` when everything that asked before is done; gives up waiting, not working, after a time. */
  const inTurn = async <T>(work: (connection: Connection) => Promise<T>): Promise<T> => {
    if (waiting >= MAX_WAITING) throw unavailable('too many queries wait for the embedded database');
    waiting += 1;
    let isGivenUp = false;
    const turn = tail.then(async () => {
      waiting -= 1;
      if (isGivenUp) return undefined;
      clearTimeout(timer);
      if (isClosed) throw unavailable('the embedded database is closed');
      if (!connection.isOpen()) connection = await open();
      return { value: await work(connection) };
    });
    tail = turn.catch(() => undefined);
    let timer: NodeJS.Timeout | undefined;
    const limit = new Promise<undefined>((resolve) => {
      timer = setTimeout(() => {
        isGivenUp = true;
        resolve(undefined);
      }, waitTimeoutMs);
    });
    try {
      const result = await Promise.race([turn, limit]);
      if (result === undefined) throw unavailable('the embedded database was busy for too long');
      return result.value;
    } finally {
      clearTimeout(timer);
    }
  };

  const sqlOf = (current: Connection): Sql => ({
    query: <Row>(text: string, parameters?: readonly unknown[]) =>
      current.query(text, parameters) as Promise<readonly Row[]>,
  });

  return {
    query: <Row>(text: string, parameters?: readonly unknown[]) =>
      inTurn((current) => sqlOf(current).query<Row>(text, parameters)),
    transaction: (work) =>
      inTurn(async (current) => {
        const sql = sqlOf(current);
        await sql.query('begin');
        try {
          const result = await work(sql);
          // A transaction that a failed statement ended takes a commit without an error, and rolls back.
          await sql.query('select 1');
          await sql.query('commit');
          return result;
        } catch (error) {
          // The process that died takes its transaction with it.
          if (current.isOpen()) await sql.query('rollback');
          throw error;
        }
      }),
    flush: async () => {
      await inTurn((current) => current.query('checkpoint'));
      await syncFolder(folder);
    },
    close: async () => {
      await tail;
      isClosed = true;
      await connection.close();
    },
  };
};
