import { randomHex } from './random-hex.ts';

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/;
/** The digits that begin with the variant's bits 10, by the two that follow. */
const VARIANT_DIGITS = '89ab';

let lastMs = Number.NaN;
let lastTime = '';

/** 48 bits of Unix milliseconds as the first two groups; many ids share a millisecond. */
const timeText = (nowMs: number): string => {
  if (nowMs !== lastMs) {
    const digits = Math.floor(nowMs).toString(16).padStart(12, '0');
    lastTime = `${digits.slice(0, 8)}-${digits.slice(8)}-7`;
    lastMs = nowMs;
  }
  return lastTime;
};

/** A UUIDv7 (RFC 9562, section 5.7) in lower-case text: 48 bits of Unix milliseconds, 74 random bits. */
export const newUuidV7 = (nowMs: number = Date.now()): string => {
  const random = randomHex(19);
  const variant = VARIANT_DIGITS.charAt(Number.parseInt(random.charAt(0), 16) & 3);
  return `${timeText(nowMs)}${random.slice(1, 4)}-${variant}${random.slice(4, 7)}-${random.slice(7)}`;
};

/** True for a UUIDv7 in canonical lower-case text. */
export const isUuidV7 = (text: string): boolean => UUID.test(text);

export const uuidToBytes = (uuid: string): Buffer => Buffer.from(uuid.replaceAll('-', ''), 'hex');

export const bytesToUuid = (bytes: Uint8Array): string => {
  const text = Buffer.from(bytes).toString('hex');
  return `${text.slice(0, 8)}-${text.slice(8, 12)}-${text.slice(12, 16)}-${text.slice(16, 20)}-${text.slice(20, 32)}`;
};
