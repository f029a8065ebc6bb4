import { closeSync, openSync, readFileSync, readSync, readdirSync, renameSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { AppError, errorCode, errorMessage } from '../contracts/errors.ts';
import { sha256Hex } from '../contracts/bytes.ts';
import { isObject } from '../contracts/json.ts';
import {
  decodeFrame,
  decodeSegmentHeader,
  findFrame,
  MAX_FRAME_BYTES,
  SEGMENT_HEADER_BYTES,
  segmentBaseOf,
  segmentFileName,
  type Frame,
} from './format.ts';

/** What one segment holds of one tenant's stream in one boot. */
export interface StreamSummary {
  readonly tenant: string;
  readonly boot: bigint;
  first: bigint;
  last: bigint;
  /** Frames, not only events. */
  bytes: number;
  /** Hex SHA-256 of the bytes of the event `last`. */
  lastDigest: string;
}

export interface SegmentSummary {
  readonly base: bigint;
  records: number;
  /** Size of the file. */
  bytes: number;
  /** When it was last written, Unix milliseconds. */
  writtenMs: number;
  /** By `streamKey`. */
  readonly streams: Map<string, StreamSummary>;
}

export const streamKey = (boot: bigint, tenant: string): string => `${boot}/${tenant}`;

const SCAN_BYTES = 4 * MAX_FRAME_BYTES;
const INDEX_VERSION = 1;

/** Bases of the segments in `directory`, in order; empty when there is no such directory. */
export const listSegments = (directory: string): readonly bigint[] => {
  let names: readonly string[];
  try {
    names = readdirSync(directory);
  } catch (cause) {
    if (errorCode(cause) === 'ENOENT') return [];
    throw cause;
  }
  return names
    .map(segmentBaseOf)
    .filter((base) => base !== undefined)
    .toSorted((a, b) => (a < b ? -1 : 1));
};

export interface ScanEnd {
  readonly emitter: string;
  /** The position after the last good frame. */
  readonly position: number;
  readonly sizeBytes: number;
  /** Why the scan stopped before the end of the file; absent when it did not. */
  readonly fault?: string;
}

const readAt = (fd: number, position: number, length: number): Buffer => {
  const bytes = Buffer.allocUnsafe(length);
  let done = 0;
  while (done < length) {
    const got = readSync(fd, bytes, done, length - done, position + done);
    if (got === 0) break;
    done += got;
  }
  return bytes.subarray(0, done);
};

/** Throws `spool_corrupt` when the file has no header for `base`. */
export const readSegmentHeader = (path: string, base: bigint): { readonly emitter: string } => {
  const fd = openSync(path, 'r');
  try {
    const header = decodeSegmentHeader(readAt(fd, 0, SEGMENT_HEADER_BYTES));
    if (header === undefined || header.base !== base)
      throw new AppError('spool_corrupt', `${path}: the segment has no valid header`);
    return header;
  } finally {
    closeSync(fd);
  }
};

/**
 * Reads every frame of a segment, in order, until its end or the first that is not whole.
 * `onFrame` gets a view that is valid only during the call. Throws `spool_corrupt` when the header is bad.
 */
export const scanSegment = (
  path: string,
  base: bigint,
  onFrame: (frame: Frame, number: bigint, position: number) => void,
): ScanEnd => {
  const { emitter } = readSegmentHeader(path, base);
  const fd = openSync(path, 'r');
  try {
    let position = SEGMENT_HEADER_BYTES;
    let number = base;
    for (;;) {
      const chunk = readAt(fd, position, SCAN_BYTES);
      let at = 0;
      let fault: string | undefined;
      while (at < chunk.length) {
        const frame = decodeFrame(chunk, at);
        if (frame.kind !== 'frame') {
          fault = frame.kind === 'bad' ? frame.reason : 'the record is cut off';
          break;
        }
        onFrame(frame, number, position + at);
        at += frame.frameBytes;
        number += 1n;
      }
      position += at;
      // A cut-off record at the end of a full chunk is only cut off by the chunk, which holds several whole ones.
      if (fault !== undefined && at > 0 && chunk.length === SCAN_BYTES) continue;
      if (fault !== undefined) return { emitter, position, sizeBytes: statSync(path).size, fault };
      if (chunk.length < SCAN_BYTES) return { emitter, position, sizeBytes: position };
    }
  } finally {
    closeSync(fd);
  }
};

/**
 * The largest `synced` mark of whole frames anywhere behind `from`: how far the disk surely had this file when
 * something behind `from` was written. 0 when no whole frame lies there.
 */
export const syncedBehind = (path: string, from: number): number => {
  const bytes = readFileSync(path);
  let synced = 0;
  let at = findFrame(bytes, from + 1, bytes.length);
  while (at !== undefined) {
    const frame = decodeFrame(bytes, at);
    if (frame.kind !== 'frame') break;
    if (frame.syncedPosition > synced) synced = frame.syncedPosition;
    at = findFrame(bytes, at + frame.frameBytes, bytes.length);
  }
  return synced;
};

export const emptySummary = (base: bigint, nowMs: number): SegmentSummary => ({
  base,
  records: 0,
  bytes: SEGMENT_HEADER_BYTES,
  writtenMs: nowMs,
  streams: new Map(),
});

/** Scans a segment into its summary. `end.fault` tells whether the summary is of the whole file. */
export const scanSummary = (
  directory: string,
  base: bigint,
): { readonly summary: SegmentSummary; readonly end: ScanEnd } => {
  const path = join(directory, segmentFileName(base));
  const summary = emptySummary(base, Math.trunc(statSync(path).mtimeMs));
  const lastEvents = new Map<string, Buffer>();
  const end = scanSegment(path, base, (frame) => {
    const key = streamKey(frame.boot, frame.tenant);
    const stream = summary.streams.get(key);
    if (stream === undefined)
      summary.streams.set(key, {
        tenant: frame.tenant,
        boot: frame.boot,
        first: frame.sequence,
        last: frame.sequence,
        bytes: frame.frameBytes,
        lastDigest: '',
      });
    else {
      stream.last = frame.sequence;
      stream.bytes += frame.frameBytes;
    }
    lastEvents.set(key, frame.event);
    summary.records += 1;
  });
  for (const [key, event] of lastEvents) {
    const stream = summary.streams.get(key);
    if (stream !== undefined) stream.lastDigest = sha256Hex(event);
  }
  summary.bytes = end.position;
  return { summary, end };
};

const indexPath = (directory: string, base: bigint): string =>
  join(directory, segmentFileName(base).replace(/seg$/, 'idx'));

/** Writes the summary of a sealed segment beside it. It is derived: losing it costs a scan. */
export const writeIndex = (directory: string, summary: SegmentSummary): void => {
  const streams = [...summary.streams.values()].map(({ tenant, boot, first, last, bytes, lastDigest }) => [
    tenant,
    boot.toString(),
    first.toString(),
    last.toString(),
    bytes,
    lastDigest,
  ]);
  const path = indexPath(directory, summary.base);
  writeFileSync(
    `${path}.tmp`,
    JSON.stringify({
      version: INDEX_VERSION,
      records: summary.records,
      bytes: summary.bytes,
      writtenMs: summary.writtenMs,
      streams,
    }),
    { mode: 0o600 },
  );
  renameSync(`${path}.tmp`, path);
};

const parseIndex = (text: string, base: bigint): SegmentSummary | undefined => {
  const value: unknown = JSON.parse(text);
  if (!isObject(value) || value['version'] !== INDEX_VERSION || !Array.isArray(value['streams'])) return undefined;
  const { records, bytes, writtenMs } = value;
  if (typeof records !== 'number' || typeof bytes !== 'number' || typeof writtenMs !== 'number') return undefined;
  const streams = new Map<string, StreamSummary>();
  for (const row of value['streams'] as readonly unknown[]) {
    if (!Array.isArray(row) || typeof row[4] !== 'number') return undefined;
    const stream = {
      tenant: String(row[0]),
      boot: BigInt(String(row[1])),
      first: BigInt(String(row[2])),
      last: BigInt(String(row[3])),
      bytes: row[4],
      lastDigest: String(row[5]),
    };
    streams.set(streamKey(stream.boot, stream.tenant), stream);
  }
  return { base, records, bytes, writtenMs, streams };
};

/** The summary of a sealed segment: from its index when that fits the file, else by scanning. */
export const sealedSummary = (directory: string, base: bigint): SegmentSummary => {
  const path = join(directory, segmentFileName(base));
  try {
    const summary = parseIndex(readFileSync(indexPath(directory, base), 'utf8'), base);
    if (summary?.bytes === statSync(path).size) return summary;
  } catch {
    // Missing or torn: the segment itself is the truth.
  }
  const { summary, end } = scanSummary(directory, base);
  if (end.fault !== undefined)
    throw new AppError('spool_corrupt', `${path}: record ${base + BigInt(summary.records)}: ${end.fault}`);
  return summary;
};

/** The file names of a segment: the log and its index. */
export const segmentFiles = (directory: string, base: bigint): readonly string[] => [
  indexPath(directory, base),
  join(directory, segmentFileName(base)),
];

/** An `AppError` for whatever the file system threw. */
export const spoolFailure = (what: string, cause: unknown, details: Readonly<Record<string, unknown>> = {}): AppError =>
  new AppError('spool_failed', `${what}: ${errorCode(cause) ?? errorMessage(cause)}`, { cause, details });
