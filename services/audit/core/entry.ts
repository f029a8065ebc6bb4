import { lp, sha256, u32, u64, ZERO_DIGEST } from '../../shared/contracts/bytes.ts';
import type { EventType } from '../../shared/contracts/events.ts';

/** The kinds of ledger entries; the number is what stands in the entry. */
export const ENTRY_KINDS = {
  decision: 1,
  gap: 2,
  quarantine: 3,
  conflict: 4,
  erasure: 5,
  retention: 6,
  access: 7,
  key: 8,
  heartbeat: 9,
  seal: 10,
  incarnation: 11,
  alert: 12,
  activation: 13,
  artifact: 14,
  emitter: 15,
  heal: 16,
  fulfilment: 17,
  refusals: 18,
  lost: 19,
} as const;
export type EntryKind = keyof typeof ENTRY_KINDS;

/** What the events of emitters become. */
export const KIND_OF_EVENT = {
  'edict.decision.v1': 'decision',
  'edict.refusals.v1': 'refusals',
  'edict.heartbeat.v1': 'heartbeat',
  'edict.start.v1': 'emitter',
  'edict.activation.v1': 'activation',
  'edict.artifact.v1': 'artifact',
  'edict.fulfilment.v1': 'fulfilment',
  'edict.lost.v1': 'lost',
} as const satisfies Readonly<Record<EventType, EntryKind>>;

const KIND_NAMES: ReadonlyMap<number, EntryKind> = new Map(
  (Object.entries(ENTRY_KINDS) as [EntryKind, number][]).map(([name, number]) => [number, name]),
);
export const entryKindName = (kind: number): EntryKind | undefined => KIND_NAMES.get(kind);

/** Content type of the payloads that the audit service makes itself. */
export const OWN_CONTENT_TYPE = 'application/json';

const FORMAT = 1;

/** What an entry commits to, before it is laid out as bytes. */
export interface Entry {
  readonly kind: number;
  /** The entry's index in its log, from 0. */
  readonly seq: bigint;
  readonly ingestUs: bigint;
  /** 16 bytes of a UUIDv7. */
  readonly eventId: Uint8Array;
  readonly topic: string;
  readonly partition: number;
  readonly offset: bigint;
  /** 16 bytes, zeros for entries that the audit service makes itself. */
  readonly emitter: Uint8Array;
  readonly boot: bigint;
  readonly emitterSeq: bigint;
  /** 32 bytes; non-zero only in decisions and activations. */
  readonly policySetDigest: Uint8Array;
  /** C: the 32-byte commitment to the payload. */
  readonly commitment: Uint8Array;
  /** The leaf hash of the entry before this one; at seq 0 the genesis hash. */
  readonly prev: Uint8Array;
}

const sixteen = (id: Uint8Array): Uint8Array => {
  if (id.length !== 16) throw new RangeError('an id has 16 bytes');
  return id;
};

/**
 * E_i: `u8 format ‖ u8 kind ‖ u64 seq ‖ u64 ingest_µs ‖ 16B event id ‖ lp(topic) ‖ u32 partition ‖ u64 offset ‖
 * 16B emitter ‖ u64 boot ‖ u64 emitter_seq ‖ 32B policy set digest ‖ 32B C ‖ 32B prev`, integers big-endian.
 */
export const encodeEntry = (entry: Entry): Buffer => {
  const topic = Buffer.from(entry.topic, 'utf8');
  const out = Buffer.allocUnsafe(2 + 8 + 8 + 16 + 4 + topic.length + 4 + 8 + 16 + 8 + 8 + 96);
  let at = out.writeUInt8(FORMAT, 0);
  at = out.writeUInt8(entry.kind, at);
  at = out.writeBigUInt64BE(entry.seq, at);
  at = out.writeBigUInt64BE(entry.ingestUs, at);
  out.set(sixteen(entry.eventId), at);
  at = out.writeUInt32BE(topic.length, at + 16);
  out.set(topic, at);
  at = out.writeUInt32BE(entry.partition, at + topic.length);
  at = out.writeBigUInt64BE(entry.offset, at);
  out.set(sixteen(entry.emitter), at);
  at = out.writeBigUInt64BE(entry.boot, at + 16);
  at = out.writeBigUInt64BE(entry.emitterSeq, at);
  for (const digest of [entry.policySetDigest, entry.commitment, entry.prev]) {
    if (digest.length !== 32) throw new RangeError('a digest has 32 bytes');
    out.set(digest, at);
    at += 32;
  }
  return out;
};

/** The entry in `bytes`. Throws RangeError on a wrong format, a cut or over-long entry or a malformed topic. */
export const decodeEntry = (bytes: Uint8Array): Entry => {
  const view = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
  const fail = (why: string): never => {
    throw new RangeError(`malformed entry: ${why}`);
  };
  if (view.length < 38) return fail('too short');
  if (view[0] !== FORMAT) return fail(`format ${String(view[0])}`);
  const topicLength = view.readUInt32BE(34);
  if (view.length !== 38 + topicLength + 4 + 8 + 16 + 8 + 8 + 96) return fail('wrong length');
  const topicBytes = view.subarray(38, 38 + topicLength);
  const topic = topicBytes.toString('utf8');
  if (!Buffer.from(topic, 'utf8').equals(topicBytes)) return fail('topic is not UTF-8');
  const at = 38 + topicLength;
  return {
    kind: view.readUInt8(1),
    seq: view.readBigUInt64BE(2),
    ingestUs: view.readBigUInt64BE(10),
    eventId: view.subarray(18, 34),
    topic,
    partition: view.readUInt32BE(at),
    offset: view.readBigUInt64BE(at + 4),
    emitter: view.subarray(at + 12, at + 28),
    boot: view.readBigUInt64BE(at + 28),
    emitterSeq: view.readBigUInt64BE(at + 36),
    policySetDigest: view.subarray(at + 44, at + 76),
    commitment: view.subarray(at + 76, at + 108),
    prev: view.subarray(at + 108, at + 140),
  };
};

const LEAF = Buffer.from([0x00]);
const RAW = Buffer.from('edict/raw/v1\0', 'utf8');
const RECORD = Buffer.from('edict/rec/v1\0', 'utf8');
const GENESIS = Buffer.from('edict/genesis/v1\0', 'utf8');
/** F while no field commitments are made: the root of the empty tree, H(""). */
const NO_FIELDS = sha256();

/** leaf_i = H(0x00 ‖ E_i), the RFC 6962 leaf hash. */
export const leafHash = (encodedEntry: Uint8Array): Buffer => sha256(Buffer.concat([LEAF, encodedEntry]));

/** C = H("edict/rec/v1\0" ‖ D ‖ F) with D = H("edict/raw/v1\0" ‖ salt ‖ lp(content type) ‖ lp(P)). */
export const commitPayload = (salt: Uint8Array, contentType: string, payload: Uint8Array): Buffer => {
  if (salt.length !== 32) throw new RangeError('a salt has 32 bytes');
  const raw = sha256(Buffer.concat([RAW, salt, lp(contentType), u32(payload.length), payload]));
  return sha256(Buffer.concat([RECORD, raw, NO_FIELDS]));
};

export interface Genesis {
  readonly origin: string;
  readonly vkey: string;
  /** The incarnation that this one continues, if any. */
  readonly previous?: { readonly origin: string; readonly size: bigint; readonly root: Uint8Array };
}

/** prev_0 = H("edict/genesis/v1\0" ‖ lp(origin) ‖ lp(vkey) ‖ lp(previous origin or "") ‖ u64 size ‖ 32B root). */
export const genesisHash = ({ origin, vkey, previous }: Genesis): Buffer =>
  sha256(
    GENESIS,
    lp(origin),
    lp(vkey),
    lp(previous?.origin ?? ''),
    u64(previous?.size ?? 0n),
    previous?.root ?? ZERO_DIGEST,
  );

/** The segment (partition) that holds the entry `seq`: 65,536 entries each, one full level-1 tile. */
export const segmentOf = (seq: bigint): number => Number(seq >> 16n);
