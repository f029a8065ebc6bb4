import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { errorCode, isAppError, type AppError } from '../contracts/errors.ts';
import { emitterId, signingKeyFromPem } from '../contracts/signatures.ts';
import { homePaths } from '../settings/home.ts';
import { segmentFileName } from './format.ts';
import { listSegments, readSegmentHeader } from './segments.ts';

/** One emitter's spool under `home/emitters`. */
export interface SpoolOfSlot {
  /** Name of the folder; `0`, `1`, … or, when it was moved aside because it was damaged, `0.damaged-…`. */
  readonly slot: string;
  /** 32 hex digits. */
  readonly emitter: string;
  /** What `openSpoolReader` takes. */
  readonly directory: string;
  /** Nobody writes to it any more. */
  readonly movedAside: boolean;
}

export const slotPaths = (home: string, slot: string) => {
  const directory = join(homePaths(home).emitters, slot);
  return {
    directory,
    key: join(directory, 'key.pem'),
    boot: join(directory, 'boot'),
    spool: join(directory, 'spool'),
    relayCursor: join(directory, 'relay-cursor'),
    /** Which artifacts this emitter sent already. */
    artifacts: join(directory, 'artifacts.json'),
  } as const;
};

/**
 * Every spool under `home`, with or without a living emitter, those moved aside included. A slot of
 * which neither a segment nor the key tells the emitter is left out and named in `unreadable`. Look again from time to time: slots come.
 */
export const listSpools = (
  home: string,
): { readonly spools: readonly SpoolOfSlot[]; readonly unreadable: readonly string[] } => {
  let names: readonly string[];
  try {
    names = readdirSync(homePaths(home).emitters);
  } catch (cause) {
    if (errorCode(cause) === 'ENOENT') return { spools: [], unreadable: [] };
    throw cause;
  }
  const spools: SpoolOfSlot[] = [];
  const unreadable: string[] = [];
  for (const slot of names.toSorted()) {
    const { spool: directory, key } = slotPaths(home, slot);
    try {
      // Any segment tells whose spool it is; a damaged one must not hide the others.
      const emitter = emitterOf(directory, key);
      if (emitter !== undefined) spools.push({ slot, emitter, directory, movedAside: slot.includes('.') });
    } catch {
      unreadable.push(slot);
    }
  }
  return { spools, unreadable };
};

const emitterOf = (directory: string, keyFile: string): string | undefined => {
  const bases = listSegments(directory);
  let damage: AppError | undefined;
  for (const base of bases) {
    try {
      return readSegmentHeader(join(directory, segmentFileName(base)), base).emitter;
    } catch (cause) {
      if (!isAppError(cause)) throw cause;
      damage = cause;
    }
  }
  // No segment says it, so the key must: what lies behind a damaged head can be read.
  return damage === undefined ? undefined : emitterId(signingKeyFromPem(readFileSync(keyFile, 'utf8')).publicKey);
};
