import type { Log, NewEntry } from './append.ts';
import type { NumberRange, Position, QuarantineReason, Reading } from './ingest-message.ts';
import type { SourceMessage, SourcePartition } from './ingest-source.ts';
import { rangeText, type Stream } from './ingest-stream.ts';
import { ownEntry, type OwnIds } from './own-entry.ts';

/** A longer message is quarantined cut, with its size and digest. */
const MAX_QUARANTINED_BYTES = 4 * 1024 * 1024;
export type ConflictReason = 'id_reused' | 'position_reused';

const strictText = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/** A header's value as text; bytes that are no UTF-8 as base64, so that nothing of the evidence is lost. */
const headerValue = (value: Uint8Array): string | { readonly base64: string } => {
  try {
    return strictText.decode(value);
  } catch {
    return { base64: Buffer.from(value).toString('base64') };
  }
};

/** `[[name, value], …]` in the order received. */
const headersOf = ({ headers }: SourceMessage): readonly (readonly [string, unknown])[] =>
  headers.map(([name, value]) => [headerName(name), headerValue(value)]);

/** Header names come as text from the client; a lone surrogate has no place in canonical JSON. */
const headerName = (name: string): string => Buffer.from(name, 'utf8').toString('utf8');

const content = ({ message, digest }: Reading): Readonly<Record<string, unknown>> => {
  const { value } = message;
  const cut = value.length > MAX_QUARANTINED_BYTES;
  return {
    headers: headersOf(message),
    bytes_base64: Buffer.from(value.subarray(0, MAX_QUARANTINED_BYTES)).toString('base64'),
    ...(cut ? { bytes: value.length, sha256: digest } : {}),
  };
};

const positionText = ({ tenant, emitter, boot, sequence }: Position): Readonly<Record<string, string>> => ({
  tenant,
  emitter,
  boot: boot.toString(),
  sequence: sequence.toString(),
});

/** Kind 3 for a message that is no event: P = `{reason, headers, bytes_base64, nonce}`. */
export const quarantineEntry = (log: string, reading: Reading, reason: QuarantineReason, ids: OwnIds): NewEntry =>
  ownEntry(log, 'quarantine', { reason, ...content(reading) }, ids, reading.message);

/** Kind 3 for an event of a tenant without a ledger: headers and digest only, its content is that tenant's. */
export const unknownTenantEntry = (log: string, reading: Reading, ids: OwnIds): NewEntry => {
  const reason: QuarantineReason = 'tenant_unknown';
  const document = {
    reason,
    headers: headersOf(reading.message),
    sha256: reading.digest,
    bytes: reading.message.value.length,
  };
  return ownEntry(log, 'quarantine', document, ids, reading.message);
};

/** Kind 4: P = `{reason, headers, bytes_base64, first_event_id, nonce}`. */
export const conflictEntry = (
  log: string,
  reading: Reading,
  reason: ConflictReason,
  firstEventId: string,
  ids: OwnIds,
): NewEntry =>
  ownEntry(log, 'conflict', { reason, first_event_id: firstEventId, ...content(reading) }, ids, reading.message);

/** Kind 12: the digest that one event names is not the digest of the event before it. Both are entries. */
export const brokenChainEntry = (
  log: string,
  at: Position,
  digests: { readonly named: string; readonly found: string },
  ids: OwnIds,
): NewEntry =>
  ownEntry(
    log,
    'alert',
    { alert: 'emitter_chain_broken', ...positionText(at), named_digest: digests.named, found_digest: digests.found },
    ids,
  );

type StreamName = Pick<Stream, 'tenant' | 'emitter' | 'boot'>;

const span = ({ from, to }: NumberRange): { readonly from: string; readonly to: string } => ({
  from: from.toString(),
  to: to.toString(),
});

/** Kind 2: numbers of a stream, inclusive, that did not come within the grace time. */
export const missingNumbersEntry = (
  { tenant, emitter, boot }: StreamName,
  missing: NumberRange,
  ids: OwnIds,
): NewEntry =>
  ownEntry(tenant, 'gap', { gap: 'numbers', tenant, emitter, boot: boot.toString(), ...span(missing) }, ids);

/** Kind 2, in the system ledger: offsets, inclusive, that the source no longer has and that were never read. */
export const lostOffsetsEntry = (
  log: string,
  { topic, partition }: SourcePartition,
  missing: NumberRange,
  ids: OwnIds,
): NewEntry => ownEntry(log, 'gap', { gap: 'offsets', topic, partition, ...span(missing) }, ids);

/** Kind 12, in the system ledger: a source ends before where it was read to, so it was made anew or cut off. */
export const rewoundSourceEntry = (
  log: string,
  source: SourcePartition,
  offsets: { readonly read: bigint; readonly first: bigint; readonly end: bigint },
  ids: OwnIds,
): NewEntry =>
  ownEntry(
    log,
    'alert',
    {
      alert: 'source_rewound',
      topic: source.topic,
      partition: source.partition,
      read_to: offsets.read.toString(),
      first: offsets.first.toString(),
      end: offsets.end.toString(),
    },
    ids,
  );

/** Kind 12, in the system ledger: a log is shorter than this service committed it, or ends with another entry. */
export const rewoundDatabaseEntry = (
  system: string,
  { tenant, origin }: Log,
  { committed, found }: { readonly committed: bigint; readonly found: bigint },
  ids: OwnIds,
): NewEntry =>
  ownEntry(
    system,
    'alert',
    {
      alert: 'database_rewound',
      tenant,
      origin,
      committed_size: committed.toString(),
      found_size: found.toString(),
    },
    ids,
  );

/**
 * Kind 16: numbers of one stream that gap entries name (by their seq in the same log) and that came after all. All of a
 * batch in one entry: a stream may have a thousand gaps, and one lost event may heal them all.
 */
export const healEntry = (
  { tenant, emitter, boot }: StreamName,
  healed: ReadonlyMap<bigint, readonly NumberRange[]>,
  ids: OwnIds,
): NewEntry =>
  ownEntry(
    tenant,
    'heal',
    {
      tenant,
      emitter,
      boot: boot.toString(),
      gaps: [...healed].map(([gap, ranges]) => ({ gap: gap.toString(), healed: ranges.map(rangeText) })),
    },
    ids,
  );

/**
 * Kind 15 of the audit service: an operator closes an emitter that never comes back. `streams` names, for each boot in
 * this ledger, what is missing, and without `to` everything after the last number that is known of.
 */
export const retireEntry = (
  tenant: string,
  emitter: string,
  by: string,
  streams: readonly Stream[],
  ids: OwnIds,
): NewEntry => {
  const missing = streams.flatMap(({ boot, highest, holes }) => [
    ...holes.map((hole) => ({ boot: boot.toString(), ...span(hole) })),
    { boot: boot.toString(), from: (highest + 1n).toString() },
  ]);
  return ownEntry(tenant, 'emitter', { retired: true, emitter, by, tenant, streams: missing }, ids);
};
