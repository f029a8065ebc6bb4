import { readFileSync } from 'node:fs';
import { AppError, errorCode, errorMessage } from '../contracts/errors.ts';
import { isObject } from '../contracts/json.ts';
import { replaceFile } from './files.ts';

/** How far a reader has passed on an emitter's spool: the number of the next record. */
export interface SpoolCursor {
  readonly emitter: string;
  readonly next: bigint;
}

/**
 * Undefined when there is none. Throws `spool_corrupt` when the file is not a cursor: starting at 0 again is safe
 * for a relay (everything is sent twice), so the caller decides.
 */
export const readCursor = (path: string): SpoolCursor | undefined => {
  let value: unknown;
  try {
    value = JSON.parse(readFileSync(path, 'utf8'));
  } catch (cause) {
    if (errorCode(cause) === 'ENOENT') return undefined;
    throw new AppError('spool_corrupt', `${path}: ${errorMessage(cause)}`, { cause });
  }
  if (!isObject(value) || typeof value['emitter'] !== 'string' || typeof value['next'] !== 'string')
    throw new AppError('spool_corrupt', `${path}: is not a cursor`);
  if (!/^(0|[1-9]\d{0,18})$/.test(value['next'])) throw new AppError('spool_corrupt', `${path}: is not a cursor`);
  return { emitter: value['emitter'], next: BigInt(value['next']) };
};

/** Replaces the cursor file, all or nothing, durably. */
export const saveCursor = (path: string, cursor: SpoolCursor): void =>
  replaceFile(path, `${JSON.stringify({ emitter: cursor.emitter, next: cursor.next.toString() })}\n`);
