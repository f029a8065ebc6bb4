import type { RequestHandler } from 'express';
import { AppError } from '../../shared/contracts/errors.ts';
import { consistencyProof, inclusionProof, type ReadHashes } from '../../shared/tlog/proofs.ts';
import type { CoveredCheckpoint, MetaReader } from '../core/meta-log.ts';
import type { ShownProof, ShownWitnessed } from '../core/query-show.ts';
import type { LedgerReader } from '../core/query-reader.ts';
import { auditorOf, parametersOf } from './access.ts';
import type { PublishedLog, TileReader } from '../../shared/tlog/tiles.ts';

const base64 = (hashes: readonly Uint8Array[]): readonly string[] =>
  hashes.map((hash) => Buffer.from(hash).toString('base64'));

const shownInclusion = async (index: bigint, size: bigint, read: ReadHashes) => ({
  index: String(index),
  tree_size: String(size),
  hashes: base64(await inclusionProof(index, size, read)),
});

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
    seq < size ? shownInclusion(seq, size, read) : undefined,
    knownSize === undefined ? undefined : consistencyProof(knownSize, size, read),
  ]);
  return {
    checkpoint: Buffer.from(log.note).toString('utf8'),
    proof: inclusion ?? null,
    consistency:
      consistency === undefined ? null : { from: String(knownSize), to: String(size), hashes: base64(consistency) },
  };
};

const shownCovered = async (
  meta: MetaReader,
  { note, index, meta: { incarnation, origin, ...of } }: CoveredCheckpoint,
  proof: ShownProof['proof'],
): Promise<ShownWitnessed> => ({
  checkpoint: Buffer.from(note).toString('utf8'),
  proof,
  meta: {
    log: origin,
    checkpoint: Buffer.from(of.note).toString('utf8'),
    ...(await shownInclusion(index, of.size, (...range) => meta.hashes(incarnation, ...range))),
  },
});

/** How the meta log covers a checkpoint that covers entry `seq`; undefined while it covers none. */
export const witnessedOf = async (
  tiles: TileReader,
  meta: MetaReader,
  logId: number,
  seq: bigint,
): Promise<ShownWitnessed | undefined> => {
  const [covered] = await meta.covering(logId, seq);
  if (covered === undefined) return undefined;
  const proof = await shownInclusion(seq, covered.size, (...range) => tiles.hashes(logId, ...range));
  return shownCovered(meta, covered, proof);
};

/**
 * `GET /v1/witnessed[?log=ORIGIN]`: of the tenant's newest log, or of that one. `witnessed` is what most witnesses
 * cosigned; `others` are newer, with fewer cosignatures, the newest first.
 */
export const witnessedHandler =
  (deps: { readonly reader: LedgerReader; readonly meta: MetaReader }): RequestHandler =>
  async (request, response) => {
    const { tenant } = auditorOf(response);
    const [asked, ...more] = parametersOf(request.originalUrl).getAll('log');
    if (more.length > 0) throw new AppError('request_invalid', 'log: stands twice');
    const logs = await deps.reader.logs(tenant);
    const log = asked === undefined ? logs[0] : logs.find(({ origin }) => origin === asked);
    if (log === undefined) throw new AppError('not_found', `tenant ${tenant} has no such log`);
    const covering = await deps.meta.covering(log.id, 0n);
    const [witnessed, ...others] = await Promise.all(covering.map((each) => shownCovered(deps.meta, each, null)));
    response.json({ tenant, log: log.origin, witnessed: witnessed ?? null, others: others.reverse() });
  };
