import { readdirSync } from 'node:fs';
import { errorCode } from '../../shared/contracts/errors.ts';
import type { VerifierKey } from '../../shared/contracts/signatures.ts';
import { homePaths } from '../../shared/settings/home.ts';
import { readAckFile, writeAckFile } from '../../shared/spool/ack-file.ts';
import { openSpoolReader } from '../../shared/spool/reader.ts';
import { listSegments } from '../../shared/spool/segments.ts';
import { listSpools, type SpoolOfSlot } from '../../shared/spool/slots.ts';
import type { AckSink } from './ack-publisher.ts';

const EMITTER = /^[0-9a-f]{32}$/;
const FIRST_RECORD = { maxRecords: 1, maxBytes: 1 } as const;

/** The boot of the oldest record, after which no older one comes; 0 when it cannot be told. */
const firstBoot = async ({ directory, emitter }: SpoolOfSlot, from: bigint): Promise<bigint> => {
  const reader = openSpoolReader({ directory, emitter, from });
  try {
    const batch = await reader.read(FIRST_RECORD);
    return batch.kind === 'records' ? (batch.records[0]?.boot ?? 0n) : 0n;
  } finally {
    reader.close();
  }
};

/** Acknowledgements in `home/acks/<emitter>`, for decision points on this machine. */
export const createFileSink = (home: string, verifier: VerifierKey): AckSink => {
  /** By spool: the number of its oldest record, and that record's boot. */
  const oldest = new Map<string, { readonly base: bigint; readonly boot: bigint }>();
  return {
    publish: (emitter, acks) => {
      writeAckFile(home, emitter, acks);
      return Promise.resolve();
    },
    published: () => {
      let names: readonly string[];
      try {
        names = readdirSync(homePaths(home).acks);
      } catch (error) {
        if (errorCode(error) === 'ENOENT') return Promise.resolve([]);
        throw error;
      }
      const emitters = names.filter((name) => EMITTER.test(name));
      return Promise.resolve(emitters.flatMap((emitter) => readAckFile(home, emitter, [verifier])?.acks ?? []));
    },
    held: async () => {
      const held = new Map<string, bigint>();
      for (const spool of listSpools(home).spools) {
        const base = listSegments(spool.directory)[0];
        if (base === undefined) continue;
        let known = oldest.get(spool.directory);
        if (known?.base !== base || known.boot === 0n) {
          known = { base, boot: await firstBoot(spool, base) };
          oldest.set(spool.directory, known);
        }
        // A spool that was moved aside and moved back has the emitter twice.
        const other = held.get(spool.emitter);
        held.set(spool.emitter, other === undefined || known.boot < other ? known.boot : other);
      }
      return held;
    },
    failure: () => undefined,
    close: () => Promise.resolve(),
  };
};
