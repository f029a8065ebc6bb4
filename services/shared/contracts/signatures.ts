import { createPrivateKey, createPublicKey, generateKeyPairSync, sign, verify, type KeyObject } from 'node:crypto';
import { sha256 } from './bytes.ts';

/** DER prefix of an Ed25519 SubjectPublicKeyInfo (RFC 8410, section 4); the raw 32-byte key follows. */
const SPKI_PREFIX = Buffer.from('302a300506032b6570032100', 'hex');
/** C2SP signed-note: the type byte of an Ed25519 key, and of one that makes timestamped cosignatures. */
const NOTE_ED25519 = 0x01;
export const NOTE_COSIGNATURE = 0x04;
type NoteKeyType = typeof NOTE_ED25519 | typeof NOTE_COSIGNATURE;

export interface SigningKey {
  readonly privateKey: KeyObject;
  /** The raw 32-byte public key. */
  readonly publicKey: Buffer;
}

export interface VerifierKey {
  readonly name: string;
  /** C2SP key id: the first 4 bytes of SHA-256(name ‖ 0x0A ‖ type ‖ public key). */
  readonly keyId: Buffer;
  readonly publicKey: Buffer;
  readonly key: KeyObject;
}

const rawPublicKey = (key: KeyObject): Buffer =>
  key.export({ type: 'spki', format: 'der' }).subarray(SPKI_PREFIX.length);

export const generateSigningKey = (): { readonly key: SigningKey; readonly pem: string } => {
  const { privateKey, publicKey } = generateKeyPairSync('ed25519');
  return {
    key: { privateKey, publicKey: rawPublicKey(publicKey) },
    pem: privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(),
  };
};

/** Throws when the PEM is not an Ed25519 private key. */
export const signingKeyFromPem = (pem: string): SigningKey => {
  const privateKey = createPrivateKey(pem);
  if (privateKey.asymmetricKeyType !== 'ed25519') throw new TypeError('not an Ed25519 private key');
  return { privateKey, publicKey: rawPublicKey(createPublicKey(privateKey)) };
};

export const publicKeyFromRaw = (raw: Uint8Array): KeyObject => {
  if (raw.length !== 32) throw new TypeError('an Ed25519 public key has 32 bytes');
  return createPublicKey({ key: Buffer.concat([SPKI_PREFIX, raw]), format: 'der', type: 'spki' });
};

/** Ed25519 (RFC 8032), 64 bytes. */
export const signEd25519 = (key: SigningKey, message: Uint8Array): Buffer => sign(null, message, key.privateKey);

export const verifyEd25519 = (key: KeyObject, message: Uint8Array, signature: Uint8Array): boolean =>
  signature.length === 64 && verify(null, message, key, signature);

const noteKeyId = (name: string, type: NoteKeyType, publicKey: Uint8Array): Buffer =>
  sha256(name, Buffer.from([0x0a, type]), publicKey).subarray(0, 4);

/** A C2SP signed-note verifier key line, `<name>+<hex key id>+<base64(type ‖ public key)>`. */
export const formatTypedVkey = (type: NoteKeyType, name: string, publicKey: Uint8Array): string =>
  `${name}+${noteKeyId(name, type, publicKey).toString('hex')}+${Buffer.concat([Buffer.from([type]), publicKey]).toString('base64')}`;

/** Throws when the line is malformed, of another type, or its key id does not fit (C2SP signed-note, "Verifier keys"). */
export const parseTypedVkey = (type: NoteKeyType, line: string): VerifierKey => {
  // The name may not hold a plus, so the first two pluses part the fields; base64 may hold more of them.
  const [, name, id, encoded] = /^([^\s+]+)\+([0-9a-f]{8})\+([A-Za-z0-9+/]+={0,2})$/.exec(line.trim()) ?? [];
  if (name === undefined || id === undefined || encoded === undefined) throw new TypeError('malformed verifier key');
  const bytes = Buffer.from(encoded, 'base64');
  if (bytes.length !== 33 || bytes[0] !== type)
    throw new TypeError(`the verifier key is not an Ed25519 key${type === NOTE_COSIGNATURE ? ' of a witness' : ''}`);
  const publicKey = bytes.subarray(1);
  const keyId = noteKeyId(name, type, publicKey);
  if (keyId.toString('hex') !== id) throw new TypeError('the key id does not fit name and key');
  return { name, keyId, publicKey, key: publicKeyFromRaw(publicKey) };
};

/** A verifier key line of an Ed25519 key. */
export const formatVkey = (name: string, publicKey: Uint8Array): string =>
  formatTypedVkey(NOTE_ED25519, name, publicKey);

/** Reads an Ed25519 verifier key line; throws as `parseTypedVkey` does. */
export const parseVkey = (line: string): VerifierKey => parseTypedVkey(NOTE_ED25519, line);

/** `emitter.id`: the first 16 bytes of SHA-256 of the raw public key, as 32 lower-case hex digits. */
export const emitterId = (publicKey: Uint8Array): string => sha256(publicKey).subarray(0, 16).toString('hex');
