import { fromHex } from '../../shared/contracts/bytes.ts';
import { uuidToBytes } from '../../shared/contracts/uuid.ts';
import type { NewEntry } from './append.ts';
import { commitPayload, encodeEntry, ENTRY_KINDS, leafHash } from './entry.ts';
import { freshBytes } from './payload.ts';

/** Where a log ends. */
export interface Head {
  readonly size: bigint;
  /** The last leaf; the genesis hash while the log is empty. */
  readonly leaf: Uint8Array;
  readonly lastIngestUs: bigint;
}

/** An entry that has its place: bytes, leaf and salt. */
export interface PlacedEntry {
  readonly entry: NewEntry;
  readonly seq: bigint;
  readonly ingestUs: bigint;
  readonly salt: Buffer;
  /** E_i */
  readonly header: Buffer;
  readonly leaf: Buffer;
}

/**
 * Gives `entries` the next places of a log: seq, ingest time (never earlier than the entry before), a fresh salt, the
 * commitment, the link to the entry before, the leaf.
 */
export const placeEntries = (
  head: Head,
  entries: readonly NewEntry[],
  nowUs: bigint,
  newSalt: () => Buffer = () => freshBytes(32),
): { readonly placed: readonly PlacedEntry[]; readonly head: Head } => {
  const ingestUs = nowUs > head.lastIngestUs ? nowUs : head.lastIngestUs;
  let { leaf } = head;
  const placed = entries.map((entry, index) => {
    const seq = head.size + BigInt(index);
    const salt = newSalt();
    const header = encodeEntry({
      kind: ENTRY_KINDS[entry.kind],
      seq,
      ingestUs,
      eventId: uuidToBytes(entry.eventId),
      topic: entry.topic,
      partition: entry.partition,
      offset: entry.offset,
      emitter: fromHex(entry.emitter),
      boot: entry.boot,
      emitterSeq: entry.emitterSeq,
      policySetDigest: entry.policySetDigest,
      commitment: commitPayload(salt, entry.contentType, entry.payload),
      prev: leaf,
    });
    const own = leafHash(header);
    leaf = own;
    return { entry, seq, ingestUs, salt, header, leaf: own };
  });
  return { placed, head: { size: head.size + BigInt(entries.length), leaf, lastIngestUs: ingestUs } };
};
