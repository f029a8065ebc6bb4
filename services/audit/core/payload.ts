import { createCipheriv, createDecipheriv, randomFillSync } from 'node:crypto';
import { lp } from '../../shared/contracts/bytes.ts';
import { uuidToBytes } from '../../shared/contracts/uuid.ts';

const NONCE_BYTES = 12;
const TAG_BYTES = 16;
const KEY_BYTES = 32;
const SALT_BYTES = 32;

/** A wrapped key: nonce(12) ‖ AES-256-GCM(key) ‖ tag(16). */
export const WRAPPED_BYTES = NONCE_BYTES + KEY_BYTES + TAG_BYTES;

const POOL_BYTES = 16 * 1024;
const pool = Buffer.allocUnsafeSlow(POOL_BYTES);
let poolAt = POOL_BYTES;

/** `length` fresh random bytes (at most 64), drawn for many calls at once; what was handed out is wiped from the pool. */
export const freshBytes = (length: number): Buffer => {
  if (poolAt + length > POOL_BYTES) {
    randomFillSync(pool);
    poolAt = 0;
  }
  const out = Buffer.allocUnsafe(length);
  pool.copy(out, 0, poolAt, poolAt + length);
  pool.fill(0, poolAt, poolAt + length);
  poolAt += length;
  return out;
};

const seal = (key: Uint8Array, associated: Uint8Array, plain: Uint8Array): Buffer => {
  const nonce = freshBytes(NONCE_BYTES);
  const cipher = createCipheriv('aes-256-gcm', key, nonce);
  cipher.setAAD(associated);
  const sealed = cipher.update(plain);
  // GCM is a stream: `final` gives no bytes, it only makes the tag.
  cipher.final();
  return Buffer.concat([nonce, sealed, cipher.getAuthTag()]);
};

/** The plain bytes, or undefined when key, associated data or bytes are not those of `seal`. */
const open = (key: Uint8Array, associated: Uint8Array, sealed: Uint8Array): Buffer | undefined => {
  if (sealed.length < NONCE_BYTES + TAG_BYTES) return undefined;
  const decipher = createDecipheriv('aes-256-gcm', key, sealed.subarray(0, NONCE_BYTES), { authTagLength: TAG_BYTES });
  decipher.setAAD(associated);
  decipher.setAuthTag(sealed.subarray(sealed.length - TAG_BYTES));
  try {
    const plain = decipher.update(sealed.subarray(NONCE_BYTES, sealed.length - TAG_BYTES));
    // GCM is a stream: `final` gives no bytes, it only compares the tag, and throws.
    decipher.final();
    return plain;
  } catch {
    return undefined;
  }
};

/** Which entry a payload or its key belongs to. */
export interface PayloadPlace {
  readonly origin: string;
  readonly seq: bigint;
  /** UUID text. */
  readonly eventId: string;
}

/** The one of the entry before, most of the time. */
let lastOrigin = { text: '', bytes: lp('') };

/** Associated data of a payload and of its wrapped key: lp(origin) ‖ u64 seq ‖ 16B event id. */
const placeBytes = ({ origin, seq, eventId }: PayloadPlace): Buffer => {
  if (origin !== lastOrigin.text) lastOrigin = { text: origin, bytes: lp(origin) };
  const out = Buffer.allocUnsafe(lastOrigin.bytes.length + 8 + 16);
  out.set(lastOrigin.bytes, 0);
  const at = out.writeBigUInt64BE(seq, lastOrigin.bytes.length);
  out.set(uuidToBytes(eventId), at);
  return out;
};

export interface Payload {
  /** 32 bytes. */
  readonly salt: Uint8Array;
  readonly contentType: string;
  /** P. */
  readonly bytes: Uint8Array;
}

/** nonce(12) ‖ AES-256-GCM(salt ‖ lp(content type) ‖ P) ‖ tag(16). */
export const encryptPayload = (key: Uint8Array, place: PayloadPlace, { salt, contentType, bytes }: Payload): Buffer => {
  if (salt.length !== SALT_BYTES) throw new RangeError('a salt has 32 bytes');
  return seal(key, placeBytes(place), Buffer.concat([salt, lp(contentType), bytes]));
};

/** The payload, or undefined when it does not open: another key, another place, other bytes. */
export const decryptPayload = (
  key: Uint8Array,
  place: PayloadPlace,
  ciphertext: Uint8Array,
): (Payload & { readonly salt: Buffer; readonly bytes: Buffer }) | undefined => {
  const plain = open(key, placeBytes(place), ciphertext);
  if (plain === undefined || plain.length < SALT_BYTES + 4) return undefined;
  const end = SALT_BYTES + 4 + plain.readUInt32BE(SALT_BYTES);
  if (end > plain.length) return undefined;
  return {
    salt: plain.subarray(0, SALT_BYTES),
    contentType: plain.toString('utf8', SALT_BYTES + 4, end),
    bytes: plain.subarray(end),
  };
};

export const newKey = (): Buffer => freshBytes(KEY_BYTES);

/** A payload's key under its data subject's key. */
export const wrapPayloadKey = (subjectKey: Uint8Array, place: PayloadPlace, key: Uint8Array): Buffer =>
  seal(subjectKey, placeBytes(place), key);

export const unwrapPayloadKey = (
  subjectKey: Uint8Array,
  place: PayloadPlace,
  wrapped: Uint8Array,
): Buffer | undefined => open(subjectKey, placeBytes(place), wrapped);

const SUBJECT_DOMAIN = Buffer.from('edict/subject-key/v1\0', 'utf8');
const subjectBytes = (tenant: string, name: Uint8Array): Buffer => Buffer.concat([SUBJECT_DOMAIN, lp(tenant), name]);

/** A data subject's key under the master key; `name` is the key store's name of the subject. */
export const wrapSubjectKey = (masterKey: Uint8Array, tenant: string, name: Uint8Array, key: Uint8Array): Buffer =>
  seal(masterKey, subjectBytes(tenant, name), key);

export const unwrapSubjectKey = (
  masterKey: Uint8Array,
  tenant: string,
  name: Uint8Array,
  wrapped: Uint8Array,
): Buffer | undefined => open(masterKey, subjectBytes(tenant, name), wrapped);
