import { closeSync, fsyncSync, linkSync, mkdirSync, openSync, readFileSync, unlinkSync, writeSync } from 'node:fs';
import { dirname } from 'node:path';
import { randomBytes } from 'node:crypto';
import { AppError, errorCode } from '../../shared/contracts/errors.ts';
import { isObject } from '../../shared/contracts/json.ts';

/** Who holds a lock: a process id alone may be another process's by now. */
interface Holder {
  readonly pid: number;
  /** When the process started, in ticks since the machine did; empty where the system does not say. */
  readonly started: string;
  /** Which start of the machine that was. */
  readonly machine: string;
}

const readText = (path: string): string => {
  try {
    return readFileSync(path, 'utf8').trim();
  } catch {
    return '';
  }
};

const startOf = (pid: number): string => readText(`/proc/${pid}/stat`).split(') ').at(-1)?.split(' ')[19] ?? '';

/** Names this start of the machine, where the system tells (Linux); else empty. */
export const machineStart = (): string => readText('/proc/sys/kernel/random/boot_id');

const self = (): Holder => ({ pid: process.pid, started: startOf(process.pid), machine: machineStart() });

const readHolder = (path: string): Holder | undefined => {
  try {
    const value: unknown = JSON.parse(readFileSync(path, 'utf8'));
    if (!isObject(value)) return undefined;
    const { pid, started, machine } = value;
    return typeof pid === 'number' && typeof started === 'string' && typeof machine === 'string'
      ? { pid, started, machine }
      : undefined;
  } catch {
    return undefined;
  }
};

const isAlive = ({ pid, started, machine }: Holder): boolean => {
  if (machine !== machineStart()) return false;
  try {
    process.kill(pid, 0);
  } catch (error) {
    if (errorCode(error) === 'ESRCH') return false;
  }
  return startOf(pid) === started;
};

/** Makes `path` with our name in it, whole or not at all; false when it is there already. */
const claim = (path: string): boolean => {
  const temporary = `${path}.${randomBytes(6).toString('hex')}`;
  const fd = openSync(temporary, 'wx', 0o600);
  try {
    writeSync(fd, JSON.stringify(self()));
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
  try {
    linkSync(temporary, path);
    return true;
  } catch (error) {
    if (errorCode(error) === 'EEXIST') return false;
    throw error;
  } finally {
    unlinkSync(temporary);
  }
};

const removeIfThere = (path: string): void => {
  try {
    unlinkSync(path);
  } catch (error) {
    if (errorCode(error) !== 'ENOENT') throw error;
  }
};

/**
 * Takes the lock file `path` for this process; answers how to give it back. A lock whose process is gone is taken
 * over, by one process at a time. Throws `database_locked` with the process id of a living holder.
 */
export const lockDirectory = (path: string): (() => void) => {
  mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
  const takeover = `${path}.takeover`;
  for (let attempt = 0; attempt < 3; attempt += 1) {
    if (claim(path)) return () => removeIfThere(path);
    const holder = readHolder(path);
    if (holder !== undefined && isAlive(holder))
      throw new AppError('database_locked', `${path}: process ${holder.pid} uses the embedded database`);
    // Two that find the same stale lock must not each remove it, or the second removes the first one's new lock.
    if (!claim(takeover)) {
      const other = readHolder(takeover);
      if (other !== undefined && isAlive(other))
        throw new AppError('database_locked', `${path}: process ${other.pid} is taking the embedded database over`);
      removeIfThere(takeover);
      continue;
    }
    try {
      const current = readHolder(path);
      if (current === undefined || !isAlive(current)) removeIfThere(path);
    } finally {
      removeIfThere(takeover);
    }
  }
  throw new AppError('database_locked', `${path}: several processes want the embedded database at once`);
};
