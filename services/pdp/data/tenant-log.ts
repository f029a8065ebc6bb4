import { mkdirSync, unlinkSync } from 'node:fs';
import { open, readdir, stat, type FileHandle } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { AppError, errorCode, errorMessage, isAppError } from '../../shared/contracts/errors.ts';
import { isObject } from '../../shared/contracts/json.ts';
import { fsyncDirectory } from '../../shared/settings/home.ts';
import { replaceFile } from '../../shared/spool/files.ts';
import { acquireLock, type HeldLock } from '../../shared/spool/lock.ts';
import { snapshotOf, tenantDataOf, type DataBook } from '../core/data-book.ts';
import { encodeRecord, recordOf, type DataRecord } from '../core/data-record.ts';
import type { Pushed } from '../core/data-stream.ts';
import { encodeDataFrame, readFrames } from './frames.ts';

const LOG_NAME = /^\d{16}\.log$/;
const LEFT_BEHIND = /^\d{16}\.log\..*\.tmp$/;
/** How often a file may be followed by another one while it is being opened. */
const READ_ATTEMPTS = 8;
const LOCK_PAUSE_MS = 5;
/** How long a process that just had the lock leaves it to those who asked for it: longer than their pause. */
const YIELD_MS = 12;

export interface TenantLog {
  /** Applies what others of this machine appended. Rejects with `data_corrupt`. */
  readonly catchUp: () => Promise<void>;
  /** Appends a record that takes effect, synced to disk, and applies it. */
  readonly append: (record: DataRecord) => Promise<Pushed>;
}

export interface TenantLogOptions {
  readonly directory: string;
  readonly tenant: string;
  readonly book: DataBook;
  /** A file larger than this, and than twice its snapshot, is followed by one that begins with a new snapshot. */
  readonly compactBytes: number;
  /** How long the lock of another process is waited for. */
  readonly lockWaitMs: number;
  readonly pause: (ms: number) => Promise<void>;
  readonly monotonicMs: () => number;
}

/** Whether a file in a tenant's folder holds a part of the stream. */
export const isLogFile = (name: string): boolean => LOG_NAME.test(name);

const logName = (offset: number): string => `${String(offset).padStart(16, '0')}.log`;
const numberOf = (value: unknown, member: string): number | undefined => {
  const found = isObject(value) ? value[member] : undefined;
  return typeof found === 'number' && Number.isSafeInteger(found) && found >= 0 ? found : undefined;
};

/**
 * One tenant's stream on one machine: `<first offset>.log` files, of which the newest counts. Several processes may
 * share it: each append takes the folder's lock, reads what is new, and then writes.
 */
export const createTenantLog = (options: TenantLogOptions): TenantLog => {
  const { directory, tenant, book } = options;
  let file: string | undefined;
  /** Bytes of `file` that were read. */
  let position = 0;
  let snapshotBytes = 0;
  /** The offset of the next record. */
  let next = 0;
  /** The end of `file` is perhaps not on the disk, and a later sync would not tell. */
  let isDoubtful = false;
  let yieldUntilMs = 0;
  let tail: Promise<unknown> = Promise.resolve();

  const corrupt = (name: string, at: number): AppError =>
    new AppError('data_corrupt', `${join(directory, name)}: is damaged at byte ${at}; restore it from a backup`);

  const newestFile = async (): Promise<string | undefined> => {
    try {
      return (await readdir(directory))
        .filter((name) => isLogFile(name))
        .toSorted()
        .at(-1);
    } catch (cause) {
      if (errorCode(cause) === 'ENOENT') return undefined;
      throw cause;
    }
  };

  const bytesFrom = async (name: string, from: number): Promise<Buffer> => {
    const handle = await open(join(directory, name), 'r');
    try {
      const { size } = await handle.stat();
      const bytes = Buffer.alloc(Math.max(0, size - from));
      let read = 0;
      while (read < bytes.length) {
        const { bytesRead } = await handle.read(bytes, read, bytes.length - read, from + read);
        if (bytesRead === 0) break;
        read += bytesRead;
      }
      return bytes.subarray(0, read);
    } finally {
      await handle.close();
    }
  };

  const takeSnapshot = (name: string, frame: unknown): void => {
    const offset = numberOf(frame, 'next');
    if (offset === undefined || !isObject(frame)) throw corrupt(name, 0);
    // A process that followed up to here has it already.
    if (offset <= next) return;
    const state = tenantDataOf(frame['snapshot']);
    if (state === undefined) throw corrupt(name, 0);
    next = offset;
    book.restore(tenant, state);
  };

  const takeRecord = async (name: string, frame: unknown): Promise<void> => {
    const offset = numberOf(frame, 'offset');
    const record = isObject(frame) ? recordOf(frame['record']) : undefined;
    if (offset === undefined || record === undefined || record.tenant !== tenant) throw corrupt(name, position);
    if (offset < next) return;
    if (offset > next) throw corrupt(name, position);
    await book.apply(record, offset);
    next = offset + 1;
  };

  const readNewest = async (): Promise<void> => {
    const newest = await newestFile();
    if (newest === undefined) return;
    if (newest !== file) {
      file = newest;
      position = 0;
    }
    const { size } = await stat(join(directory, newest));
    if (size === position) return;
    // What was applied here is gone from the log.
    if (size < position) throw corrupt(newest, size);
    const isFirst = position === 0;
    const { frames, end, isDamaged } = readFrames(await bytesFrom(newest, position));
    if (isDamaged || (isFirst && frames.length === 0)) throw corrupt(newest, position + end);
    const [snapshot, ...rest] = frames;
    if (isFirst) {
      takeSnapshot(newest, snapshot);
      snapshotBytes = Buffer.byteLength(JSON.stringify(snapshot), 'utf8');
    }
    for (const frame of isFirst ? rest : frames) await takeRecord(newest, frame);
    position += end;
  };

  const readNew = async (): Promise<void> => {
    for (let attempt = 1; ; attempt += 1) {
      try {
        return await readNewest();
      } catch (cause) {
        // Another process began a new file, and removed this one.
        if (errorCode(cause) !== 'ENOENT' || attempt === READ_ATTEMPTS) throw cause;
      }
    }
  };

  /**
   * With a snapshot that the record at `offset` follows. All or nothing, since it comes into being by a rename. Older
   * files go: the snapshot has what they had.
   */
  const beginFile = async (offset: number): Promise<void> => {
    const name = logName(offset);
    const body = encodeDataFrame(JSON.stringify({ v: 1, next: offset, snapshot: snapshotOf(book.stateOf(tenant)) }));
    replaceFile(join(directory, name), body);
    isDoubtful = false;
    next = offset;
    file = name;
    position = body.length;
    snapshotBytes = body.length;
    for (const other of await readdir(directory))
      if ((isLogFile(other) && other < name) || LEFT_BEHIND.test(other)) unlinkSync(join(directory, other));
  };

  const write = async (handle: FileHandle, frame: Buffer): Promise<void> => {
    // What a power cut left behind the last whole frame.
    await handle.truncate(position);
    for (let done = 0; done < frame.length;) {
      const { bytesWritten } = await handle.write(frame, done, frame.length - done, position + done);
      done += bytesWritten;
    }
  };

  const appendFrame = async (frame: Buffer): Promise<void> => {
    const handle = await open(join(directory, file ?? logName(next)), 'r+');
    try {
      try {
        await write(handle, frame);
      } catch (cause) {
        // Nobody reads a frame that is not whole.
        await handle.truncate(position).catch(() => undefined);
        throw cause;
      }
      isDoubtful = true;
      await handle.datasync();
      isDoubtful = false;
    } finally {
      await handle.close();
    }
    position += frame.length;
  };

  const lock = async (): Promise<HeldLock> => {
    const yieldMs = yieldUntilMs - options.monotonicMs();
    if (yieldMs > 0) await options.pause(yieldMs);
    const untilMs = options.monotonicMs() + options.lockWaitMs;
    while (options.monotonicMs() < untilMs) {
      const held = await acquireLock(directory);
      if (held !== undefined) return held;
      await options.pause(LOCK_PAUSE_MS);
    }
    throw new AppError('data_unavailable', `${directory}: another process does not give up its lock`);
  };

  const appendLocked = async (record: DataRecord): Promise<Pushed> => {
    await readNew();
    // One offset is left out, so that the name is another one, and whoever has read this file reads the new one.
    if (isDoubtful) await beginFile(next + 1);
    // Computed once, however large the document is: before it is written, since what has no effect is not.
    const { applied: tried, enter } = await book.tryOut(record, next);
    if (tried.kind === 'conflict')
      return { kind: 'conflict', pointer: tried.conflict.pointer, message: tried.conflict.message };
    if (tried.kind === 'repeated') throw new TypeError('an id was used twice');
    if (file === undefined || position > Math.max(options.compactBytes, 2 * snapshotBytes)) await beginFile(next);
    try {
      await appendFrame(encodeDataFrame(`{"offset":${next},"record":${encodeRecord(record)}}`));
    } catch (cause) {
      // Others may have applied it already, so it is not cut off: what follows is a snapshot without it, which to them
      // is newer. Where that cannot be written either the record stays, for all alike.
      if (isDoubtful) await beginFile(next + 2).catch(() => undefined);
      throw cause;
    }
    next += 1;
    enter();
    return { kind: 'applied', identity: tried.identity };
  };

  const append = async (record: DataRecord): Promise<Pushed> => {
    if (mkdirSync(directory, { recursive: true, mode: 0o700 }) !== undefined)
      for (const above of [dirname(directory), dirname(dirname(directory))]) fsyncDirectory(above);
    const held = await lock();
    try {
      return await appendLocked(record);
    } catch (cause) {
      if (isAppError(cause)) throw cause;
      const why = errorCode(cause) ?? errorMessage(cause);
      throw new AppError('data_unavailable', `${directory}: the data could not be stored (${why})`, { cause });
    } finally {
      await held.release();
      if (held.isWanted()) yieldUntilMs = options.monotonicMs() + YIELD_MS;
    }
  };

  const inTurn = <T>(work: () => Promise<T>): Promise<T> => {
    const done = tail.then(work);
    tail = done.catch(() => undefined);
    return done;
  };

  return { catchUp: () => inTurn(readNew), append: (record) => inTurn(() => append(record)) };
};
