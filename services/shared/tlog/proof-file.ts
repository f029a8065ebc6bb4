import { parseTreeSize } from './checkpoint.ts';
import { canonicalBase64, MAX_NOTE_BYTES } from './signed-note.ts';

/** C2SP tlog-proof: that an entry is in a log, to be verified without asking anybody. */
export interface TlogProof {
  /** For whoever makes and reads the file. Nothing vouches for it. */
  readonly extra?: Uint8Array;
  readonly index: bigint;
  /** RFC 6962 inclusion proof in the tree of the checkpoint, lowest first. */
  readonly hashes: readonly Uint8Array[];
  /** The checkpoint as a signed note, cosignatures too. */
  readonly checkpoint: Uint8Array;
}

const FIRST_LINE = 'c2sp.org/tlog-proof@v1';
const MAX_HASHES = 63;
/** Longer files are not read: an inclusion proof and a note take 68 kB at most, the rest is for `extra`. */
export const MAX_PROOF_BYTES = 4 * MAX_NOTE_BYTES;

const base64 = (bytes: Uint8Array): string => Buffer.from(bytes).toString('base64');

export const formatProof = ({ extra, index, hashes, checkpoint }: TlogProof): Buffer => {
  const lines = [
    FIRST_LINE,
    ...(extra === undefined ? [] : [`extra ${base64(extra)}`]),
    `index ${index}`,
    ...hashes.map(base64),
    '',
    '',
  ];
  return Buffer.concat([Buffer.from(lines.join('\n'), 'utf8'), checkpoint]);
};

/** The proof in a file; `problem` names the line that is not as it must be. Signatures and path are not looked at. */
export const parseProof = (bytes: Uint8Array): TlogProof | { readonly problem: string } => {
  if (bytes.length > MAX_PROOF_BYTES) return { problem: `longer than ${MAX_PROOF_BYTES} bytes` };
  const whole = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
  const end = whole.indexOf('\n\n');
  const lines = whole.toString('latin1', 0, end === -1 ? whole.length : end).split('\n');
  const at = (line: number, what: string) => ({ problem: `line ${line}: ${what}` });
  if (lines[0] !== FIRST_LINE) return at(1, `not "${FIRST_LINE}"`);
  if (end === -1) return { problem: 'no empty line, and so no checkpoint' };
  const extraLine = lines[1] ?? '';
  const hasExtra = extraLine.startsWith('extra ');
  const extra = hasExtra ? canonicalBase64(extraLine.slice('extra '.length)) : undefined;
  if (hasExtra && extra === undefined) return at(2, 'the extra data is not base64');
  const indexAt = hasExtra ? 2 : 1;
  const indexLine = lines[indexAt] ?? '';
  const index = indexLine.startsWith('index ') ? parseTreeSize(indexLine.slice('index '.length)) : undefined;
  if (index === undefined) return at(indexAt + 1, 'not "index" and a number');
  const hashes: Uint8Array[] = [];
  for (const [n, line] of lines.slice(indexAt + 1).entries()) {
    const hash = canonicalBase64(line);
    if (hash?.length !== 32) return at(indexAt + 2 + n, 'not 32 bytes in base64');
    if (hashes.length === MAX_HASHES) return at(indexAt + 2 + n, `more than ${MAX_HASHES} hashes`);
    hashes.push(hash);
  }
  return { ...(extra === undefined ? {} : { extra }), index, hashes, checkpoint: whole.subarray(end + 2) };
};
