import { randomBytes } from 'node:crypto';
import { closeSync, fdatasync, fdatasyncSync, fsyncSync, openSync, renameSync, unlinkSync, writeSync } from 'node:fs';
import { dirname } from 'node:path';
import { fsyncDirectory } from '../settings/home.ts';

/** What the spool's writer asks of the file system where it can fail; tests put faults here. */
export interface SpoolFs {
  /** Returns how many bytes were written, which may be fewer than asked. */
  readonly write: (fd: number, bytes: Buffer, offset: number, length: number, position: number) => number;
  readonly syncNow: (fd: number) => void;
  readonly sync: (fd: number, done: (error?: Error | null) => void) => void;
}

export const realSpoolFs: SpoolFs = {
  write: (fd, bytes, offset, length, position) => writeSync(fd, bytes, offset, length, position),
  syncNow: (fd) => fdatasyncSync(fd),
  sync: (fd, done) => fdatasync(fd, done),
};

/** Writes all of `bytes[0..length)` at `position`; a short write goes on where it stopped. */
export const writeFully = (
  fs: Pick<SpoolFs, 'write'>,
  fd: number,
  bytes: Buffer,
  length: number,
  position: number,
): void => {
  let done = 0;
  while (done < length) {
    const written = fs.write(fd, bytes, done, length - done, position + done);
    if (written <= 0) throw new Error('the file system accepted no bytes');
    done += written;
  }
};

/** What replacing a file asks of the file system; tests put faults here. */
export interface ReplaceFs extends Pick<SpoolFs, 'write'> {
  readonly create: (path: string) => number;
  readonly sync: (fd: number) => void;
  readonly rename: (from: string, to: string) => void;
  readonly syncFolder: (path: string) => void;
}

export const realReplaceFs: ReplaceFs = {
  create: (path) => openSync(path, 'wx', 0o600),
  write: realSpoolFs.write,
  sync: fsyncSync,
  rename: renameSync,
  syncFolder: fsyncDirectory,
};

/**
 * Replaces the file at `path`, all or nothing: a reader sees the old content or the new, also after a power cut.
 * Mode 0600.
 */
export const replaceFile = (path: string, content: string | Uint8Array, fs: ReplaceFs = realReplaceFs): void => {
  const bytes = typeof content === 'string' ? Buffer.from(content, 'utf8') : Buffer.from(content);
  const temporary = `${path}.${randomBytes(6).toString('hex')}.tmp`;
  const fd = fs.create(temporary);
  try {
    try {
      writeFully(fs, fd, bytes, bytes.length, 0);
      fs.sync(fd);
    } finally {
      closeSync(fd);
    }
    fs.rename(temporary, path);
  } catch (cause) {
    try {
      unlinkSync(temporary);
    } catch {
      // Renamed already, or never made: nothing is left behind.
    }
    throw cause;
  }
  fs.syncFolder(dirname(path));
};
