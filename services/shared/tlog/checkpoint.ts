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

/** The tree size that decimal digits without leading zeros spell, below 2^63; else undefined. */
export const parseTreeSize = (digits: string): bigint | undefined => {
  if (!/^(0|[1-9]\d{0,18})$/.test(digits)) return undefined;
  const size = BigInt(digits);
  return size <= MAX_SIZE ? size : undefined;
};

/** A checkpoint, and whether lines follow that no checkpoint of Edict has. */
export interface ParsedCheckpoint extends Checkpoint {
  readonly hasExtension: boolean;
}

/** The text of a note as a checkpoint; undefined when it is none. Extension lines are never empty. */
export const parseCheckpoint = (text: string): ParsedCheckpoint | undefined => {
  const [origin = '', digits = '', encoded = '', ...rest] = text.split('\n');
  if (origin === '' || rest.length === 0 || rest.indexOf('') !== rest.length - 1) return undefined;
  const root = canonicalBase64(encoded);
  const size = parseTreeSize(digits);
  return root?.length === 32 && size !== undefined ? { origin, size, root, hasExtension: rest.length > 1 } : undefined;
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
  const parsed = text === undefined ? undefined : parseCheckpoint(text);
  if (parsed === undefined || parsed.hasExtension || parsed.origin !== key.name) return undefined;
  const { origin, size, root } = parsed;
  return { origin, size, root };
};
