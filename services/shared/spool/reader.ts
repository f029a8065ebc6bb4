import { watch, type FSWatcher } from 'node:fs';
import { open, type FileHandle } from 'node:fs/promises';
import { join } from 'node:path';
import { errorCode } from '../contracts/errors.ts';
import {
  decodeFrame,
  decodeSegmentHeader,
  MAX_FRAME_BYTES,
  SEGMENT_HEADER_BYTES,
  segmentFileName,
  type SpoolRecord,
} from './format.ts';
import { listSegments, spoolFailure } from './segments.ts';

export type SpoolBatch =
  /** In order, at least one. All of them are on the disk, so no power cut gives their numbers to others. */
  | { readonly kind: 'records'; readonly records: readonly SpoolRecord[] }
  /** Everything that is whole was read. The writer may be writing more, or have died within a record. */
  | { readonly kind: 'waiting' }
  /** The asked record was deleted with its segment; the oldest one that is left is `first`. */
  | { readonly kind: 'gone'; readonly first: bigint }
  /** The record `at` of a closed segment cannot be read; what can be read again begins at `resumeAt`. */
  | {
      readonly kind: 'corrupt';
      readonly at: bigint;
      readonly resumeAt: bigint;
      readonly file: string;
      readonly reason: string;
    }
  /** The spool ends before the asked record, or belongs to another emitter: this cursor is not of this spool. */
  | { readonly kind: 'foreign'; readonly reason: string };

export interface SpoolReader {
  /** The number of the next record that `read` gives. */
  readonly next: () => bigint;
  /** Goes on at this number; for `gone`, `corrupt`, and for reading again. */
  readonly seek: (number: bigint) => void;
  /**
   * What is there now, at most `maxRecords` and, but for a single larger record, `maxBytes` of events. After
   * `corrupt`, `gone` and `foreign` the place is unchanged. Rejects with `spool_failed` when the file system fails.
   * One call at a time.
   */
  readonly read: (limits: { readonly maxRecords: number; readonly maxBytes: number }) => Promise<SpoolBatch>;
  /** Resolves when the spool changed, `waitMs` (default 50) passed, or the reader was closed. */
  readonly changed: (waitMs?: number) => Promise<void>;
  readonly close: () => void;
}

const CHUNK_BYTES = 2 * MAX_FRAME_BYTES;
const POLL_MS = 50;

interface Place {
  readonly base: bigint;
  position: number;
  number: bigint;
}

const readChunk = async (file: FileHandle, position: number, length: number): Promise<Buffer> => {
  const bytes = Buffer.allocUnsafe(length);
  let done = 0;
  while (done < length) {
    const { bytesRead } = await file.read(bytes, done, length - done, position + done);
    if (bytesRead === 0) break;
    done += bytesRead;
  }
  return bytes.subarray(0, done);
};

/**
 * Reads a spool from record `from` on, in any process, while its writer writes. `directory` is the spool folder
 * of one slot, `emitter` the id that its segments must carry.
 */
export const openSpoolReader = (options: {
  readonly directory: string;
  readonly emitter: string;
  readonly from: bigint;
}): SpoolReader => {
  const { directory, emitter } = options;
  let wanted = options.from;
  let place: Place | undefined;
  let watcher: FSWatcher | undefined;
  let closed = false;
  let wake: (() => void) | undefined;
  let dirty = false;

  const noticed = (): void => {
    dirty = true;
    wake?.();
  };

  const startWatching = (): void => {
    if (watcher !== undefined || closed) return;
    try {
      watcher = watch(directory, { persistent: false }, noticed);
      watcher.on('error', () => watcher?.close());
    } catch {
      // No notifications here (limits, file system): the poll finds changes too.
    }
  };

  /** The segment that holds `number`, the one after it, and the oldest. */
  const locate = (number: bigint) => {
    const bases = listSegments(directory);
    const index = bases.findLastIndex((base) => base <= number);
    return { base: bases[index], following: bases[index + 1], first: bases[0] };
  };

  /** Frames from `place` on, within the limits, skipping those before `wanted`. Undefined: not one whole frame. */
  const readFrames = async (
    file: FileHandle,
    here: Place,
    limits: { readonly maxRecords: number; readonly maxBytes: number },
  ): Promise<{ readonly records: readonly SpoolRecord[]; readonly fault: string | undefined }> => {
    const records: SpoolRecord[] = [];
    let eventBytes = 0;
    const { size } = await file.stat();
    for (;;) {
      const chunk = await readChunk(file, here.position, Math.max(0, Math.min(CHUNK_BYTES, size - here.position)));
      let at = 0;
      while (at < chunk.length) {
        const frame = decodeFrame(chunk, at);
        if (frame.kind === 'bad') return { records, fault: frame.reason };
        if (frame.kind === 'incomplete') {
          if (at === 0) return { records, fault: 'the record is cut off' };
          break;
        }
        if (here.number >= wanted) {
          if (records.length > 0 && eventBytes + frame.event.length > limits.maxBytes)
            return { records, fault: undefined };
          const { tenant, boot, sequence, reserve, event } = frame;
          records.push({ number: here.number, tenant, boot, sequence, reserve, event });
          eventBytes += event.length;
        }
        at += frame.frameBytes;
        here.position += frame.frameBytes;
        here.number += 1n;
        if (records.length >= limits.maxRecords) return { records, fault: undefined };
      }
      if (at === 0) return { records, fault: undefined };
    }
  };

  const read: SpoolReader['read'] = async (limits) => {
    for (;;) {
      const found = locate(place?.number ?? wanted);
      if (found.first === undefined) return { kind: 'waiting' };
      if (found.base === undefined) return { kind: 'gone', first: found.first };
      const name = segmentFileName(found.base);
      let file: FileHandle;
      try {
        file = await open(join(directory, name), 'r');
      } catch (cause) {
        // Deleted since it was listed: look again.
        if (errorCode(cause) === 'ENOENT') continue;
        throw spoolFailure(`${name} cannot be read`, cause);
      }
      try {
        const header = decodeSegmentHeader(await readChunk(file, 0, SEGMENT_HEADER_BYTES));
        const foreign = header !== undefined && header.emitter !== emitter;
        if (foreign) return { kind: 'foreign', reason: `${name} is of emitter ${header.emitter}` };
        const here: Place =
          place?.base === found.base
            ? { ...place }
            : { base: found.base, position: SEGMENT_HEADER_BYTES, number: found.base };
        const { records, fault } =
          header === undefined
            ? { records: [], fault: 'the segment has no valid header' }
            : await readFrames(file, here, limits);
        const [first] = records;
        if (first !== undefined) {
          // Whoever gets these may tell others; from then on a power cut must not take them back. A segment that has
          // a successor is on the disk already.
          if (found.following === undefined) await file.datasync();
          place = here;
          wanted = here.number;
          return { kind: 'records', records };
        }
        if (found.following === undefined) {
          if (fault === undefined && here.number < wanted)
            return { kind: 'foreign', reason: `the spool ends at record ${here.number}, before record ${wanted}` };
          if (header !== undefined) place = here;
          return { kind: 'waiting' };
        }
        if (fault !== undefined)
          return { kind: 'corrupt', at: here.number, resumeAt: found.following, file: name, reason: fault };
        if (here.number !== found.following) {
          // Listed after the successor appeared, read to its end: what is between them is not there.
          const reason = `records ${here.number} to ${found.following - 1n} are missing`;
          return { kind: 'corrupt', at: here.number, resumeAt: found.following, file: name, reason };
        }
        place = { base: found.following, position: SEGMENT_HEADER_BYTES, number: found.following };
      } catch (cause) {
        throw spoolFailure(`${name} cannot be read`, cause);
      } finally {
        await file.close();
      }
    }
  };

  return {
    next: () => wanted,
    seek(number) {
      wanted = number;
      place = undefined;
    },
    read,
    async changed(waitMs = POLL_MS) {
      startWatching();
      if (!dirty && !closed) {
        await new Promise<void>((resolve) => {
          const timer = setTimeout(resolve, waitMs);
          wake = () => {
            clearTimeout(timer);
            resolve();
          };
        });
      }
      wake = undefined;
      dirty = false;
    },
    close() {
      closed = true;
      watcher?.close();
      wake?.();
    },
  };
};
