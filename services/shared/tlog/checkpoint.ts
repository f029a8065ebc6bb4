import type { SigningKey, VerifierKey } from '../contracts/signatures.ts';
import { canonicalBase64, openNote, signNote } from './signed-note.ts';

/** C2SP tlog-checkpoint: what a log's key signs of its tree. */
export interface Checkpoint {
  readonly origin: string;
  readonly size: bigint;
  /** 32 bytes, RFC 6962. */
  readonly root: Uint8Array;
}

const MAX_SIZE = 2n ** 63n - 1n;

/** `origin\nsize\nbase64(root)\n`; no extension lines. */
const checkpointText = ({ origin, size, root }: Checkpoint): string =>
  `${origin}\n${size}\n${Buffer.from(root).toString('base64')}\n`;

const parseText = (text: string): Checkpoint | undefined => {
  const [origin = '', digits = '', encoded = '', ...rest] = text.split('\n');
  if (origin === '' || rest.length !== 1 || rest[0] !== '' || !/^(0|[1-9]\d{0,18})$/.test(digits)) return undefined;
  const root = canonicalBase64(encoded);
  const size = BigInt(digits);
  return root?.length === 32 && size <= MAX_SIZE ? { origin, size, root } : undefined;
};

/** A checkpoint as a signed note. The key's name is the origin. */
export const signCheckpoint = (checkpoint: Checkpoint, signer: SigningKey, verifier: VerifierKey): Buffer =>
  signNote(checkpointText(checkpoint), signer, verifier);

/**
 * The checkpoint in a note that `key` signed for the origin of its own name, or undefined. Extension lines, which no
 * checkpoint of Edict has, are refused: nobody would read them.
 */
export const openCheckpoint = (note: Uint8Array, key: VerifierKey): Checkpoint | undefined => {
  const text = openNote(note, key);
  const checkpoint = text === undefined ? undefined : parseText(text);
  return checkpoint?.origin === key.name ? checkpoint : undefined;
};
