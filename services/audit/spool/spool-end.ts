import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import { join } from 'node:path';
import { errorCode } from '../../shared/contracts/errors.ts';
import { decodeFrame, MAX_FRAME_BYTES, SEGMENT_HEADER_BYTES, segmentFileName } from '../../shared/spool/format.ts';
import { listSegments } from '../../shared/spool/segments.ts';

/** Read at once; a longer tail is measured in several goes, and taken for shorter until then. */
const MAX_BYTES = 4 * MAX_FRAME_BYTES;

/**
 * Tells where a spool ends: the number that its next record gets. Only the newest segment is looked into, and of it only
 * what was added since the last time, at most 4 of the largest records; 0 while there is no segment.
 */
export const createSpoolEnd = (directory: string): (() => bigint) => {
  let base: bigint | undefined;
  let position = SEGMENT_HEADER_BYTES;
  let end = 0n;
  return () => {
    const newest = listSegments(directory).at(-1);
    if (newest === undefined) return 0n;
    if (newest !== base) {
      base = newest;
      position = SEGMENT_HEADER_BYTES;
      end = newest;
    }
    let fd: number;
    try {
      fd = openSync(join(directory, segmentFileName(newest)), 'r');
    } catch (cause) {
      // Given up since it was listed.
      if (errorCode(cause) === 'ENOENT') return end;
      throw cause;
    }
    try {
      const buffer = Buffer.allocUnsafe(Math.max(0, Math.min(MAX_BYTES, fstatSync(fd).size - position)));
      const chunk = buffer.subarray(0, readSync(fd, buffer, 0, buffer.length, position));
      for (let at = 0; at < chunk.length;) {
        const frame = decodeFrame(chunk, at);
        if (frame.kind !== 'frame') break;
        at += frame.frameBytes;
        position += frame.frameBytes;
        end += 1n;
      }
    } finally {
      closeSync(fd);
    }
    return end;
  };
};
