import type { Ack } from '../../shared/contracts/ack.ts';
import type { NewEntry } from './append.ts';
import { missingNumbersEntry, retireEntry } from './ingest-own.ts';
import { announce, newStream, overdue, retireStream, streamKey, type Hole, type Stream } from './ingest-stream.ts';
import type { OwnIds } from './own-entry.ts';

/** Gap entries in one transaction; what is left waits for the next. */
const MAX_GAPS = 1_000;

export interface PlannedGap {
  readonly stream: Stream;
  readonly hole: Hole;
  readonly entry: NewEntry;
}

/** A gap entry for each hole that is older than the grace time and has none. */
export const planGaps = (
  streams: readonly Stream[],
  nowMs: number,
  graceMs: number,
  ids: OwnIds,
): readonly PlannedGap[] =>
  streams
    .flatMap((stream) => overdue(stream, nowMs, graceMs).map((hole) => ({ stream, hole })))
    .slice(0, MAX_GAPS)
    .map(({ stream, hole }) => ({ stream, hole, entry: missingNumbersEntry(stream, hole, ids) }));

export interface Retirement {
  /** One entry for each tenant that has streams of the emitter, and one for the system tenant. */
  readonly entries: ReadonlyMap<string, NewEntry>;
  readonly streams: readonly Stream[];
}

/** `streams`: all of the emitter. `by`: who asked, for the entry. */
export const planRetirement = (
  emitter: string,
  streams: readonly Stream[],
  systemTenant: string,
  by: string,
  ids: OwnIds,
): Retirement => {
  const tenants = new Set([systemTenant, ...streams.map(({ tenant }) => tenant)]);
  const entryOf = (tenant: string): NewEntry =>
    retireEntry(
      tenant,
      emitter,
      by,
      streams.filter((stream) => stream.tenant === tenant),
      ids,
    );
  return {
    entries: new Map([...tenants].map((tenant) => [tenant, entryOf(tenant)])),
    streams: streams.map(retireStream),
  };
};

/** The highest number that an acknowledgement speaks of. */
const endOf = (ack: Ack): bigint =>
  [ack.complete_to, ack.covered_to, ...ack.holes.map(([, to]) => to)]
    .map(BigInt)
    .reduce((highest, number) => (number > highest ? number : highest), 0n);

/**
 * The streams that once were further, as this service acknowledged itself: the database was restored from an older
 * copy. What it acknowledged and does not have is a hole now, so it is asked for again.
 */
export const planReclaim = (
  acks: readonly Ack[],
  streams: readonly Stream[],
  tenants: ReadonlySet<string>,
  nowMs: number,
): readonly Stream[] => {
  const known = new Map(streams.map((stream) => [streamKey(stream), stream]));
  return acks.flatMap((ack) => {
    if (!tenants.has(ack.tenant)) return [];
    const of = { tenant: ack.tenant, emitter: ack.emitter, boot: BigInt(ack.boot) };
    const stream = known.get(streamKey(of)) ?? newStream(of.tenant, of.emitter, of.boot);
    const further = announce(stream, endOf(ack), nowMs);
    return further === stream ? [] : [further];
  });
};
