/** A log as its own program would have it: entries, key, checkpoints of any size, proofs; and another that it might show. */
import { sha256 } from '../../services/shared/contracts/bytes.ts';
import { formatVkey, generateSigningKey, parseVkey } from '../../services/shared/contracts/signatures.ts';
import { formatAddCheckpoint } from '../../services/shared/tlog/add-checkpoint.ts';
import { signCheckpoint } from '../../services/shared/tlog/checkpoint.ts';
import { createTreeHasher } from '../../services/shared/tlog/merkle.ts';
import { consistencyProof, inclusionProof, type ReadHashes } from '../../services/shared/tlog/proofs.ts';

export interface TestLog {
  readonly origin: string;
  readonly vkey: string;
  /** The checkpoint of a size, as a signed note. */
  readonly note: (size: number, history?: string) => Buffer;
  readonly proof: (from: number, size: number, history?: string) => Promise<readonly Uint8Array[]>;
  readonly entry: (index: number) => Buffer;
  readonly inclusion: (index: number, size: number) => Promise<readonly Uint8Array[]>;
  /** A whole good request. */
  readonly request: (from: number, size: number, history?: string) => Promise<Buffer>;
}

/** Trees have at most 256 entries; those of another `history` share nothing. */
export const createTestLog = (origin: string): TestLog => {
  const { key } = generateSigningKey();
  const vkey = formatVkey(origin, key.publicKey);
  const entry = (n: number, history = 'a'): Buffer => Buffer.from(`${origin} ${history} ${n}`, 'utf8');
  const leaf = (n: number, history: string): Buffer => sha256(Buffer.from([0]), entry(n, history));
  const read =
    (history: string): ReadHashes =>
    (_level, from, count) =>
      Promise.resolve(Array.from({ length: count }, (_, n) => leaf(Number(from) + n, history)));
  const note: TestLog['note'] = (size, history = 'a') => {
    const hasher = createTreeHasher();
    for (let n = 0; n < size; n += 1) hasher.add(leaf(n, history));
    return signCheckpoint({ origin, size: BigInt(size), root: hasher.root() }, key, parseVkey(vkey));
  };
  const proof: TestLog['proof'] = async (from, size, history = 'a') =>
    from === 0 ? [] : consistencyProof(BigInt(from), BigInt(size), read(history));
  return {
    origin,
    vkey,
    note,
    proof,
    entry: (index) => entry(index),
    inclusion: (index, size) => inclusionProof(BigInt(index), BigInt(size), read('a')),
    request: async (from, size, history) =>
      formatAddCheckpoint({
        oldSize: BigInt(from),
        proof: await proof(from, size, history),
        checkpoint: note(size, history),
      }),
  };
};
