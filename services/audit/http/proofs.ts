import { AppError } from '../../shared/contracts/errors.ts';
import { consistencyProof, inclusionProof, type ReadHashes } from '../../shared/tlog/proofs.ts';
import type { ShownProof } from '../core/query-show.ts';
import type { PublishedLog, TileReader } from '../../shared/tlog/tiles.ts';

const base64 = (hashes: readonly Uint8Array[]): readonly string[] =>
  hashes.map((hash) => Buffer.from(hash).toString('base64'));

/** `known_size`: the size of a checkpoint that the caller holds. Throws `request_invalid`. */
export const knownSizeIn = (values: readonly string[]): bigint | undefined => {
  const [text] = values;
  if (text === undefined) return undefined;
  if (values.length > 1 || !/^[1-9]\d{0,17}$/.test(text))
    throw new AppError('request_invalid', 'known_size: is no size of a checkpoint, or stands twice');
  return BigInt(text);
};

/**
 * What proves entry `seq` of a log: the newest checkpoint, the path to its root when it covers the entry, and that the
 * tree of `knownSize` is its beginning. Undefined without a checkpoint. Rejects with `request_invalid` for a known size
 * beyond it.
 */
export const proofOf = async (
  tiles: TileReader,
  logId: number,
  seq: bigint,
  knownSize: bigint | undefined,
): Promise<ShownProof | undefined> => {
  const log: PublishedLog | undefined = await tiles.newest(logId);
  if (knownSize !== undefined && knownSize > (log?.size ?? 0n))
    throw new AppError('request_invalid', 'known_size: is beyond the newest checkpoint');
  if (log === undefined) return undefined;
  const read: ReadHashes = (level, from, count) => tiles.hashes(logId, level, from, count);
  const { size } = log;
  const [inclusion, consistency] = await Promise.all([
    seq < size ? inclusionProof(seq, size, read) : undefined,
    knownSize === undefined ? undefined : consistencyProof(knownSize, size, read),
  ]);
  return {
    checkpoint: Buffer.from(log.note).toString('utf8'),
    proof: inclusion === undefined ? null : { index: String(seq), tree_size: String(size), hashes: base64(inclusion) },
    consistency:
      consistency === undefined ? null : { from: String(knownSize), to: String(size), hashes: base64(consistency) },
  };
};
