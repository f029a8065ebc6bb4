import { randomFillSync } from 'node:crypto';

const POOL_BYTES = 10 * 256;
const pool = Buffer.allocUnsafe(POOL_BYTES);
let poolOffset = POOL_BYTES;
const HEX: readonly string[] = Array.from({ length: 256 }, (_, i) => i.toString(16).padStart(2, '0'));
const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/;

/**
 * A UUIDv7 (RFC 9562, section 5.7) in lower-case text: 48 bits of Unix milliseconds, 74 random bits.
 * Randomness is drawn for 256 ids at a time, which costs a tenth of a call for each.
 */
export const newUuidV7 = (nowMs: number = Date.now()): string => {
  if (poolOffset + 10 > POOL_BYTES) {
    randomFillSync(pool);
    poolOffset = 0;
  }
  const at = (index: number): string => HEX[pool[poolOffset + index] ?? 0] ?? '00';
  const time = Math.floor(nowMs).toString(16).padStart(12, '0');
  const version = HEX[((pool[poolOffset] ?? 0) & 0x0f) | 0x70] ?? '70';
  const variant = HEX[((pool[poolOffset + 2] ?? 0) & 0x3f) | 0x80] ?? '80';
  const id = `${time.slice(0, 8)}-${time.slice(8)}-${version}${at(1)}-${variant}${at(3)}-${at(4)}${at(5)}${at(6)}${at(7)}${at(8)}${at(9)}`;
  poolOffset += 10;
  return id;
};

/** True for a UUIDv7 in canonical lower-case text. */
export const isUuidV7 = (text: string): boolean => UUID.test(text);

export const uuidToBytes = (uuid: string): Buffer => Buffer.from(uuid.replaceAll('-', ''), 'hex');

export const bytesToUuid = (bytes: Uint8Array): string => {
  const text = Buffer.from(bytes).toString('hex');
  return `${text.slice(0, 8)}-${text.slice(8, 12)}-${text.slice(12, 16)}-${text.slice(16, 20)}-${text.slice(20, 32)}`;
};
