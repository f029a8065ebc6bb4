import { crc32 } from 'node:zlib';

/*
 * A file of the pushed data's log: frames one after another.
 *
 *   frame = "EDDF" ‖ u32 length of body ‖ u32 crc32 of body ‖ body (JSON)
 *
 * Integers are big-endian. The first frame holds a snapshot, each other one a record.
 */
const MAGIC = Buffer.from('EDDF', 'latin1');
const HEAD_BYTES = 12;
/** A snapshot of the largest document that the settings permit, with room. */
const MAX_BODY_BYTES = 40 * 1024 * 1024;

export const encodeDataFrame = (body: string): Buffer => {
  const bytes = Buffer.from(body, 'utf8');
  const head = Buffer.alloc(HEAD_BYTES);
  MAGIC.copy(head, 0);
  head.writeUInt32BE(bytes.length, 4);
  head.writeUInt32BE(crc32(bytes), 8);
  return Buffer.concat([head, bytes]);
};

/** The body of the frame at `at` and where the next one begins; undefined when no whole frame stands there. */
const frameAt = (bytes: Buffer, at: number): { readonly body: Buffer; readonly end: number } | undefined => {
  if (at + HEAD_BYTES > bytes.length || !bytes.subarray(at, at + 4).equals(MAGIC)) return undefined;
  const length = bytes.readUInt32BE(at + 4);
  const end = at + HEAD_BYTES + length;
  if (length === 0 || length > MAX_BODY_BYTES || end > bytes.length) return undefined;
  const body = bytes.subarray(at + HEAD_BYTES, end);
  return crc32(body) === bytes.readUInt32BE(at + 8) ? { body, end } : undefined;
};

export interface ReadFrames {
  /** Parsed bodies. */
  readonly frames: readonly unknown[];
  /** Where the whole frames end. What follows was being written, or was torn by a power cut. */
  readonly end: number;
  /** A whole frame follows after something that is none: no torn tail, since frames are synced one by one. */
  readonly isDamaged: boolean;
}

export const readFrames = (bytes: Buffer): ReadFrames => {
  const frames: unknown[] = [];
  let end = 0;
  for (let frame = frameAt(bytes, 0); frame !== undefined; frame = frameAt(bytes, end)) {
    frames.push(JSON.parse(frame.body.toString('utf8')));
    end = frame.end;
  }
  let isDamaged = false;
  for (let at = bytes.indexOf(MAGIC, end + 1); at !== -1 && !isDamaged; at = bytes.indexOf(MAGIC, at + 1))
    isDamaged = frameAt(bytes, at) !== undefined;
  return { frames, end, isDamaged };
};
