import { mkdirSync, readFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { AppError, errorCode, errorMessage } from '../../shared/contracts/errors.ts';
import { canonicalJson, isObject } from '../../shared/contracts/json.ts';
import { replaceFile } from '../../shared/spool/files.ts';
import { formatLsn, parseLsn, type Lsn } from '../core/wal-changes.ts';

/** How far the write-ahead log was watched, kept outside the database, so that a slot that is gone is missed. */
export interface TripwireMemory {
  readonly slot: string;
  /** Of the installation of Postgres. */
  readonly system: string;
  readonly lsn: Lsn;
}

export interface MemoryFile {
  /** Undefined: nothing was ever watched, or what the file holds is not what was written. */
  readonly read: () => TripwireMemory | undefined;
  /** Durable when it returns. Throws `tripwire_failed`. */
  readonly write: (memory: TripwireMemory) => void;
}

const parse = (text: string): TripwireMemory | undefined => {
  let document: unknown;
  try {
    document = JSON.parse(text);
  } catch {
    return undefined;
  }
  if (!isObject(document)) return undefined;
  const { slot, system, lsn: place } = document;
  const lsn = typeof place === 'string' ? parseLsn(place) : undefined;
  return typeof slot === 'string' && typeof system === 'string' && lsn !== undefined
    ? { slot, system, lsn }
    : undefined;
};

/** RFC 8785 JSON `{lsn, slot, system}` and a newline. Throws `tripwire_failed` when the folder cannot be made. */
export const openMemoryFile = (file: string): MemoryFile => {
  const failed = (cause: unknown): AppError =>
    new AppError('tripwire_failed', `${file}: ${errorCode(cause) ?? errorMessage(cause)}`, { cause });
  try {
    mkdirSync(dirname(file), { recursive: true, mode: 0o700 });
  } catch (cause) {
    throw failed(cause);
  }
  return {
    read: () => {
      try {
        return parse(readFileSync(file, 'utf8'));
      } catch (cause) {
        if (errorCode(cause) === 'ENOENT') return undefined;
        throw failed(cause);
      }
    },
    write: ({ slot, system, lsn }) => {
      try {
        replaceFile(file, `${canonicalJson({ slot, system, lsn: formatLsn(lsn) })}\n`);
      } catch (cause) {
        throw failed(cause);
      }
    },
  };
};
