import { signEd25519, verifyEd25519, type SigningKey, type VerifierKey } from '../contracts/signatures.ts';

/** C2SP signed-note. What is longer, or has more signatures, is not read. */
export const MAX_NOTE_BYTES = 64 * 1024;
const MAX_SIGNATURES = 64;
const KEY_ID_BYTES = 4;
const SIGNATURE_LINE = /^— ([^\s+]+) ([A-Za-z0-9+/]+={0,2})$/u;
// eslint-disable-next-line no-control-regex
const CONTROLS = /[\u0000-\u0009\u000b-\u001f]/;
const strictText = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/** One signature line: `— <name> base64(key id ‖ signature)`. */
export interface NoteSignature {
  readonly name: string;
  readonly keyId: Buffer;
  readonly signature: Buffer;
}

/** The text, with its last newline, and every signature, none of them verified. */
export interface ParsedNote {
  readonly text: string;
  readonly signatures: readonly NoteSignature[];
}

/** Standard base64 in its one canonical spelling, or undefined. */
export const canonicalBase64 = (text: string): Buffer | undefined => {
  const bytes = Buffer.from(text, 'base64');
  return bytes.toString('base64') === text ? bytes : undefined;
};

const parseSignature = (line: string): NoteSignature | undefined => {
  const [, name, encoded] = SIGNATURE_LINE.exec(line) ?? [];
  if (name === undefined || encoded === undefined) return undefined;
  const bytes = canonicalBase64(encoded);
  if (bytes === undefined || bytes.length <= KEY_ID_BYTES) return undefined;
  return { name, keyId: bytes.subarray(0, KEY_ID_BYTES), signature: bytes.subarray(KEY_ID_BYTES) };
};

/** The note in `bytes`, or undefined: not UTF-8, a control character, no blank line, a malformed signature, too long. */
export const parseNote = (bytes: Uint8Array): ParsedNote | undefined => {
  if (bytes.length > MAX_NOTE_BYTES) return undefined;
  let whole: string;
  try {
    whole = strictText.decode(bytes);
  } catch {
    return undefined;
  }
  if (CONTROLS.test(whole) || !whole.endsWith('\n')) return undefined;
  // The last empty line parts text and signatures; the text may have empty lines of its own.
  const at = whole.lastIndexOf('\n\n');
  if (at === -1) return undefined;
  const lines = whole.slice(at + 2, -1).split('\n');
  if (lines.length > MAX_SIGNATURES) return undefined;
  const signatures = lines.map(parseSignature).filter((signature) => signature !== undefined);
  return signatures.length === lines.length ? { text: whole.slice(0, at + 1), signatures } : undefined;
};

/**
 * The text of a note that `key` signed, or undefined. Signatures of other keys are ignored, also when they share its
 * name or its id; each one that names both must verify.
 */
export const openNote = (bytes: Uint8Array, key: VerifierKey): string | undefined => {
  const note = parseNote(bytes);
  const own = note?.signatures.filter(({ name, keyId }) => name === key.name && keyId.equals(key.keyId)) ?? [];
  if (note === undefined || own.length === 0) return undefined;
  const text = Buffer.from(note.text, 'utf8');
  return own.every(({ signature }) => verifyEd25519(key.key, text, signature)) ? note.text : undefined;
};

/** `— <name> base64(key id ‖ signature)`, with its newline. */
export const formatSignature = ({ name, keyId, signature }: NoteSignature): string =>
  `— ${name} ${Buffer.concat([keyId, signature]).toString('base64')}\n`;

/** `text` must end with a newline. Ed25519 is deterministic: the same text gives the same bytes again. */
export const signNote = (text: string, signer: SigningKey, { name, keyId }: VerifierKey): Buffer => {
  const signature = signEd25519(signer, Buffer.from(text, 'utf8'));
  return Buffer.from(`${text}\n${formatSignature({ name, keyId, signature })}`, 'utf8');
};
