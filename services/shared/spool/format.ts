import { crc32 } from 'node:zlib';

/**
 * A segment file: 44 bytes of header, then frames. Integers are big-endian.
 *
 *   header = "EDICTSPL" ‖ u32 format version ‖ 16B emitter id ‖ u64 number of the first record ‖ u32 0 ‖ u32 crc32
 *   frame  = u32 length of body ‖ u32 crc32 of body ‖ body
 *   body   = u8 flags ‖ u8 length of tenant ‖ tenant ‖ u64 boot ‖ u64 sequence ‖ u32 synced ‖ event bytes
 *
 * A record's number is the segment's first number plus its index. `synced` is the position in this file up to
 * which the writer knew the disk to have it when it wrote the frame: recovery tells a torn tail (never synced)
 * from damage (synced once) by it.
 */
export const SEGMENT_HEADER_BYTES = 44;
export const FORMAT_VERSION = 1;
/** The largest body that a reader takes: an event of at most 900 kB and its facts, with room. */
export const MAX_BODY_BYTES = 1024 * 1024;
export const MAX_FRAME_BYTES = 8 + MAX_BODY_BYTES;

const MAGIC = Buffer.from('EDICTSPL', 'latin1');
const FLAG_RESERVE = 0x01;
const FRAME_HEAD_BYTES = 8;
/** Flags, tenant length, boot, sequence, synced. */
const BODY_FIXED_BYTES = 1 + 1 + 8 + 8 + 4;
const SEGMENT_NAME = /^(\d{20})\.seg$/;

export interface SegmentHeader {
  /** 32 hex digits. */
  readonly emitter: string;
  /** The number of the first record. */
  readonly base: bigint;
}

/** A record as it lies in the spool. */
export interface SpoolRecord {
  /** Counts from 0 over the life of the emitter's key, all tenants together. */
  readonly number: bigint;
  readonly tenant: string;
  readonly boot: bigint;
  readonly sequence: bigint;
  /** Start, heartbeat, final, refusals or lost event: may use the reserve. */
  readonly reserve: boolean;
  /** The event's bytes, exactly as they were written. */
  readonly event: Buffer;
}

export interface FrameFacts {
  readonly tenant: string;
  readonly boot: bigint;
  readonly sequence: bigint;
  readonly reserve: boolean;
  readonly syncedPosition: number;
}

export interface Frame extends FrameFacts {
  readonly event: Buffer;
  /** Of the whole frame. */
  readonly frameBytes: number;
}

export type DecodedFrame =
  | ({ readonly kind: 'frame' } & Frame)
  /** More bytes are needed than there are. */
  | { readonly kind: 'incomplete' }
  | { readonly kind: 'bad'; readonly reason: string };

export const segmentFileName = (base: bigint): string => `${base.toString().padStart(20, '0')}.seg`;

/** The first record's number of a segment file's name, or undefined for any other file. */
export const segmentBaseOf = (fileName: string): bigint | undefined => {
  const digits = SEGMENT_NAME.exec(fileName)?.[1];
  return digits === undefined ? undefined : BigInt(digits);
};

export const encodeSegmentHeader = ({ emitter, base }: SegmentHeader): Buffer => {
  const header = Buffer.alloc(SEGMENT_HEADER_BYTES);
  MAGIC.copy(header, 0);
  header.writeUInt32BE(FORMAT_VERSION, 8);
  header.write(emitter, 12, 16, 'hex');
  header.writeBigUInt64BE(base, 28);
  header.writeUInt32BE(crc32(header.subarray(0, SEGMENT_HEADER_BYTES - 4)), SEGMENT_HEADER_BYTES - 4);
  return header;
};

/** Undefined when the bytes are no segment header of this format version. */
export const decodeSegmentHeader = (bytes: Buffer): SegmentHeader | undefined => {
  if (bytes.length < SEGMENT_HEADER_BYTES || !bytes.subarray(0, 8).equals(MAGIC)) return undefined;
  const sum = bytes.readUInt32BE(SEGMENT_HEADER_BYTES - 4);
  if (crc32(bytes.subarray(0, SEGMENT_HEADER_BYTES - 4)) !== sum) return undefined;
  if (bytes.readUInt32BE(8) !== FORMAT_VERSION) return undefined;
  return { emitter: bytes.toString('hex', 12, 28), base: bytes.readBigUInt64BE(28) };
};

/** The size of the frame of an event of `eventBytes`; the tenant's name is ASCII. */
export const frameBytesOf = (tenant: string, eventBytes: number): number =>
  FRAME_HEAD_BYTES + BODY_FIXED_BYTES + tenant.length + eventBytes;

/** Writes a frame at `at`, which must have room for `frameBytesOf`; returns the frame's size. */
export const encodeFrame = (
  target: Buffer,
  at: number,
  facts: FrameFacts,
  event: string | Uint8Array,
  eventBytes: number,
): number => {
  const { tenant } = facts;
  const body = at + FRAME_HEAD_BYTES;
  const bodyBytes = BODY_FIXED_BYTES + tenant.length + eventBytes;
  target[body] = facts.reserve ? FLAG_RESERVE : 0;
  target[body + 1] = tenant.length;
  target.write(tenant, body + 2, tenant.length, 'latin1');
  let position = body + 2 + tenant.length;
  position = target.writeBigUInt64BE(facts.boot, position);
  position = target.writeBigUInt64BE(facts.sequence, position);
  position = target.writeUInt32BE(facts.syncedPosition, position);
  if (typeof event === 'string') target.write(event, position, eventBytes, 'utf8');
  else target.set(event, position);
  target.writeUInt32BE(bodyBytes, at);
  target.writeUInt32BE(crc32(target.subarray(body, body + bodyBytes)), at + 4);
  return FRAME_HEAD_BYTES + bodyBytes;
};

/** Reads the frame at `at` of `bytes`. The event is a view of `bytes`, not a copy. */
export const decodeFrame = (bytes: Buffer, at: number): DecodedFrame => {
  if (at + FRAME_HEAD_BYTES > bytes.length) return { kind: 'incomplete' };
  const bodyBytes = bytes.readUInt32BE(at);
  // An all-zero stretch, as a power cut leaves it, must not pass for an empty record: crc32 of nothing is 0.
  if (bodyBytes <= BODY_FIXED_BYTES || bodyBytes > MAX_BODY_BYTES)
    return { kind: 'bad', reason: `length ${bodyBytes} is out of range` };
  const body = at + FRAME_HEAD_BYTES;
  if (body + bodyBytes > bytes.length) return { kind: 'incomplete' };
  if (crc32(bytes.subarray(body, body + bodyBytes)) !== bytes.readUInt32BE(at + 4))
    return { kind: 'bad', reason: 'checksum does not fit' };
  const tenantBytes = bytes[body + 1] ?? 0;
  if (tenantBytes === 0 || BODY_FIXED_BYTES + tenantBytes > bodyBytes)
    return { kind: 'bad', reason: 'tenant is out of range' };
  const position = body + 2 + tenantBytes;
  return {
    kind: 'frame',
    reserve: ((bytes[body] ?? 0) & FLAG_RESERVE) !== 0,
    tenant: bytes.toString('latin1', body + 2, position),
    boot: bytes.readBigUInt64BE(position),
    sequence: bytes.readBigUInt64BE(position + 8),
    syncedPosition: bytes.readUInt32BE(position + 16),
    event: bytes.subarray(position + 20, body + bodyBytes),
    frameBytes: FRAME_HEAD_BYTES + bodyBytes,
  };
};

/**
 * Where the first whole frame begins in `bytes`, from `from` on and before `end`; undefined when none does. It looks at
 * zero bytes only, with which every possible length begins: no event has one, so none can be taken for a frame.
 */
export const findFrame = (bytes: Buffer, from: number, end: number): number | undefined => {
  for (let at = bytes.indexOf(0, from); at >= 0 && at < end; at = bytes.indexOf(0, at + 1))
    if (decodeFrame(bytes, at).kind === 'frame') return at;
  return undefined;
};
