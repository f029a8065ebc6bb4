import { parseTreeSize } from './checkpoint.ts';
import { canonicalBase64, MAX_NOTE_BYTES } from './signed-note.ts';

/** C2SP tlog-witness: what a log, or whoever has its checkpoint, asks a witness to cosign. */
export interface AddCheckpoint {
  /** The size of the checkpoint that the witness cosigned last; 0 before the first. */
  readonly oldSize: bigint;
  /** RFC 6962 consistency proof between the two sizes; empty from 0, and between equal sizes. */
  readonly proof: readonly Uint8Array[];
  /** The checkpoint as a signed note; whether it is one is not looked at here. */
  readonly checkpoint: Uint8Array;
}

/** The content type of a 409: the body is the size that the witness has, and a newline. */
export const TREE_SIZE_TYPE = 'text/x.tlog.size';

const MAX_PROOF_LINES = 63;
const HASH_LINE_BYTES = 45;
/** The longest request there can be. */
export const MAX_ADD_CHECKPOINT_BYTES = 'old \n\n'.length + 19 + MAX_PROOF_LINES * HASH_LINE_BYTES + MAX_NOTE_BYTES;

/** The body of `POST …/add-checkpoint`. Throws RangeError for more hashes than a request may have. */
export const formatAddCheckpoint = ({ oldSize, proof, checkpoint }: AddCheckpoint): Buffer => {
  if (proof.length > MAX_PROOF_LINES) throw new RangeError('a consistency proof has at most 63 hashes');
  const hashes = proof.map((hash) => `${Buffer.from(hash).toString('base64')}\n`).join('');
  return Buffer.concat([Buffer.from(`old ${oldSize}\n${hashes}\n`, 'utf8'), checkpoint]);
};

/** The request in `bytes`; undefined when it is malformed or too long. */
export const parseAddCheckpoint = (bytes: Uint8Array): AddCheckpoint | undefined => {
  if (bytes.length > MAX_ADD_CHECKPOINT_BYTES) return undefined;
  const whole = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
  const end = whole.indexOf('\n\n');
  if (end === -1) return undefined;
  const [first = '', ...lines] = whole.toString('latin1', 0, end).split('\n');
  const oldSize = first.startsWith('old ') ? parseTreeSize(first.slice('old '.length)) : undefined;
  if (oldSize === undefined || lines.length > MAX_PROOF_LINES) return undefined;
  const proof = lines.map(canonicalBase64).filter((hash) => hash?.length === 32);
  if (proof.length !== lines.length) return undefined;
  return { oldSize, proof: proof.filter((hash) => hash !== undefined), checkpoint: whole.subarray(end + 2) };
};

/** The size in the body of a 409; undefined when it is none. */
export const parseTreeSizeBody = (body: string): bigint | undefined =>
  body.endsWith('\n') ? parseTreeSize(body.slice(0, -1)) : undefined;
