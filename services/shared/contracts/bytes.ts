import { createHash, hash } from 'node:crypto';

/** 32 zero bytes: the digest that stands for "nothing before" and "no policy". */
export const ZERO_DIGEST: Uint8Array = new Uint8Array(32);

/** SHA-256 of the concatenation of `parts`, 32 bytes. */
export const sha256 = (...parts: readonly (Uint8Array | string)[]): Buffer => {
  const [only] = parts;
  // The one-shot call costs half as much on short inputs; a Buffer of its own would cost as much again as the hash.
  if (parts.length === 1 && only !== undefined) return Buffer.from(hash('sha256', only, 'binary'), 'latin1');
  const digest = createHash('sha256');
  for (const part of parts) digest.update(part);
  return digest.digest();
};

/** The same as `sha256` of one part, in hex. */
export const sha256Hex = (bytes: Uint8Array | string): string => hash('sha256', bytes, 'hex');

/** `lp(x)` = u32 big-endian length, then x. A string is taken as its UTF-8 bytes. */
export const lp = (value: Uint8Array | string): Buffer => {
  const bytes = typeof value === 'string' ? Buffer.from(value, 'utf8') : value;
  const out = Buffer.allocUnsafe(4 + bytes.length);
  out.writeUInt32BE(bytes.length, 0);
  out.set(bytes, 4);
  return out;
};

export const u32 = (value: number): Buffer => {
  const out = Buffer.allocUnsafe(4);
  out.writeUInt32BE(value, 0);
  return out;
};

export const u64 = (value: bigint): Buffer => {
  const out = Buffer.allocUnsafe(8);
  out.writeBigUInt64BE(value, 0);
  return out;
};

export const hex = (bytes: Uint8Array): string =>
  Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('hex');

export const fromHex = (text: string): Buffer => Buffer.from(text, 'hex');

export const bytesEqual = (a: Uint8Array, b: Uint8Array): boolean => Buffer.compare(a, b) === 0;
