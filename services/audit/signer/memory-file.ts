import { mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { sha256Hex } from '../../shared/contracts/bytes.ts';
import { AppError, errorCode, errorMessage } from '../../shared/contracts/errors.ts';
import { realReplaceFs, replaceFile, type ReplaceFs } from '../../shared/spool/files.ts';
import type { SigningMemory } from '../core/signing.ts';
import { formatMemory, parseMemory } from '../core/signing-memory.ts';

/** What the signer remembers of each log: one file, replaced atomically and synced. */
export interface MemoryFolder {
  /** Undefined: nothing was ever signed. `unreadable`: there is a file, and it is not what was written. */
  readonly read: (origin: string) => SigningMemory | undefined | 'unreadable';
  /** Durable when it returns. Throws `signer_memory_failed`; what is in the file then is the old or the new. */
  readonly write: (memory: SigningMemory) => void;
}

/** `<first 32 hex digits of SHA-256(origin)>.json`: an origin may have any length, and none leads out of the folder. */
export const memoryFile = (folder: string, origin: string): string =>
  join(folder, `${sha256Hex(origin).slice(0, 32)}.json`);

/** Throws `signer_memory_failed` when the folder cannot be made. */
export const openMemoryFolder = (folder: string, fs: ReplaceFs = realReplaceFs): MemoryFolder => {
  const failed = (cause: unknown): AppError =>
    new AppError('signer_memory_failed', `${folder}: ${errorCode(cause) ?? errorMessage(cause)}`, { cause });
  try {
    mkdirSync(folder, { recursive: true, mode: 0o700 });
  } catch (cause) {
    throw failed(cause);
  }
  return {
    read: (origin) => {
      let text: string;
      try {
        text = readFileSync(memoryFile(folder, origin), 'utf8');
      } catch (cause) {
        if (errorCode(cause) === 'ENOENT') return undefined;
        throw failed(cause);
      }
      return parseMemory(text, origin) ?? 'unreadable';
    },
    write: (memory) => {
      try {
        replaceFile(memoryFile(folder, memory.origin), formatMemory(memory), fs);
      } catch (cause) {
        throw failed(cause);
      }
    },
  };
};
