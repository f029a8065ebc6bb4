import { unlinkSync } from 'node:fs';
import { errorCode } from '../contracts/errors.ts';
import { fsyncDirectory } from '../settings/home.ts';
import { listSegments, sealedSummary, segmentFiles } from './segments.ts';
import type { IsCovered } from './writer.ts';

/**
 * Deletes closed segments of a spool, oldest first, that are covered whole and older than `keepMs`; stops at the
 * first that is not. For spools without a writer in this process; safe beside one in another, which never writes to
 * a closed segment and takes its absence for done. Returns how many were deleted. A damaged segment stays.
 */
export const releaseCovered = (directory: string, keepMs: number, nowMs: number, isCovered: IsCovered): number => {
  let deleted = 0;
  // The last one may be written to.
  for (const base of listSegments(directory).slice(0, -1)) {
    let covered: boolean;
    try {
      const { streams, writtenMs } = sealedSummary(directory, base);
      covered =
        writtenMs <= nowMs - keepMs &&
        [...streams.values()].every(({ boot, tenant, last }) => isCovered(boot, tenant, last));
    } catch {
      covered = false;
    }
    if (!covered) break;
    for (const file of segmentFiles(directory, base)) {
      try {
        unlinkSync(file);
      } catch (cause) {
        if (errorCode(cause) !== 'ENOENT') throw cause;
      }
    }
    deleted += 1;
  }
  if (deleted > 0) fsyncDirectory(directory);
  return deleted;
};
