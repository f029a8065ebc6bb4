import { mkdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { parseAck, type Ack } from '../contracts/ack.ts';
import { AppError, errorCode, errorMessage } from '../contracts/errors.ts';
import type { VerifierKey } from '../contracts/signatures.ts';
import { homePaths } from '../settings/home.ts';
import { replaceFile } from './files.ts';

const MAX_ACK_FILE_BYTES = 64 * 1024 * 1024;

const ackFile = (home: string, emitter: string): string => join(homePaths(home).acks, emitter);

/**
 * Replaces `home/acks/<emitter>`, all or nothing: one signed ack a line, one for each boot and tenant that the
 * emitter's spool may still hold. What is left out counts as not acknowledged.
 */
export const writeAckFile = (home: string, emitter: string, acks: readonly Ack[]): void => {
  mkdirSync(homePaths(home).acks, { recursive: true, mode: 0o700 });
  replaceFile(ackFile(home, emitter), acks.map((ack) => `${JSON.stringify(ack)}\n`).join(''));
};

export interface AckFileContent {
  /** Well formed, of this emitter, signed by a trusted key. */
  readonly acks: readonly Ack[];
  /** Lines that were not; they count for nothing. */
  readonly refused: number;
  /** Tells this content from the next: the file's time of change. */
  readonly version: string;
}

/**
 * The acks of an emitter, or undefined when there is no file or it is still `known` (a `version`).
 * Throws `spool_failed` when the file cannot be read.
 */
export const readAckFile = (
  home: string,
  emitter: string,
  keys: readonly VerifierKey[],
  known?: string,
): AckFileContent | undefined => {
  const path = ackFile(home, emitter);
  try {
    const { mtimeNs, ino, size } = statSync(path, { bigint: true });
    const version = `${ino}/${mtimeNs}/${size}`;
    if (version === known) return undefined;
    if (size > MAX_ACK_FILE_BYTES) throw new AppError('spool_failed', `${path}: is larger than 64 MiB`);
    const acks: Ack[] = [];
    let refused = 0;
    for (const line of readFileSync(path, 'utf8').split('\n')) {
      if (line === '') continue;
      const ack = parseLine(line, keys);
      if (ack?.emitter === emitter) acks.push(ack);
      else refused += 1;
    }
    return { acks, refused, version };
  } catch (cause) {
    if (errorCode(cause) === 'ENOENT') return undefined;
    throw new AppError('spool_failed', `${path}: ${errorMessage(cause)}`, { cause });
  }
};

const parseLine = (line: string, keys: readonly VerifierKey[]): Ack | undefined => {
  try {
    return parseAck(JSON.parse(line), keys);
  } catch {
    return undefined;
  }
};
