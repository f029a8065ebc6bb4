import { u64 } from '../contracts/bytes.ts';
import {
  formatTypedVkey,
  NOTE_COSIGNATURE,
  parseTypedVkey,
  signEd25519,
  verifyEd25519,
  type SigningKey,
  type VerifierKey,
} from '../contracts/signatures.ts';
import { parseCheckpoint } from './checkpoint.ts';
import { formatSignature, parseNote, type NoteSignature } from './signed-note.ts';

/** C2SP tlog-cosignature, timestamped Ed25519 (type 0x04): who says it saw a log only grow, and which key shows it. */
export interface WitnessKey extends VerifierKey {
  /** Its key id is not that of a log's key, even where name and public key are the same. */
  readonly type: 'cosignature/v1';
}

/** A witness' statement about one checkpoint. */
export interface Cosignature {
  readonly witness: WitnessKey;
  /** When it was made, by the witness' clock; seconds since 1970. */
  readonly timeS: number;
  /** The line of the note, with its newline. */
  readonly line: string;
}

const TIME_BYTES = 8;
/** What a Date can hold. A later time is a future one, which a verifier may refuse. */
const MAX_TIME_S = 8_640_000_000_000;

/** The verifier key of a witness. Throws TypeError when the line is malformed or the key is of another type. */
export const parseWitnessVkey = (line: string): WitnessKey => ({
  ...parseTypedVkey(NOTE_COSIGNATURE, line),
  type: 'cosignature/v1',
});

export const formatWitnessVkey = (name: string, publicKey: Uint8Array): string =>
  formatTypedVkey(NOTE_COSIGNATURE, name, publicKey);

/** What is signed: two lines, then the whole text of the checkpoint, extension lines too. */
const cosignedMessage = (text: string, timeS: number): Buffer =>
  Buffer.from(`cosignature/v1\ntime ${timeS}\n${text}`, 'utf8');

/**
 * The signature line, with its newline, over the text of a checkpoint. Whoever signs has checked that the log only grew.
 * Throws TypeError when the text is no checkpoint.
 */
export const signCosignature = (text: string, timeS: number, signer: SigningKey, witness: WitnessKey): string => {
  if (parseCheckpoint(text) === undefined) throw new TypeError('a cosignature is over a checkpoint');
  const signature = Buffer.concat([u64(BigInt(timeS)), signEd25519(signer, cosignedMessage(text, timeS))]);
  return formatSignature({ name: witness.name, keyId: witness.keyId, signature });
};

const timeOf = (text: string, { signature }: NoteSignature, witness: WitnessKey): number | undefined => {
  if (signature.length !== TIME_BYTES + 64) return undefined;
  const time = signature.readBigUInt64BE(0);
  if (time > BigInt(MAX_TIME_S)) return undefined;
  const timeS = Number(time);
  return verifyEd25519(witness.key, cosignedMessage(text, timeS), signature.subarray(TIME_BYTES)) ? timeS : undefined;
};

/**
 * The cosignatures of known witnesses on a checkpoint, the newest of each. Other signatures, the log's among them, are
 * ignored. Undefined when the note is no checkpoint, or when a line that names a known key does not verify.
 *
 * What a witness answers to `add-checkpoint` is lines of that kind: put behind the note they are opened here.
 */
export const openCosignatures = (
  note: Uint8Array,
  witnesses: readonly WitnessKey[],
): readonly Cosignature[] | undefined => {
  const parsed = parseNote(note);
  if (parsed === undefined || parseCheckpoint(parsed.text) === undefined) return undefined;
  const newest = new Map<WitnessKey, Cosignature>();
  for (const signature of parsed.signatures) {
    const witness = witnesses.find(({ name, keyId }) => name === signature.name && keyId.equals(signature.keyId));
    if (witness === undefined) continue;
    const timeS = timeOf(parsed.text, signature, witness);
    if (timeS === undefined) return undefined;
    const before = newest.get(witness);
    if (before === undefined || before.timeS < timeS)
      newest.set(witness, { witness, timeS, line: formatSignature(signature) });
  }
  return [...newest.values()];
};
