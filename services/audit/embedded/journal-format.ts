import { crc32 } from 'node:zlib';
import { lp } from '../../shared/contracts/bytes.ts';
import { isObject } from '../../shared/contracts/json.ts';
import type { JournalEntry, JournalFrame, JournalOperation } from '../core/journal.ts';

/**
 * A journal file: the 8 bytes `EDICTJ\0\1`, then frames: `u32 length ‖ u32 CRC-32 of the body ‖ body`. Body = `u64
 * number ‖ operations`. An append is `0x01 ‖ lp(JSON of the log) ‖ u32 count ‖ (lp(E_i) ‖ salt(32) ‖ lp(ciphertext,
 * empty for events))…`, a statement is `0x02 ‖ lp(text) ‖ lp(JSON of the parameters, empty for none)`.
 */
export const JOURNAL_MAGIC = Buffer.from('EDICTJ\0\u0001', 'latin1');
export const FRAME_HEADER_BYTES = 8;
export const MAX_JOURNAL_FRAME_BYTES = 512 * 1024 * 1024;

const APPEND = 0x01;
const STATEMENT = 0x02;
const SALT_BYTES = 32;

/** JSON has no bytes and no big integers. */
const toJson = (value: unknown): unknown => {
  if (value instanceof Uint8Array) return { bytes: Buffer.from(value).toString('base64') };
  if (typeof value === 'bigint') return { integer: String(value) };
  if (typeof value === 'object' && value !== null) return { json: JSON.stringify(value) };
  return value ?? null;
};

const fromJson = (value: unknown): unknown => {
  if (!isObject(value)) return value;
  if (typeof value['bytes'] === 'string') return Buffer.from(value['bytes'], 'base64');
  if (typeof value['integer'] === 'string') return BigInt(value['integer']);
  return value['json'];
};

const u32 = (value: number): Buffer => {
  const out = Buffer.allocUnsafe(4);
  out.writeUInt32BE(value, 0);
  return out;
};

const encodeOperation = (operation: JournalOperation): readonly Buffer[] => {
  if (operation.kind === 'append') {
    const { id, tenant, origin } = operation.log;
    return [
      Buffer.from([APPEND]),
      lp(JSON.stringify({ id, tenant, origin })),
      u32(operation.entries.length),
      ...operation.entries.flatMap(({ header, salt, ciphertext }) => [lp(header), salt, lp(ciphertext ?? '')]),
    ];
  }
  const { text, parameters } = operation;
  return [
    Buffer.from([STATEMENT]),
    lp(text),
    lp(parameters === undefined ? '' : JSON.stringify(parameters.map(toJson))),
  ];
};

export const encodeJournalFrame = ({ number, operations }: JournalFrame): Buffer => {
  const start = Buffer.alloc(FRAME_HEADER_BYTES + 8);
  start.writeBigUInt64BE(number, FRAME_HEADER_BYTES);
  const frame = Buffer.concat([start, ...operations.flatMap(encodeOperation)]);
  const body = frame.subarray(FRAME_HEADER_BYTES);
  if (body.length > MAX_JOURNAL_FRAME_BYTES) throw new RangeError('the journal frame is too large');
  frame.writeUInt32BE(body.length, 0);
  frame.writeUInt32BE(crc32(body), 4);
  return frame;
};

/** The body of the frame at `at` when it is whole and its sum fits, else undefined. */
export const wholeBody = (bytes: Buffer, at: number): Buffer | undefined => {
  if (at + FRAME_HEADER_BYTES + 8 > bytes.length) return undefined;
  const length = bytes.readUInt32BE(at);
  const end = at + FRAME_HEADER_BYTES + length;
  if (length < 8 || end > bytes.length) return undefined;
  const body = bytes.subarray(at + FRAME_HEADER_BYTES, end);
  return crc32(body) === bytes.readUInt32BE(at + 4) ? body : undefined;
};

export const frameNumber = (body: Buffer): bigint => body.readBigUInt64BE(0);

/** Throws RangeError or SyntaxError on a body that this version did not write. */
export const decodeJournalFrame = (body: Buffer): JournalFrame => {
  let at = 8;
  const take = (length: number): Buffer => {
    if (at + length > body.length) throw new RangeError('cut journal frame');
    at += length;
    return body.subarray(at - length, at);
  };
  const takePrefixed = (): Buffer => take(take(4).readUInt32BE(0));
  const operations: JournalOperation[] = [];
  while (at < body.length) {
    const tag = take(1)[0];
    if (tag === APPEND) {
      const log: unknown = JSON.parse(takePrefixed().toString('utf8'));
      if (!isObject(log)) throw new RangeError('malformed log in a journal frame');
      const { id, tenant, origin } = log;
      if (typeof id !== 'number' || typeof tenant !== 'string' || typeof origin !== 'string')
        throw new RangeError('malformed log in a journal frame');
      const count = take(4).readUInt32BE(0);
      const entries: JournalEntry[] = [];
      for (let index = 0; index < count; index += 1) {
        const header = takePrefixed();
        const salt = take(SALT_BYTES);
        const ciphertext = takePrefixed();
        entries.push({ header, salt, ...(ciphertext.length === 0 ? {} : { ciphertext }) });
      }
      operations.push({ kind: 'append', log: { id, tenant, origin }, entries });
    } else if (tag === STATEMENT) {
      const text = takePrefixed().toString('utf8');
      const encoded = takePrefixed();
      const parameters: unknown = encoded.length === 0 ? undefined : JSON.parse(encoded.toString('utf8'));
      operations.push({
        kind: 'statement',
        text,
        ...(Array.isArray(parameters) ? { parameters: parameters.map(fromJson) } : {}),
      });
    } else throw new RangeError(`unknown operation ${String(tag)} in a journal frame`);
  }
  return { number: frameNumber(body), operations };
};
