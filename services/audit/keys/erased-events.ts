import { closeSync, fstatSync, fsyncSync, mkdirSync, openSync, readFileSync, writeSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { hex } from '../../shared/contracts/bytes.ts';
import { errorCode } from '../../shared/contracts/errors.ts';
import { uuidToBytes } from '../../shared/contracts/uuid.ts';
import { fsyncDirectory } from '../../shared/settings/home.ts';

const ID_BYTES = 16;

/** Ids of events that were erased one by one, in a file a tenant: an id that is in it never gets a key again. */
export interface ErasedEvents {
  readonly has: (tenant: string, eventId: string) => boolean;
  /** Durable when done. */
  readonly add: (tenant: string, eventIds: readonly string[]) => void;
}

export const createErasedEvents = (folder: string): ErasedEvents => {
  const known = new Map<string, Set<string>>();

  const read = (tenant: string): Set<string> => {
    const loaded = known.get(tenant);
    if (loaded !== undefined) return loaded;
    const ids = new Set<string>();
    try {
      const bytes = readFileSync(join(folder, tenant));
      // What a crash left of an id at the end is no id.
      for (let at = 0; at + ID_BYTES <= bytes.length; at += ID_BYTES) ids.add(hex(bytes.subarray(at, at + ID_BYTES)));
    } catch (cause) {
      if (errorCode(cause) !== 'ENOENT') throw cause;
    }
    known.set(tenant, ids);
    return ids;
  };

  return {
    has: (tenant, eventId) => {
      const ids = read(tenant);
      return ids.size > 0 && ids.has(hex(uuidToBytes(eventId)));
    },
    add: (tenant, eventIds) => {
      const ids = read(tenant);
      const fresh = eventIds.map(uuidToBytes).filter((id) => !ids.has(hex(id)));
      if (fresh.length === 0) return;
      mkdirSync(folder, { recursive: true, mode: 0o700 });
      fsyncDirectory(dirname(folder));
      const fd = openSync(join(folder, tenant), 'a+', 0o600);
      try {
        const torn = fstatSync(fd).size % ID_BYTES;
        // Appending only: the rest of a torn id is filled up, so that ids begin at multiples of 16.
        const bytes = Buffer.concat([Buffer.alloc(torn === 0 ? 0 : ID_BYTES - torn), ...fresh]);
        // A write may be short: a full disk, a limit.
        for (let done = 0; done < bytes.length;) done += writeSync(fd, bytes, done);
        fsyncSync(fd);
      } finally {
        closeSync(fd);
      }
      fsyncDirectory(folder);
      for (const id of fresh) ids.add(hex(id));
    },
  };
};
