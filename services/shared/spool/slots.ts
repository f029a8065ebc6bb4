import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { errorCode, isAppError, type AppError } from '../contracts/errors.ts';
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
}

export const slotPaths = (home: string, slot: string) => {
  const directory = join(homePaths(home).emitters, slot);
  return {
    directory,
    key: join(directory, 'key.pem'),
    boot: join(directory, 'boot'),
    spool: join(directory, 'spool'),
    relayCursor: join(directory, 'relay-cursor'),
  } as const;
};

/**
 * Every spool under `home`, with or without a living emitter, those moved aside included. A slot whose oldest
 * segment cannot be told is left out and named in `unreadable`. Look again from time to time: slots come.
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
    const directory = slotPaths(home, slot).spool;
    try {
      // Any segment tells whose spool it is; a damaged one must not hide the others.
      const emitter = emitterOf(directory);
      if (emitter !== undefined) spools.push({ slot, emitter, directory });
    } catch {
      unreadable.push(slot);
    }
  }
  return { spools, unreadable };
};

const emitterOf = (directory: string): string | undefined => {
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
  if (damage !== undefined) throw damage;
  return undefined;
};
