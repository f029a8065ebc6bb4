import {
  closeSync,
  existsSync,
  fdatasyncSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readFileSync,
  readSync,
  renameSync,
  rmSync,
  writeSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { crc32 } from 'node:zlib';
import { hex, sha256 } from '../../shared/contracts/bytes.ts';
import { AppError, errorCode, errorMessage, isAppError } from '../../shared/contracts/errors.ts';
import { bytesToUuid, uuidToBytes } from '../../shared/contracts/uuid.ts';
import { fsyncDirectory, readOrCreateFile } from '../../shared/settings/home.ts';
import type { Log } from '../core/append.ts';
import { segmentOf } from '../core/entry.ts';
import {
  newKey,
  unwrapPayloadKey,
  unwrapSubjectKey,
  WRAPPED_BYTES,
  wrapPayloadKey,
  wrapSubjectKey,
} from '../core/payload.ts';
import type { PayloadKeyReference, PayloadKeyRequest, PayloadKeys } from '../core/payload-keys.ts';
import { createKeyNames, masterKeyName } from '../core/pseudonym.ts';
import { createBoundedMap } from './bounded-map.ts';
import { createErasedEvents } from './erased-events.ts';

export interface FilePayloadKeysOptions {
  /** 32 bytes. */
  readonly masterKey: Uint8Array;
  /** Data subjects whose keys are kept in memory; default 10,000. */
  readonly cachedSubjects?: number;
}

/** A slot: event id(16) ‖ subject's name(32) ‖ wrapped key(60) ‖ CRC-32(4); zeros when it was never used or destroyed. */
const SLOT_BYTES = 16 + 32 + WRAPPED_BYTES + 4;
const CRC_AT = SLOT_BYTES - 4;

const encodeSlot = (eventId: string, name: Uint8Array, wrapped: Uint8Array): Buffer => {
  const slot = Buffer.alloc(SLOT_BYTES);
  slot.set(uuidToBytes(eventId), 0);
  slot.set(name, 16);
  slot.set(wrapped, 48);
  slot.writeUInt32BE(crc32(slot.subarray(0, CRC_AT)), CRC_AT);
  return slot;
};

interface Subject {
  /** Undefined once it is erased, and when it is damaged. */
  readonly key: Buffer | undefined;
  /** Its file holds something that does not open, though the master key was checked. */
  readonly isDamaged: boolean;
  /** Nothing new gets a key. */
  readonly isClosed: boolean;
}

interface Slot {
  readonly name: Buffer;
  readonly wrapped: Buffer;
}

/** The slot's content when it is whole and belongs to the event. */
const decodeSlot = (slot: Buffer, eventId: string): Slot | undefined => {
  if (slot.length !== SLOT_BYTES || slot.readUInt32BE(CRC_AT) !== crc32(slot.subarray(0, CRC_AT))) return undefined;
  if (!slot.subarray(0, 16).equals(uuidToBytes(eventId))) return undefined;
  return { name: slot.subarray(16, 48), wrapped: slot.subarray(48, CRC_AT) };
};

const readAt = (fd: number, position: number, length: number): Buffer => {
  const bytes = Buffer.alloc(length);
  let done = 0;
  while (done < length) {
    const count = readSync(fd, bytes, done, length - done, position + done);
    if (count === 0) break;
    done += count;
  }
  return bytes;
};

const writeAt = (fd: number, position: number, bytes: Buffer): void => {
  let done = 0;
  while (done < bytes.length) done += writeSync(fd, bytes, done, bytes.length - done, position + done);
};

/** Durable when done. */
const overwrite = (path: string, position: number, bytes: Buffer): void => {
  const fd = openSync(path, 'r+');
  try {
    writeAt(fd, position, bytes);
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
};

/** Empty where there is no file. */
const readSegment = (path: string): Buffer => {
  try {
    return readFileSync(path);
  } catch (cause) {
    if (errorCode(cause) === 'ENOENT') return Buffer.alloc(0);
    throw cause;
  }
};

const unavailable = (cause: unknown): AppError =>
  isAppError(cause) ? cause : new AppError('keys_unavailable', `subject keys: ${errorMessage(cause)}`, { cause });

/**
 * Payload keys in files, for the embedded database, whose one writer this is:
 *
 * - `master`: which master key this store belongs to, as an HMAC under it.
 * - `subjects/<2 hex>/<name>`: a data subject's key under the master key; one more byte behind it once it is closed;
 *   once erased, zeros in its place.
 * - `erased/<tenant>`: ids of single events that are erased, 16 bytes each.
 * - `logs/<digest of the origin>/<segment>.keys`: one slot an entry, so that a key can be overwritten where it lies.
 *
 * A slot that holds another event's key is left from a transaction that did not commit, and is used again.
 */
export const createFilePayloadKeys = (folder: string, options: FilePayloadKeysOptions): PayloadKeys => {
  const { masterKey } = options;
  const names = createKeyNames(masterKey);
  const subjects = createBoundedMap<Subject>(options.cachedSubjects ?? 10_000);
  const erasedEvents = createErasedEvents(join(folder, 'erased'));

  // The name in the path also depends on the tenant, since names are made with the tenant's key.
  const subjectFile = (name: string): string => join(folder, 'subjects', name.slice(0, 2), name);
  const segmentFile = (origin: string, segment: number): string =>
    join(folder, 'logs', hex(sha256(origin)).slice(0, 32), `${segment}.keys`);

  const readSubject = (tenant: string, name: string): Subject | undefined => {
    const known = subjects.get(`${tenant}/${name}`);
    if (known !== undefined) return known;
    let bytes: Buffer;
    try {
      bytes = readFileSync(subjectFile(name));
    } catch (cause) {
      if (errorCode(cause) === 'ENOENT') return undefined;
      throw cause;
    }
    const wrapped = bytes.subarray(0, WRAPPED_BYTES);
    const isErased = wrapped.length === WRAPPED_BYTES && wrapped.every((byte) => byte === 0);
    const key = isErased ? undefined : unwrapSubjectKey(masterKey, tenant, Buffer.from(name, 'hex'), wrapped);
    const isDamaged = !isErased && key === undefined;
    const subject = { key, isDamaged, isClosed: isErased || bytes.length > WRAPPED_BYTES };
    subjects.set(`${tenant}/${name}`, subject);
    return subject;
  };

  /** Writes subject files whole or not at all; durable when done. */
  const writeSubjects = (files: readonly { readonly path: string; readonly bytes: Buffer }[]): void => {
    const folders = new Set<string>();
    for (const { path, bytes } of files) {
      mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
      const fd = openSync(`${path}.new`, 'w', 0o600);
      try {
        writeAt(fd, 0, bytes);
        fdatasyncSync(fd);
      } finally {
        closeSync(fd);
      }
      renameSync(`${path}.new`, path);
      folders.add(dirname(path));
    }
    for (const each of folders) fsyncDirectory(each);
    if (folders.size > 0) fsyncDirectory(join(folder, 'subjects'));
  };

  const subjectKeys = (tenant: string, wanted: ReadonlySet<string>): ReadonlyMap<string, Subject> => {
    const found = new Map<string, Subject>();
    const fresh: { readonly name: string; readonly key: Buffer }[] = [];
    for (const name of wanted) {
      const subject = readSubject(tenant, name);
      if (subject?.isDamaged === true)
        throw new AppError('keys_unavailable', 'a subject key does not open: its bytes were changed');
      if (subject === undefined) fresh.push({ name, key: newKey() });
      else found.set(name, subject);
    }
    writeSubjects(
      fresh.map(({ name, key }) => ({
        path: subjectFile(name),
        bytes: wrapSubjectKey(masterKey, tenant, Buffer.from(name, 'hex'), key),
      })),
    );
    for (const { name, key } of fresh) {
      const subject = { key, isDamaged: false, isClosed: false };
      found.set(name, subject);
      subjects.set(`${tenant}/${name}`, subject);
    }
    return found;
  };

  const openSegment = (origin: string, segment: number): number => {
    const path = segmentFile(origin, segment);
    try {
      return openSync(path, 'r+');
    } catch (cause) {
      if (errorCode(cause) !== 'ENOENT') throw cause;
    }
    mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
    const fd = openSync(path, 'w+', 0o600);
    fsyncSync(fd);
    for (const each of [dirname(path), join(folder, 'logs'), folder]) fsyncDirectory(each);
    return fd;
  };

  /** Requests of one segment, whose seqs follow each other closely: one read, one write, one sync. */
  const issueInSegment = (
    { tenant, origin }: Pick<Log, 'tenant' | 'origin'>,
    segment: number,
    requests: readonly PayloadKeyRequest[],
  ): ReadonlyMap<PayloadKeyRequest, Buffer> => {
    const issued = new Map<PayloadKeyRequest, Buffer>();
    const named = requests.map((request) => ({ request, name: names(tenant, request.subject) }));
    const keys = subjectKeys(tenant, new Set(named.map(({ name }) => hex(name))));
    const slots = requests.map(({ seq }) => Number(seq & 0xffffn));
    const first = Math.min(...slots);
    const length = (Math.max(...slots) - first + 1) * SLOT_BYTES;
    const fd = openSegment(origin, segment);
    try {
      const bytes = readAt(fd, first * SLOT_BYTES, length);
      for (const { request, name } of named) {
        const subject = keys.get(hex(name));
        if (subject?.key === undefined) continue;
        const subjectKey = subject.key;
        const at = (Number(request.seq & 0xffffn) - first) * SLOT_BYTES;
        const place = { origin, seq: request.seq, eventId: request.eventId };
        const present = decodeSlot(bytes.subarray(at, at + SLOT_BYTES), request.eventId);
        const earlier =
          present?.name.equals(name) === true ? unwrapPayloadKey(subjectKey, place, present.wrapped) : undefined;
        if (earlier === undefined && (subject.isClosed || erasedEvents.has(tenant, request.eventId))) continue;
        const key = earlier ?? newKey();
        if (earlier === undefined)
          bytes.set(encodeSlot(request.eventId, name, wrapPayloadKey(subjectKey, place, key)), at);
        issued.set(request, key);
      }
      writeAt(fd, first * SLOT_BYTES, bytes);
      fdatasyncSync(fd);
    } finally {
      closeSync(fd);
    }
    return issued;
  };

  /** Groups by segment, keeping the order. */
  const bySegment = <T extends PayloadKeyReference>(references: readonly T[]): ReadonlyMap<number, readonly T[]> => {
    const groups = new Map<number, T[]>();
    for (const reference of references) {
      const segment = segmentOf(reference.seq);
      const group = groups.get(segment);
      if (group === undefined) groups.set(segment, [reference]);
      else group.push(reference);
    }
    return groups;
  };

  /** Runs `work` on each group's file; groups without a file are left out. */
  const withSegments = <T extends PayloadKeyReference>(
    origin: string,
    references: readonly T[],
    flags: 'r' | 'r+',
    work: (fd: number, group: readonly T[]) => void,
  ): void => {
    for (const [segment, group] of bySegment(references)) {
      let fd: number;
      try {
        fd = openSync(segmentFile(origin, segment), flags);
      } catch (cause) {
        if (errorCode(cause) === 'ENOENT') continue;
        throw cause;
      }
      try {
        work(fd, group);
      } finally {
        closeSync(fd);
      }
    }
  };

  let isChecked = false;
  /** The store must be the one of this master key; the first that comes to an empty store makes it its own. */
  const checkMaster = (): void => {
    if (isChecked) return;
    const name = masterKeyName(masterKey);
    if (!readOrCreateFile(join(folder, 'master'), () => name).equals(name))
      throw new AppError('keys_unavailable', `${folder}: belongs to another master key`);
    isChecked = true;
  };

  /** As the others do, answers failures by rejecting, never by throwing. */
  const answer = <T>(work: () => T): Promise<T> => {
    try {
      checkMaster();
      return Promise.resolve(work());
    } catch (cause) {
      return Promise.reject(unavailable(cause));
    }
  };

  return {
    issue: (log, requests) =>
      answer(() => {
        const issued = new Map<PayloadKeyRequest, Buffer>();
        for (const [segment, group] of bySegment(requests))
          for (const [request, key] of issueInSegment(log, segment, group)) issued.set(request, key);
        return requests.map((request) => issued.get(request));
      }),
    find: ({ tenant, origin }, references) =>
      answer(() => {
        const found = new Map<PayloadKeyReference, Buffer>();
        withSegments(origin, references, 'r', (fd, group) => {
          for (const reference of group) {
            const slot = decodeSlot(
              readAt(fd, Number(reference.seq & 0xffffn) * SLOT_BYTES, SLOT_BYTES),
              reference.eventId,
            );
            const subject = slot === undefined ? undefined : readSubject(tenant, hex(slot.name))?.key;
            if (slot === undefined || subject === undefined) continue;
            const key = unwrapPayloadKey(subject, { origin, ...reference }, slot.wrapped);
            if (key !== undefined) found.set(reference, key);
          }
        });
        return references.map((reference) => {
          const key = found.get(reference);
          return key === undefined ? [] : [key];
        });
      }),
    destroyEntries: ({ origin }, references) =>
      answer(() =>
        withSegments(origin, references, 'r+', (fd, group) => {
          for (const { seq, eventId } of group) {
            const position = Number(seq & 0xffffn) * SLOT_BYTES;
            if (decodeSlot(readAt(fd, position, SLOT_BYTES), eventId) !== undefined)
              writeAt(fd, position, Buffer.alloc(SLOT_BYTES));
          }
          fdatasyncSync(fd);
        }),
      ),
    nameOf: names,
    closeSubject: (tenant, name) =>
      answer(() => {
        const path = subjectFile(hex(name));
        subjects.delete(`${tenant}/${hex(name)}`);
        // Behind the key, which stays where it is: another file would leave a copy of it on the disk.
        if (existsSync(path)) overwrite(path, WRAPPED_BYTES, Buffer.from([1]));
        else writeSubjects([{ path, bytes: Buffer.alloc(WRAPPED_BYTES) }]);
      }),
    closeEvents: (tenant, eventIds) => answer(() => erasedEvents.add(tenant, eventIds)),
    entriesOf: ({ origin }, name, from, to) =>
      answer(() => {
        const found: PayloadKeyReference[] = [];
        for (let segment = segmentOf(from); segment <= segmentOf(to - 1n); segment += 1) {
          const bytes = readSegment(segmentFile(origin, segment));
          for (let at = 0; at + SLOT_BYTES <= bytes.length; at += SLOT_BYTES) {
            const seq = (BigInt(segment) << 16n) + BigInt(at / SLOT_BYTES);
            const slot = bytes.subarray(at, at + SLOT_BYTES);
            const eventId = bytesToUuid(slot.subarray(0, 16));
            if (seq >= from && seq < to && decodeSlot(slot, eventId)?.name.equals(name) === true)
              found.push({ seq, eventId });
          }
        }
        return found;
      }),
    destroySegment: ({ origin }, segment) =>
      answer(() => {
        const path = segmentFile(origin, segment);
        const { length } = readSegment(path);
        if (length === 0) return;
        overwrite(path, 0, Buffer.alloc(length));
        rmSync(path);
        fsyncDirectory(dirname(path));
      }),
    destroySubject: (tenant, name) =>
      answer(() => {
        const path = subjectFile(hex(name));
        subjects.delete(`${tenant}/${hex(name)}`);
        // In place, so that the key's own blocks are overwritten where the file system does that.
        if (existsSync(path)) overwrite(path, 0, Buffer.alloc(WRAPPED_BYTES));
        else writeSubjects([{ path, bytes: Buffer.alloc(WRAPPED_BYTES) }]);
      }),
    close: () => {
      subjects.clear();
      return Promise.resolve();
    },
  };
};
