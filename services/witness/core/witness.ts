import { bytesEqual, sha256 } from '../../shared/contracts/bytes.ts';
import type { SigningKey, VerifierKey } from '../../shared/contracts/signatures.ts';
import { parseAddCheckpoint } from '../../shared/tlog/add-checkpoint.ts';
import { parseCheckpoint, type Checkpoint } from '../../shared/tlog/checkpoint.ts';
import { signCosignature, type WitnessKey } from '../../shared/tlog/cosignature.ts';
import { isConsistent } from '../../shared/tlog/proofs.ts';
import { formatSignature, openNote, parseNote } from '../../shared/tlog/signed-note.ts';

/** The newest checkpoint of one log that this witness cosigned. */
export interface Seen {
  readonly checkpoint: Checkpoint;
  /** A signed note: the text, the log's signature, and the cosignature. */
  readonly note: string;
}

/** What the witness remembers. */
export interface SeenStore {
  readonly read: (origin: string) => Seen | undefined;
  /** Durable when it returns; throws when it is not, and then `read` gives what was there before. */
  readonly write: (seen: Seen) => void;
}

/** An answer of C2SP tlog-witness; `origin` where the log is known and its signature good. */
export type Answer =
  | { readonly status: 200; readonly origin: string; readonly size: bigint; readonly line: string }
  | { readonly status: 409; readonly origin: string; readonly size: bigint }
  | { readonly status: 400 | 403 | 404; readonly why: string }
  | {
      readonly status: 422;
      readonly origin: string;
      readonly why: string;
      /** Signed by the log, and not shown to continue `seen`. */
      readonly note: string;
      readonly seen: string | undefined;
      /** The log signed two trees of one size: proof that it lied to somebody. */
      readonly isFork: boolean;
    };

export interface WitnessOptions {
  /** Verifier keys by origin, which is their name; a log that changes its key has several. */
  readonly logs: ReadonlyMap<string, readonly VerifierKey[]>;
  readonly seen: SeenStore;
  readonly signer: SigningKey;
  readonly witness: WitnessKey;
  /** Seconds since 1970. */
  readonly nowS: () => number;
}

interface SignedByLog {
  readonly checkpoint: Checkpoint;
  readonly text: string;
  /** Text and the log's own signatures, without those that nobody here can check. */
  readonly note: string;
}

/** What known keys signed in a note. A text says why nothing. */
const openSigned = (bytes: Uint8Array, keys: readonly VerifierKey[]): SignedByLog | Answer => {
  const parsed = parseNote(bytes);
  if (parsed === undefined) return { status: 400, why: 'the checkpoint is no signed note' };
  const good = keys.filter((key) => openNote(bytes, key) !== undefined);
  if (good.length === 0) return { status: 403, why: 'no signature of a key that is known for this log' };
  const checkpoint = parseCheckpoint(parsed.text);
  if (checkpoint === undefined) return { status: 400, why: 'the note is no checkpoint' };
  const lines = parsed.signatures
    .filter(({ name, keyId }) => good.some((key) => key.name === name && key.keyId.equals(keyId)))
    .map(formatSignature);
  return { checkpoint, text: parsed.text, note: `${parsed.text}\n${lines.join('')}` };
};

/** Why a tree is not shown to continue what was seen; undefined when it is. Both sizes fit already. */
const breakOf = (
  seen: Checkpoint | undefined,
  next: Checkpoint,
  proof: readonly Uint8Array[],
): { readonly why: string; readonly isFork: boolean } | undefined => {
  if (seen === undefined) {
    if (proof.length > 0) return { why: 'a proof from nothing is empty', isFork: false };
    const isEmpty = next.size === 0n && !bytesEqual(next.root, sha256());
    return isEmpty ? { why: 'an empty tree has another root', isFork: false } : undefined;
  }
  const isFork = seen.size === next.size && !bytesEqual(seen.root, next.root);
  if (isFork) return { why: 'another tree of the same size was cosigned', isFork };
  return isConsistent(seen, next, proof) ? undefined : { why: 'the consistency proof does not verify', isFork };
};

/**
 * C2SP tlog-witness: cosigns a checkpoint when the log's key signed it and it continues the newest that was cosigned.
 * Comparing and remembering is one step, since nothing here waits.
 */
export const createWitness = ({ logs, seen, signer, witness, nowS }: WitnessOptions) => {
  const addCheckpoint = (body: Uint8Array): Answer => {
    const request = parseAddCheckpoint(body);
    if (request === undefined) return { status: 400, why: 'not old size, hashes, an empty line and a checkpoint' };
    const end = request.checkpoint.indexOf(0x0a);
    const origin = Buffer.from(request.checkpoint.subarray(0, Math.max(end, 0))).toString('utf8');
    const keys = logs.get(origin);
    if (keys === undefined) return { status: 404, why: 'this log is not known here' };
    const signed = openSigned(request.checkpoint, keys);
    if ('status' in signed) return signed;
    const { checkpoint, text, note } = signed;
    if (request.oldSize > checkpoint.size) return { status: 400, why: 'the old size is larger than the checkpoint' };
    const known = seen.read(origin);
    if (request.oldSize !== (known?.checkpoint.size ?? 0n))
      return { status: 409, origin, size: known?.checkpoint.size ?? 0n };
    const broken = breakOf(known?.checkpoint, checkpoint, request.proof);
    if (broken !== undefined) return { status: 422, origin, ...broken, note, seen: known?.note };
    const line = signCosignature(text, nowS(), signer, witness);
    // An empty tree binds nobody: it is not remembered. The same tree again is only dated anew.
    if (checkpoint.size > request.oldSize) seen.write({ checkpoint, note: `${note}${line}` });
    return { status: 200, origin, size: checkpoint.size, line };
  };
  return { addCheckpoint };
};
