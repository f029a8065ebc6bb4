import { watch, type FSWatcher } from 'node:fs';
import { open, type FileHandle } from 'node:fs/promises';
import { join } from 'node:path';
import { errorCode } from '../contracts/errors.ts';
import {
  decodeFrame,
  decodeSegmentHeader,
  findFrame,
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
  /**
   * The record `at` was whole once and cannot be read; what can be read again begins at `resumeAt`. How many records
   * a damaged place held is not known: it counts as one, and what a closed segment then lacks at its end is named too.
   */
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

/** Whole frames from `from` on, wherever they begin. */
async function* wholeFrames(
  file: FileHandle,
  from: number,
  size: number,
): AsyncGenerator<{ readonly position: number; readonly synced: number }, void> {
  let start = from;
  while (start < size) {
    const window = await readChunk(file, start, Math.min(CHUNK_BYTES, size - start));
    // A frame that begins in the first half is in the window whole.
    const end = start + window.length < size ? MAX_FRAME_BYTES : window.length;
    if (window.length === 0) return;
    let next = 0;
    for (let at = findFrame(window, 0, end); at !== undefined; at = findFrame(window, next, end)) {
      const frame = decodeFrame(window, at);
      if (frame.kind !== 'frame') return;
      yield { position: start + at, synced: frame.syncedPosition };
      next = at + frame.frameBytes;
    }
    start += Math.max(next, end);
  }
}

const firstFrame = async (file: FileHandle, from: number, size: number): Promise<number | undefined> => {
  for await (const { position } of wholeFrames(file, from, size)) return position;
  return undefined;
};

/**
 * Reads a spool from record `from` on, in any process, while its writer writes. `directory` is the spool folder
 * of one slot, `emitter` the id that its segments must carry. `isFinal`: nobody writes to it any more, so that what is
 * not whole never will be.
 */
export const openSpoolReader = (options: {
  readonly directory: string;
  readonly emitter: string;
  readonly from: bigint;
  readonly isFinal?: boolean;
}): SpoolReader => {
  const { directory, emitter, isFinal = false } = options;
  let wanted = options.from;
  let place: Place | undefined;
  let watcher: FSWatcher | undefined;
  let closed = false;
  let wake: (() => void) | undefined;
  let dirty = false;
  /** A fault at the end that was looked at and may be a record that is being written. */
  let unproven: string | undefined;

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

  /**
   * Frames from `place` on, within the limits, skipping those before `wanted` and, with them, what is damaged: whoever
   * asks for what is behind it was told of it.
   */
  const readFrames = async (
    file: FileHandle,
    here: Place,
    following: bigint | undefined,
    limits: { readonly maxRecords: number; readonly maxBytes: number },
  ): Promise<{
    readonly records: readonly SpoolRecord[];
    readonly fault: string | undefined;
    readonly size: number;
  }> => {
    const records: SpoolRecord[] = [];
    let eventBytes = 0;
    const { size } = await file.stat();
    const result = (fault?: string) => ({ records, fault, size });
    for (;;) {
      // The next segment has these numbers; an event that is passed over here is missed by its own number.
      if (following !== undefined && here.number >= following) return result();
      const chunk = await readChunk(file, here.position, Math.max(0, Math.min(CHUNK_BYTES, size - here.position)));
      let at = 0;
      while (at < chunk.length) {
        const frame = decodeFrame(chunk, at);
        if (frame.kind === 'incomplete' && at > 0) break;
        if (frame.kind !== 'frame') {
          const fault = frame.kind === 'bad' ? frame.reason : 'the record is cut off';
          if (here.number >= wanted) return result(fault);
          const behind = await firstFrame(file, here.position + 1, size);
          if (behind === undefined && following === undefined && !isFinal) return result(fault);
          here.position = behind ?? size;
          here.number += 1n;
          at = -1;
          break;
        }
        if (here.number >= wanted) {
          if (records.length > 0 && eventBytes + frame.event.length > limits.maxBytes) return result();
          const { tenant, boot, sequence, reserve, event } = frame;
          records.push({ number: here.number, tenant, boot, sequence, reserve, event });
          eventBytes += event.length;
        }
        at += frame.frameBytes;
        here.position += frame.frameBytes;
        here.number += 1n;
        if (records.length >= limits.maxRecords) return result();
        if (following !== undefined && here.number >= following) return result();
      }
      if (at === 0) return result();
    }
  };

  /** A fault behind which the writer wrote when the disk already had the faulty place is damage, not a torn tail. */
  const isDamage = async (file: FileHandle, { base, position }: Place, size: number): Promise<boolean> => {
    if (isFinal) return true;
    const looked = `${base}/${position}/${size}`;
    if (unproven === looked) return false;
    for await (const { synced } of wholeFrames(file, position + 1, size)) if (synced > position) return true;
    unproven = looked;
    return false;
  };

  const read: SpoolReader['read'] = async (limits) => {
    for (;;) {
      const found = locate(wanted);
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
          place?.base === found.base && place.number <= wanted
            ? { ...place }
            : { base: found.base, position: SEGMENT_HEADER_BYTES, number: found.base };
        // A damaged header hides no record: the file's name has the number of the first, and events name their emitter.
        const { records, fault, size } = await readFrames(file, here, found.following, limits);
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
          place = here;
          if (fault === undefined || here.number < wanted || !(await isDamage(file, here, size)))
            return { kind: 'waiting' };
          return { kind: 'corrupt', at: here.number, resumeAt: here.number + 1n, file: name, reason: fault };
        }
        if (fault !== undefined) {
          place = here;
          const behind = await firstFrame(file, here.position + 1, size);
          const resumeAt = behind === undefined ? found.following : here.number + 1n;
          return { kind: 'corrupt', at: here.number, resumeAt, file: name, reason: fault };
        }
        if (here.number !== found.following) {
          // Listed after the successor appeared, read to its end: what is between them is not there.
          const reason = `records ${here.number} to ${found.following - 1n} are missing`;
          return { kind: 'corrupt', at: here.number, resumeAt: found.following, file: name, reason };
        }
        wanted = wanted > found.following ? wanted : found.following;
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
      if (place !== undefined && number < place.number) place = undefined;
      wanted = number;
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
