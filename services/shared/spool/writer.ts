import {
  closeSync,
  fsyncSync,
  ftruncateSync,
  mkdirSync,
  openSync,
  readFileSync,
  readdirSync,
  renameSync,
  unlinkSync,
} from 'node:fs';
import { join } from 'node:path';
import { AppError, errorCode, isAppError } from '../contracts/errors.ts';
import { fsyncDirectory } from '../settings/home.ts';
import { realSpoolFs, writeFully, type SpoolFs } from './files.ts';
import {
  encodeFrame,
  encodeSegmentHeader,
  frameBytesOf,
  MAX_FRAME_BYTES,
  SEGMENT_HEADER_BYTES,
  segmentFileName,
} from './format.ts';
import { createMarkWaiters } from './marks.ts';
import { recoverSegments } from './recovery.ts';
import { emptySummary, segmentFiles, spoolFailure, streamKey, writeIndex } from './segments.ts';
import type { SegmentSummary, StreamSummary } from './segments.ts';

export interface SpoolLimits {
  /** A segment is closed when it would grow beyond this; below 4 GiB. */
  readonly segmentBytes: number;
  /** Of all segment files together. */
  readonly maxBytes: number;
  /** The part of `maxBytes` that only reserve-class records may use. */
  readonly reserveBytes: number;
  /** The longest time between a write and the sync that makes it durable. */
  readonly syncMs: number;
  /** What a tenant may have in the spool that the ledger does not cover yet. */
  readonly quotaBytes: (tenant: string) => number;
}

export interface NewRecord {
  /** ASCII, 1 to 63 characters. */
  readonly tenant: string;
  readonly boot: bigint;
  readonly sequence: bigint;
  readonly reserve: boolean;
  readonly event: string | Uint8Array;
  /** Of `event` in UTF-8. */
  readonly eventBytes: number;
  /** Hex SHA-256 of the event's bytes. */
  readonly digest: string;
}

/** True when the ledger has, and surely keeps, this stream up to `last`. */
export type IsCovered = (boot: bigint, tenant: string, last: bigint) => boolean;

export type Room = 'ok' | 'full' | 'quota';

export interface SpoolStatus {
  /** The number that the next record gets. */
  readonly next: bigint;
  readonly usedBytes: number;
  /** What is left for ordinary records before covered segments are given up. */
  readonly freeBytes: number;
  readonly segments: number;
  readonly unsyncedBytes: number;
  /** Covered segments that were given up before `keepMs` because room was needed. */
  readonly givenUp: number;
  readonly failure?: AppError;
}

export interface SpoolWriter {
  readonly emitter: string;
  readonly next: () => bigint;
  /** Whether a record fits now; gives up covered segments, oldest first, when that makes it fit. */
  readonly room: (tenant: string, eventBytes: number, reserve: boolean) => Room;
  /**
   * Appends and returns the record's number. It is written at the end of the event-loop turn, with what came with it.
   * Throws `spool_full` (`details.scope` is `spool` or `tenant`) or `spool_failed`, and then nothing was appended.
   */
  readonly append: (record: NewRecord) => bigint;
  /** Resolves when the operating system has the record: it survives the end of this process. */
  readonly whenWritten: (number: bigint) => Promise<void>;
  /** Resolves when the disk has the record: it survives a power cut. */
  readonly whenSynced: (number: bigint) => Promise<void>;
  /** Oldest first; the last one is being written. */
  readonly segments: () => readonly SegmentSummary[];
  /** Takes over what the ledger covers: for quotas and for room. Deletes covered segments older than `keepMs`. */
  readonly applyCoverage: (isCovered: IsCovered, keepMs: number) => void;
  readonly status: () => SpoolStatus;
  /** Writes and syncs what was appended. Rejects with `spool_failed` when that fails. */
  readonly close: () => Promise<void>;
}

export interface SpoolWriterOptions {
  readonly directory: string;
  /** 32 hex digits. */
  readonly emitter: string;
  readonly limits: SpoolLimits;
  readonly nowMs: () => number;
  /**
   * Called once, when a write or sync failed (`details.step`): the writer is dead, a new one must be opened, after a
   * failed sync with `rewriteTail`.
   */
  readonly onFailure: (error: AppError) => void;
  /** What the page cache shows may not be on the disk, so the last segment is written anew. */
  readonly rewriteTail?: boolean;
  /** How long `whenSynced` waits, and what it rejects with then. Default: as long as it takes. */
  readonly syncTimeout?: { readonly ms: number; readonly error: () => AppError };
  readonly fs?: SpoolFs;
}

const SYNC_EVENTS = 500;
const SYNC_BYTES = 1_000_000;
const BUFFER_BYTES = 1_000_000 + MAX_FRAME_BYTES;

/**
 * Opens the spool in `directory` for its one writer, who must hold the slot's lock. Makes the directory and the
 * first segment when missing, cuts off a torn tail. Throws `spool_corrupt` when what was durable is damaged or
 * belongs to another emitter, `spool_failed` when the file system refuses.
 */
export const openSpoolWriter = (options: SpoolWriterOptions): SpoolWriter => {
  const { directory, emitter, limits, nowMs } = options;
  const fs = options.fs ?? realSpoolFs;
  const segments: SegmentSummary[] = [];
  const tenantBytes = new Map<string, number>();
  const written = createMarkWaiters();
  const synced = createMarkWaiters(options.syncTimeout);
  let covered: IsCovered = () => false;
  let usedBytes = 0;
  let next = 0n;
  let givenUp = 0;
  let failure: AppError | undefined;
  let closed = false;

  // The segment that is being written.
  let fd = -1;
  let position = 0;
  let active: SegmentSummary = emptySummary(0n, 0);
  /** Streams of the active segment in the boot of the last append: saves a composed key per event. */
  let hot = new Map<string, StreamSummary>();
  let hotBoot = -1n;
  let syncedPosition = 0;

  // Appended, not yet written.
  const buffer = Buffer.allocUnsafe(BUFFER_BYTES);
  let pending = 0;
  let pendingEvents = 0;
  let flushSoon: NodeJS.Immediate | undefined;
  // Written, not yet synced.
  let unsyncedEvents = 0;
  let unsyncedBytes = 0;
  let syncSoon: NodeJS.Timeout | undefined;
  let syncing: Promise<void> | undefined;
  /** A descriptor that a running sync still uses; it is closed when that ends. */
  let retiredFd: number | undefined;

  const closeFd = (): void => {
    if (fd < 0) return;
    // A running sync that has a retired descriptor uses that one, not this.
    if (syncing === undefined || retiredFd !== undefined) closeSync(fd);
    else retiredFd = fd;
    fd = -1;
  };

  const fail = (step: 'write' | 'sync', what: string, cause: unknown): AppError => {
    if (failure !== undefined) return failure;
    failure = spoolFailure(what, cause, { step });
    clearImmediate(flushSoon);
    clearTimeout(syncSoon);
    try {
      closeFd();
    } catch {
      // The descriptor is lost either way; what matters is that nothing more is written through it.
    }
    written.fail(failure);
    synced.fail(failure);
    options.onFailure(failure);
    return failure;
  };

  const flush = (): void => {
    clearImmediate(flushSoon);
    flushSoon = undefined;
    if (pending === 0 || failure !== undefined) return;
    try {
      writeFully(fs, fd, buffer, pending, position);
    } catch (cause) {
      fail('write', 'the spool cannot be written', cause);
      return;
    }
    position += pending;
    unsyncedBytes += pending;
    unsyncedEvents += pendingEvents;
    pending = 0;
    pendingEvents = 0;
    written.seal();
    synced.seal();
    written.advance(next);
    scheduleSync();
  };

  const scheduleSync = (): void => {
    if (syncing !== undefined || failure !== undefined || unsyncedBytes === 0) return;
    if (unsyncedEvents >= SYNC_EVENTS || unsyncedBytes >= SYNC_BYTES) startSync();
    else syncSoon ??= setTimeout(startSync, limits.syncMs);
  };

  const startSync = (): void => {
    clearTimeout(syncSoon);
    syncSoon = undefined;
    if (syncing !== undefined || failure !== undefined || fd < 0) return;
    const [target, segment, upTo] = [next - BigInt(pendingEvents), active, position];
    unsyncedEvents = 0;
    unsyncedBytes = 0;
    syncing = new Promise((resolve) => {
      fs.sync(fd, (error) => {
        syncing = undefined;
        if (retiredFd !== undefined) closeSync(retiredFd);
        retiredFd = undefined;
        if (error !== undefined && error !== null) fail('sync', 'the spool cannot be synced', error);
        else {
          // The segment may have been closed meanwhile; its successor has marks of its own.
          if (segment === active) syncedPosition = upTo;
          synced.advance(target);
          scheduleSync();
        }
        resolve();
      });
    });
  };

  const syncHere = (): void => {
    fs.syncNow(fd);
    syncedPosition = position;
    unsyncedBytes = 0;
    unsyncedEvents = 0;
    synced.advance(next);
  };

  /** Makes the segment file and its name durable before the first record goes into it. */
  const createSegment = (base: bigint): void => {
    const path = join(directory, segmentFileName(base));
    const temporary = openSync(`${path}.tmp`, 'w', 0o600);
    try {
      writeFully(fs, temporary, encodeSegmentHeader({ emitter, base }), SEGMENT_HEADER_BYTES, 0);
      fs.syncNow(temporary);
    } finally {
      closeSync(temporary);
    }
    renameSync(`${path}.tmp`, path);
    fsyncDirectory(directory);
    fd = openSync(path, 'r+');
    position = SEGMENT_HEADER_BYTES;
    syncedPosition = SEGMENT_HEADER_BYTES;
    active = emptySummary(base, nowMs());
    segments.push(active);
    usedBytes += SEGMENT_HEADER_BYTES;
    hot = new Map();
  };

  /** Closes the active segment, durable, and starts the next. */
  const roll = (): void => {
    flush();
    if (failure !== undefined) throw failure;
    try {
      // The next segment must never be durable before this one is: recovery looks for a torn tail only in the last.
      syncHere();
      closeFd();
      writeIndex(directory, active);
      createSegment(next);
    } catch (cause) {
      throw fail('sync', 'the spool cannot begin a segment', cause);
    }
  };

  const isSegmentCovered = ({ streams }: SegmentSummary): boolean => {
    for (const { boot, tenant, last } of streams.values()) if (!covered(boot, tenant, last)) return false;
    return true;
  };

  /** Deletes the oldest segment; never the active one. */
  const dropOldest = (): void => {
    const oldest = segments.shift();
    if (oldest === undefined) return;
    usedBytes -= oldest.bytes;
    for (const file of segmentFiles(directory, oldest.base)) {
      try {
        unlinkSync(file);
      } catch (cause) {
        if (errorCode(cause) !== 'ENOENT') throw fail('write', 'a covered segment cannot be deleted', cause);
      }
    }
    try {
      fsyncDirectory(directory);
    } catch (cause) {
      throw fail('write', 'a covered segment cannot be deleted', cause);
    }
  };

  const fits = (frameBytes: number, reserve: boolean): boolean =>
    usedBytes + frameBytes <= limits.maxBytes - (reserve ? 0 : limits.reserveBytes);

  const makeRoom = (frameBytes: number, reserve: boolean): boolean => {
    while (!fits(frameBytes, reserve)) {
      const oldest = segments[0];
      if (oldest === undefined || oldest.records === 0 || !isSegmentCovered(oldest)) return false;
      // The active segment alone can fill a small spool; then it has to be closed before it can go.
      if (oldest === active) roll();
      dropOldest();
      givenUp += 1;
    }
    return true;
  };

  const roomFor = (tenant: string, frameBytes: number, reserve: boolean): Room => {
    if (!reserve && (tenantBytes.get(tenant) ?? 0) + frameBytes > limits.quotaBytes(tenant)) return 'quota';
    return makeRoom(frameBytes, reserve) ? 'ok' : 'full';
  };

  const streamOf = (record: NewRecord): StreamSummary => {
    if (record.boot !== hotBoot) {
      hot = new Map();
      hotBoot = record.boot;
    }
    let stream = hot.get(record.tenant);
    if (stream === undefined) {
      const key = streamKey(record.boot, record.tenant);
      stream = active.streams.get(key);
      if (stream === undefined) {
        stream = {
          tenant: record.tenant,
          boot: record.boot,
          first: record.sequence,
          last: record.sequence,
          bytes: 0,
          lastDigest: '',
        };
        active.streams.set(key, stream);
      }
      hot.set(record.tenant, stream);
    }
    return stream;
  };

  const countTenants = (): void => {
    tenantBytes.clear();
    for (const { streams } of segments)
      for (const { boot, tenant, last, bytes } of streams.values())
        if (!covered(boot, tenant, last)) tenantBytes.set(tenant, (tenantBytes.get(tenant) ?? 0) + bytes);
  };

  const open = (): void => {
    mkdirSync(directory, { recursive: true, mode: 0o700 });
    for (const name of readdirSync(directory)) if (name.endsWith('.tmp')) unlinkSync(join(directory, name));
    const recovered = recoverSegments(directory, emitter);
    segments.push(...recovered);
    const last = segments.at(-1);
    usedBytes = segments.reduce((sum, { bytes }) => sum + bytes, 0);
    if (last === undefined) {
      createSegment(0n);
      return;
    }
    const path = join(directory, segmentFileName(last.base));
    active = last;
    next = last.base + BigInt(last.records);
    position = last.bytes;
    if (options.rewriteTail === true) {
      const good = readFileSync(path).subarray(0, position);
      const copy = openSync(`${path}.tmp`, 'w', 0o600);
      try {
        writeFully(fs, copy, good, good.length, 0);
        fs.syncNow(copy);
      } finally {
        closeSync(copy);
      }
      renameSync(`${path}.tmp`, path);
    }
    fd = openSync(path, 'r+');
    ftruncateSync(fd, position);
    fsyncSync(fd);
    fsyncDirectory(directory);
    syncedPosition = position;
    countTenants();
  };

  try {
    open();
  } catch (cause) {
    if (fd >= 0) closeSync(fd);
    throw isAppError(cause) ? cause : spoolFailure(`${directory} cannot be opened`, cause);
  }
  written.advance(next);
  synced.advance(next);

  return {
    emitter,
    next: () => next,
    room: (tenant, eventBytes, reserve) => roomFor(tenant, frameBytesOf(tenant, eventBytes), reserve),
    append(record) {
      if (failure !== undefined) throw failure;
      if (closed) throw new AppError('spool_failed', 'the spool is closed');
      const frameBytes = frameBytesOf(record.tenant, record.eventBytes);
      if (frameBytes > MAX_FRAME_BYTES)
        throw new AppError('event_too_large', `a record of ${frameBytes} bytes does not fit a frame`);
      const room = roomFor(record.tenant, frameBytes, record.reserve);
      if (room !== 'ok') {
        const scope = room === 'quota' ? 'tenant' : 'spool';
        throw new AppError('spool_full', `the ${scope}'s room in the spool is used up`, { details: { scope } });
      }
      if (position + pending + frameBytes > limits.segmentBytes && active.records > 0) roll();
      const stream = streamOf(record);
      pending += encodeFrame(
        buffer,
        pending,
        {
          tenant: record.tenant,
          boot: record.boot,
          sequence: record.sequence,
          reserve: record.reserve,
          syncedPosition,
        },
        record.event,
        record.eventBytes,
      );
      const number = next;
      next += 1n;
      pendingEvents += 1;
      stream.last = record.sequence;
      stream.bytes += frameBytes;
      stream.lastDigest = record.digest;
      active.records += 1;
      active.bytes += frameBytes;
      active.writtenMs = nowMs();
      usedBytes += frameBytes;
      tenantBytes.set(record.tenant, (tenantBytes.get(record.tenant) ?? 0) + frameBytes);
      if (pending >= SYNC_BYTES) flush();
      else flushSoon ??= setImmediate(flush);
      return number;
    },
    whenWritten: written.waitFor,
    whenSynced: synced.waitFor,
    segments: () => segments,
    applyCoverage(isCovered, keepMs) {
      covered = isCovered;
      const before = nowMs() - keepMs;
      for (const oldest of segments.slice()) {
        if (failure !== undefined || oldest === active) break;
        if (oldest.writtenMs > before || !isSegmentCovered(oldest)) break;
        dropOldest();
      }
      countTenants();
    },
    status: () => ({
      next,
      usedBytes,
      freeBytes: Math.max(0, limits.maxBytes - limits.reserveBytes - usedBytes),
      segments: segments.length,
      unsyncedBytes: unsyncedBytes + pending,
      givenUp,
      ...(failure === undefined ? {} : { failure }),
    }),
    async close() {
      if (closed) return;
      closed = true;
      flush();
      clearTimeout(syncSoon);
      // Sets the failure, or is followed by at most one more sync, which the last one here makes needless.
      await syncing;
      clearTimeout(syncSoon);
      await syncing;
      if (failure === undefined) {
        try {
          syncHere();
        } catch (cause) {
          fail('sync', 'the spool cannot be synced', cause);
        }
      }
      if (failure !== undefined) throw failure;
      closeFd();
    },
  };
};
