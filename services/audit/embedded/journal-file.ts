import { mkdirSync } from 'node:fs';
import { open, readdir, readFile, type FileHandle } from 'node:fs/promises';
import { join } from 'node:path';
import { u64 } from '../../shared/contracts/bytes.ts';
import { AppError, errorMessage, isAppError } from '../../shared/contracts/errors.ts';
import { fsyncDirectory } from '../../shared/settings/home.ts';
import type { Journal, JournalFrame } from '../core/journal.ts';
import {
  decodeJournalFrame,
  encodeJournalFrame,
  FRAME_HEADER_BYTES,
  frameNumber,
  JOURNAL_MAGIC,
  wholeBody,
} from './journal-format.ts';

export interface JournalFileOptions {
  /** A new file begins when one is larger; default 64 MiB. */
  readonly fileBytes?: number;
}

const FILE_NAME = /^(\d{20})\.journal$/;
const fileName = (first: bigint): string => `${first.toString().padStart(20, '0')}.journal`;

const corrupt = (message: string, cause?: unknown): AppError => new AppError('journal_corrupt', message, { cause });

const listFiles = async (folder: string): Promise<readonly bigint[]> =>
  (await readdir(folder))
    .flatMap((name) => FILE_NAME.exec(name)?.[1] ?? [])
    .map(BigInt)
    .sort((a, b) => (a < b ? -1 : 1));

/** Bodies of the frames of one file from `first` on, and where the whole part ends. */
const scan = (
  bytes: Buffer,
  first: bigint,
): { readonly bodies: readonly Buffer[]; readonly end: number; readonly next: bigint } => {
  const bodies: Buffer[] = [];
  let next = first;
  let at = JOURNAL_MAGIC.length;
  for (;;) {
    const body = wholeBody(bytes, at);
    if (body === undefined || frameNumber(body) !== next) return { bodies, end: at, next };
    bodies.push(body);
    next += 1n;
    at += FRAME_HEADER_BYTES + body.length;
  }
};

/** True when a whole frame with a later number lies behind `end`: then what lies between is damage, not a torn end. */
const hasLaterFrame = (bytes: Buffer, end: number, next: bigint): boolean => {
  for (const number of [next, next + 1n]) {
    const pattern = u64(number);
    for (let at = bytes.indexOf(pattern, end + 1); at !== -1; at = bytes.indexOf(pattern, at + 1)) {
      const body = at >= end + FRAME_HEADER_BYTES ? wholeBody(bytes, at - FRAME_HEADER_BYTES) : undefined;
      if (body !== undefined && at - FRAME_HEADER_BYTES > end && frameNumber(body) === number) return true;
    }
  }
  return false;
};

const startFile = async (folder: string, first: bigint): Promise<FileHandle> => {
  const file = await open(join(folder, fileName(first)), 'w+', 0o600);
  await file.write(JOURNAL_MAGIC, 0, JOURNAL_MAGIC.length, 0);
  await file.sync();
  fsyncDirectory(folder);
  return file;
};

/**
 * Opens the journal in `folder`, whose database must be locked by this program. Each frame is synced before the next
 * is written, so only the last can be torn: it is cut off, as it never happened. Anything else that cannot be read
 * rejects with `journal_corrupt` and is left as it is.
 */
export const openJournal = async (folder: string, options: JournalFileOptions = {}): Promise<Journal> => {
  const fileBytes = options.fileBytes ?? 64 * 1024 * 1024;
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  const files = await listFiles(folder);
  let first = files.at(-1) ?? 1n;
  let file: FileHandle;
  let end: number;
  let last: bigint;
  if (files.length === 0) {
    file = await startFile(folder, first);
    end = JOURNAL_MAGIC.length;
    last = 0n;
  } else {
    const path = join(folder, fileName(first));
    const bytes = await readFile(path);
    // A file whose making was cut off has no frame yet.
    const isUnborn = bytes.length < JOURNAL_MAGIC.length;
    if (!isUnborn && !bytes.subarray(0, JOURNAL_MAGIC.length).equals(JOURNAL_MAGIC))
      throw corrupt(`${path}: is not a journal`);
    const found = isUnborn ? { end: JOURNAL_MAGIC.length, next: first } : scan(bytes, first);
    if (!isUnborn && hasLaterFrame(bytes, found.end, found.next))
      throw corrupt(`${path}: frame ${found.next} is damaged and others follow it`);
    if (isUnborn) file = await startFile(folder, first);
    else {
      file = await open(path, 'r+');
      if (bytes.length > found.end) {
        await file.truncate(found.end);
        await file.sync();
      }
    }
    ({ end } = found);
    last = found.next - 1n;
  }

  let isBroken = false;
  const append = async (frame: JournalFrame): Promise<void> => {
    if (isBroken) throw corrupt('the journal could not be written before; restart the audit service');
    if (frame.number !== last + 1n) throw corrupt(`frame ${frame.number} does not follow frame ${last}`);
    const bytes = encodeJournalFrame(frame);
    try {
      if (end > fileBytes) {
        await file.close();
        first = frame.number;
        file = await startFile(folder, first);
        end = JOURNAL_MAGIC.length;
      }
      let written = 0;
      while (written < bytes.length)
        written += (await file.write(bytes, written, bytes.length - written, end + written)).bytesWritten;
      await file.datasync();
    } catch (cause) {
      // After a failed sync nobody knows what is on the disk: only opening anew can tell.
      isBroken = true;
      throw corrupt(`the journal cannot be written: ${errorMessage(cause)}`, cause);
    }
    end += bytes.length;
    last = frame.number;
  };

  async function* read(from: bigint): AsyncGenerator<JournalFrame> {
    const starts = await listFiles(folder);
    const oldest = starts[0] ?? 1n;
    if (from < oldest) throw corrupt(`the journal begins with frame ${oldest}, frame ${from} is missing`);
    let expected = starts.findLast((start) => start <= from) ?? oldest;
    for (const start of starts.filter((each) => each >= expected)) {
      if (start !== expected) throw corrupt(`frames ${expected} to ${start - 1n} are missing from the journal`);
      const { bodies, next } = scan(await readFile(join(folder, fileName(start))), start);
      for (const body of bodies) {
        if (frameNumber(body) < from) continue;
        try {
          yield decodeJournalFrame(body);
        } catch (cause) {
          if (isAppError(cause)) throw cause;
          throw corrupt(`frame ${frameNumber(body)} of the journal cannot be read: ${errorMessage(cause)}`, cause);
        }
      }
      expected = next;
    }
    if (expected <= last) throw corrupt(`frame ${expected} of the journal cannot be read`);
  }

  return { last: () => last, append, read, close: () => file.close() };
};
