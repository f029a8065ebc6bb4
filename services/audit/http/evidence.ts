import { AppError } from '../../shared/contracts/errors.ts';
import { fullSubtrees, inclusionProof, type ReadHashes } from '../../shared/tlog/proofs.ts';
import type { PublishedLog, TileReader } from '../../shared/tlog/tiles.ts';
import { EVIDENCE_FORMAT, type EvidenceAbout } from '../core/evidence-format.ts';
import { writeEvidence, type EvidenceRow } from '../core/evidence-write.ts';
import type { DecisionFilter } from '../core/query.ts';
import type { LedgerLog, LedgerReader } from '../core/query-reader.ts';
import { criteriaOf, type DecisionsDeps } from './decisions.ts';

export interface EvidenceDeps extends DecisionsDeps {
  readonly reader: Pick<LedgerReader, 'logs' | 'decisions' | 'range'>;
  readonly tiles: TileReader;
  readonly now?: () => number;
}

export interface AskedEvidence {
  readonly tenant: string;
  readonly caller: string;
  readonly filter: DecisionFilter;
  readonly log: LedgerLog;
}

/** An export whose bounds are known and that nobody has read of. */
export interface Evidence {
  /** Of the tree that proves it: nothing behind it is exported. */
  readonly size: bigint;
  readonly mediaType: string;
  /** `begun`: the entry that says that this export began. `onRow` is told of every entry. */
  readonly chunks: (
    begun: { readonly log: string; readonly seq: bigint },
    onRow: () => void,
  ) => AsyncIterable<Uint8Array>;
}

const base64 = (bytes: Uint8Array): string => Buffer.from(bytes).toString('base64');

const bound = (text: string | undefined): bigint | undefined =>
  text === undefined ? undefined : BigInt(Date.parse(text)) * 1_000n;

/** The checkpoints around what was taken in from `from` up to `to`: one entry more at both ends shows that it is all. */
const boundsOf = async (
  { range }: EvidenceDeps['reader'],
  newest: PublishedLog,
  filter: DecisionFilter,
): Promise<{ readonly before: PublishedLog | undefined; readonly end: PublishedLog }> => {
  const { id, size } = newest;
  const [fromUs, toUs] = [bound(filter.from), bound(filter.to)];
  const first = fromUs === undefined ? 0n : await range.firstSince(id, fromUs, size);
  const behind = toUs === undefined ? size : await range.firstSince(id, toUs, size);
  const before = first === 0n ? undefined : await range.checkpointUpTo(id, first - 1n);
  const end = behind >= size ? newest : ((await range.checkpointFrom(id, behind + 1n)) ?? newest);
  if (end.size <= (before?.size ?? 0n)) throw new AppError('request_invalid', 'to: is before from');
  return { before, end };
};

/**
 * The evidence bundle of a log: of all entries when no more than times are asked for, else of the
 * decisions that the filter finds, each with a proof. Rejects with `not_found` while there is no checkpoint.
 */
export const openEvidence = async (
  deps: EvidenceDeps,
  { tenant, caller, filter, log }: AskedEvidence,
): Promise<Evidence> => {
  const { reader, tiles, now = Date.now } = deps;
  const newest = await tiles.newest(log.id);
  if (newest === undefined)
    throw new AppError('not_found', `${log.origin} has no checkpoint yet: nothing could prove what is exported`);
  const read: ReadHashes = (level, from, count) => tiles.hashes(log.id, level, from, count);
  const isRange = Object.keys(filter).every((name) => name === 'from' || name === 'to');
  const { before, end } = isRange ? await boundsOf(reader, newest, filter) : { before: undefined, end: newest };
  const from = before?.size ?? 0n;

  const rangeRows = (): AsyncIterable<EvidenceRow> => reader.range.entries({ ...log, tenant }, from, end.size);
  const foundRows = async function* (): AsyncGenerator<EvidenceRow> {
    const criteria = criteriaOf(deps, tenant, filter);
    // Behind nothing of this log: so earlier incarnations, which have checkpoints of their own, are left out.
    const page = {
      order: 'oldest',
      asOf: { logId: log.id, size: end.size },
      after: { logId: log.id, seq: -1n },
    } as const;
    for await (const { seq, header, payload } of reader.decisions(tenant, criteria, page)) {
      if (header === undefined)
        throw new AppError('ledger_corrupt', `entry ${seq}, which a search row names, is missing`);
      yield { seq, header, payload, proof: await inclusionProof(seq, end.size, read) };
    }
  };

  return {
    size: end.size,
    mediaType: 'application/x-tar',
    chunks: async function* (begun, onRow) {
      const about: EvidenceAbout = {
        format: EVIDENCE_FORMAT,
        scope: isRange ? 'range' : 'filter',
        tenant,
        origin: log.origin,
        by: caller,
        exported_at: new Date(now()).toISOString(),
        filter: { ...filter },
        access: { log: begun.log, begun: String(begun.seq) },
        size: String(end.size),
        start: isRange
          ? {
              size: String(from),
              subtrees: (await fullSubtrees(from, read)).map(base64),
              checkpoint: before === undefined ? null : Buffer.from(before.note).toString('utf8'),
            }
          : null,
      };
      const counted = async function* () {
        for await (const row of isRange ? rangeRows() : foundRows()) {
          onRow();
          yield row;
        }
      };
      yield* writeEvidence(about, { vkey: log.vkey, checkpoint: end.note }, counted());
    },
  };
};
