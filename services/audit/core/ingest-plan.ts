import type { ArtifactPart } from '../../shared/contracts/artifact.ts';
import { sha256 } from '../../shared/contracts/bytes.ts';
import { U64_MAX } from '../../shared/contracts/counter.ts';
import { attestedKey, EVENT_CONTENT_TYPE, isEventSignedBy } from '../../shared/contracts/events.ts';
import { SYSTEM_TENANT } from '../../shared/contracts/tenant.ts';
import type { NewEntry } from './append.ts';
import {
  type NumberRange,
  type Position,
  type QuarantineReason,
  type Reading,
  type ReceivedEvent,
} from './ingest-message.ts';
import {
  brokenChainEntry,
  conflictEntry,
  healEntry,
  lostOffsetsEntry,
  quarantineEntry,
  unknownTenantEntry,
  type ConflictReason,
} from './ingest-own.ts';
import { announce, fill, joinRanges, newStream, streamKey, type Stream } from './ingest-stream.ts';
import type { OwnIds } from './own-entry.ts';

const FIRST_PREVIOUS = '0'.repeat(64);

/** An event that is an entry. */
export interface SeenEvent extends Position {
  readonly id: string;
  /** Hex SHA-256 of its bytes. */
  readonly digest: string;
  /** The digest of the event before it, as it says. */
  readonly previous?: string;
}

/** What the ledger knows of whatever a batch speaks of; see `needsOf`. */
export interface IngestState {
  /** The next offset of the batch's partition. */
  readonly nextOffset: bigint;
  /** The tenants with a ledger. */
  readonly tenants: ReadonlySet<string>;
  /** Public keys of emitters whose start event is an entry. */
  readonly emitterKeys: ReadonlyMap<string, Uint8Array>;
  /** By `streamKey`. */
  readonly streams: ReadonlyMap<string, Stream>;
  readonly events: readonly SeenEvent[];
  /** Quarantined and conflicting messages: `<tenant>/<mark>`. */
  readonly setAside: ReadonlySet<string>;
  /** Events of tenants without a ledger that were noted already: by `positionKey`. */
  readonly unknownTenantEvents: ReadonlySet<string>;
}

/** What to load before a batch can be planned; beside it `positionsToLoad`, once the streams are there. */
export interface Needs {
  readonly emitters: readonly string[];
  readonly streams: readonly Pick<Stream, 'tenant' | 'emitter' | 'boot'>[];
  readonly unknownTenantEvents: readonly Position[];
}

export type CountName = 'duplicates' | 'conflicts' | 'quarantined' | 'alerts' | 'healed';

export interface Plan {
  /** By tenant, in the order in which they are appended. */
  readonly entries: ReadonlyMap<string, readonly NewEntry[]>;
  /** `index`: the place of its entry among the tenant's entries. */
  readonly seen: readonly (SeenEvent & { readonly index: number })[];
  readonly setAside: readonly { readonly tenant: string; readonly mark: string; readonly index: number }[];
  readonly artifacts: readonly (Position & { readonly artifact: ArtifactPart; readonly index: number })[];
  /** `index`: among the system tenant's entries. */
  readonly unknownTenantEvents: readonly (Position & { readonly index: number })[];
  /** The streams that changed. */
  readonly streams: readonly Stream[];
  /** Emitters that the batch heard of, with the key where a start event told it. */
  readonly emitters: ReadonlyMap<string, Uint8Array | undefined>;
  readonly nextOffset: bigint;
  readonly counts: ReadonlyMap<string, Readonly<Partial<Record<CountName, number>>>>;
}

export const positionKey = ({ tenant, emitter, boot, sequence }: Position): string =>
  `${tenant}/${emitter}/${boot}/${sequence}`;

/** Hex digest by which a message that was set aside is known again: its bytes and its headers. */
const markOf = ({ message, digest }: Reading): string => {
  const parts = message.headers.flatMap(([name, value]) => [`\n${name}\n${value.length}\n`, value]);
  return sha256(digest, ...parts).toString('hex');
};

/** The log that gets what cannot be an ordinary entry. */
const logOf = (reading: Reading, tenants: ReadonlySet<string>): string =>
  reading.headerTenant !== undefined && tenants.has(reading.headerTenant) ? reading.headerTenant : SYSTEM_TENANT;

const isOfUnknownTenant = (reading: Reading, tenants: ReadonlySet<string>): boolean =>
  reading.headerTenant !== undefined && !tenants.has(reading.headerTenant);

const neighbours = ({ tenant, emitter, boot, sequence }: Position): readonly Position[] =>
  [sequence - 1n, sequence, sequence + 1n]
    .filter((near) => near >= 1n && near <= U64_MAX)
    .map((near) => ({ tenant, emitter, boot, sequence: near }));

export const needsOf = (readings: readonly Reading[], tenants: ReadonlySet<string>): Needs => {
  const emitters = new Set<string>();
  const streams = new Map<string, Pick<Stream, 'tenant' | 'emitter' | 'boot'>>();
  const unknown: Position[] = [];
  const needStream = (stream: Pick<Stream, 'tenant' | 'emitter' | 'boot'>): void =>
    void streams.set(streamKey(stream), stream);
  for (const reading of readings) {
    const { position, content } = reading;
    if (isOfUnknownTenant(reading, tenants)) {
      if (position !== undefined) unknown.push(position);
      continue;
    }
    if (position !== undefined) {
      needStream(position);
      emitters.add(position.emitter);
    }
    if (!content.ok) continue;
    const { event } = content;
    if (event.claim.type === 'lost') for (const { boot } of event.claim.ranges) needStream({ ...event, boot });
    if (event.claim.type === 'heartbeat') for (const { boot } of event.claim.recovered) needStream({ ...event, boot });
  }
  return {
    emitters: [...emitters],
    streams: [...streams.values()].map(({ tenant, emitter, boot }) => ({ tenant, emitter, boot })),
    unknownTenantEvents: unknown,
  };
};

/**
 * The ids whose events a batch must be compared with: of numbers that their streams have seen or know to be missing. An
 * id that comes again under a number that is new breaks the key of the received events; then the batch is planned again
 * with `all` ids.
 */
export const idsToLoad = (
  readings: readonly Reading[],
  tenants: ReadonlySet<string>,
  streams: ReadonlyMap<string, Stream>,
  all: boolean,
): readonly { readonly tenant: string; readonly id: string }[] =>
  readings.flatMap((reading) => {
    const { content } = reading;
    if (!content.ok || isOfUnknownTenant(reading, tenants)) return [];
    const { event } = content;
    const isNew = event.sequence > (streams.get(streamKey(event))?.highest ?? 0n);
    return isNew && !all ? [] : [{ tenant: event.tenant, id: event.id }];
  });

/**
 * The numbers whose events a batch must be compared with. A stream's `highest` moves in the transaction of its events:
 * above it there is nothing to look for, so of a batch in order only the event before it is.
 */
export const positionsToLoad = (
  readings: readonly Reading[],
  tenants: ReadonlySet<string>,
  streams: ReadonlyMap<string, Stream>,
): readonly Position[] => {
  const positions = new Map<string, Position>();
  for (const reading of readings) {
    const { content } = reading;
    if (!content.ok || isOfUnknownTenant(reading, tenants)) continue;
    const { event } = content;
    const { tenant, emitter, claim } = event;
    const ends = claim.type === 'heartbeat' ? claim.recovered : [];
    const near = event.sequence - 1n <= (streams.get(streamKey(event))?.highest ?? 0n) ? neighbours(event) : [];
    for (const position of [...near, ...ends.map(({ boot, sequence }) => ({ tenant, emitter, boot, sequence }))])
      if (position.sequence <= (streams.get(streamKey(position))?.highest ?? 0n))
        positions.set(positionKey(position), position);
  }
  return [...positions.values()];
};

interface Heal {
  readonly stream: Stream;
  /** By the seq of the gap entry. */
  readonly gaps: Map<bigint, NumberRange[]>;
}

/**
 * What a batch of one partition, in ascending offsets, becomes: entries for each log and the changes of state that
 * belong into the same transaction. Each event becomes exactly one entry however often and in whatever order it is
 * delivered; nothing that was received is dropped.
 */
export const planBatch = (state: IngestState, readings: readonly Reading[], nowMs: number, ids: OwnIds): Plan => {
  const entries = new Map<string, NewEntry[]>();
  const seen: Plan['seen'][number][] = [];
  const setAside: Plan['setAside'][number][] = [];
  const artifacts: Plan['artifacts'][number][] = [];
  const unknownTenantEvents: Plan['unknownTenantEvents'][number][] = [];
  const emitters = new Map<string, Uint8Array | undefined>();
  const counts = new Map<string, Partial<Record<CountName, number>>>();
  const heals = new Map<string, Heal>();
  const streams = new Map(state.streams);
  const changed = new Set<string>();
  const known = {
    ids: new Map(state.events.map((event) => [`${event.tenant}/${event.id}`, event])),
    positions: new Map(state.events.map((event) => [positionKey(event), event])),
    setAside: new Set(state.setAside),
    unknown: new Set(state.unknownTenantEvents),
    keys: new Map(state.emitterKeys),
  };

  const count = (tenant: string, name: CountName, by = 1): void => {
    const of = counts.get(tenant) ?? {};
    counts.set(tenant, { ...of, [name]: (of[name] ?? 0) + by });
  };

  const append = (tenant: string, entry: NewEntry): number => {
    const list = entries.get(tenant);
    if (list !== undefined) return list.push(entry) - 1;
    entries.set(tenant, [entry]);
    return 0;
  };

  const streamAt = (of: Pick<Stream, 'tenant' | 'emitter' | 'boot'>): Stream =>
    streams.get(streamKey(of)) ?? newStream(of.tenant, of.emitter, of.boot);

  const putStream = (stream: Stream): void => {
    const key = streamKey(stream);
    if (streams.get(key) === stream) return;
    streams.set(key, stream);
    changed.add(key);
  };

  const fillNumbers = (of: Pick<Stream, 'tenant' | 'emitter' | 'boot'>, range: NumberRange): void => {
    const { stream, healed } = fill(streamAt(of), range, nowMs);
    putStream(stream);
    for (const { gapSeq, from, to } of healed) {
      const key = streamKey(stream);
      const heal = heals.get(key) ?? { stream, gaps: new Map<bigint, NumberRange[]>() };
      heals.set(key, heal);
      const ranges = heal.gaps.get(gapSeq);
      if (ranges === undefined) heal.gaps.set(gapSeq, [{ from, to }]);
      else ranges.push({ from, to });
    }
  };

  const fillPosition = (position: Position): void =>
    fillNumbers(position, { from: position.sequence, to: position.sequence });

  /** An entry for a message that is no ordinary event, unless the same one was set aside before. */
  const putAside = (log: string, reading: Reading, name: CountName, entry: () => NewEntry): void => {
    const mark = markOf(reading);
    if (known.setAside.has(`${log}/${mark}`)) return count(log, 'duplicates');
    known.setAside.add(`${log}/${mark}`);
    setAside.push({ tenant: log, mark, index: append(log, entry()) });
    count(log, name);
  };

  const quarantine = (reading: Reading, reason: QuarantineReason): void => {
    const log = logOf(reading, state.tenants);
    putAside(log, reading, 'quarantined', () => quarantineEntry(log, reading, reason, ids));
    // The number is accounted for by this entry, or its emitter would send the same bytes for ever. What comes from
    // an emitter that does not count here has no number here.
    const { position } = reading;
    if (position === undefined || reason === 'emitter_not_pinned') return;
    if (!emitters.has(position.emitter)) emitters.set(position.emitter, undefined);
    fillPosition(position);
  };

  const noteUnknownTenant = (reading: Reading): void => {
    const { position } = reading;
    const entry = (): NewEntry => unknownTenantEntry(SYSTEM_TENANT, reading, ids);
    if (position === undefined) return putAside(SYSTEM_TENANT, reading, 'quarantined', entry);
    const key = positionKey(position);
    if (known.unknown.has(key)) return count(SYSTEM_TENANT, 'duplicates');
    known.unknown.add(key);
    unknownTenantEvents.push({ ...position, index: append(SYSTEM_TENANT, entry()) });
    count(SYSTEM_TENANT, 'quarantined');
  };

  const conflict = (reading: Reading, event: ReceivedEvent, reason: ConflictReason, first: SeenEvent): void => {
    putAside(event.tenant, reading, 'conflicts', () => conflictEntry(event.tenant, reading, reason, first.id, ids));
    fillPosition(event);
  };

  const alertBrokenChain = (at: Position, named: string, found: string): void => {
    append(at.tenant, brokenChainEntry(at.tenant, at, { named, found }, ids));
    count(at.tenant, 'alerts');
  };

  /** The digests by which events name each other must agree, in whatever order the events come. */
  const checkChain = (event: SeenEvent): void => {
    if (event.previous !== undefined) {
      const before = known.positions.get(positionKey({ ...event, sequence: event.sequence - 1n }));
      const found = event.sequence === 1n ? FIRST_PREVIOUS : before?.digest;
      if (found !== undefined && found !== event.previous) alertBrokenChain(event, event.previous, found);
    }
    const after = known.positions.get(positionKey({ ...event, sequence: event.sequence + 1n }));
    if (after?.previous !== undefined && after.previous !== event.digest)
      alertBrokenChain(after, after.previous, event.digest);
  };

  const followClaim = (event: ReceivedEvent): void => {
    const { claim, tenant, emitter } = event;
    if (claim.type === 'lost')
      for (const range of claim.ranges) fillNumbers({ tenant, emitter, boot: range.boot }, range);
    if (claim.type !== 'heartbeat') return;
    for (const { boot, sequence, digest } of claim.recovered) {
      putStream(announce(streamAt({ tenant, emitter, boot }), sequence, nowMs));
      const end = known.positions.get(positionKey({ tenant, emitter, boot, sequence }));
      if (end !== undefined && end.digest !== digest) alertBrokenChain(end, digest, end.digest);
    }
  };

  const noteState = (event: ReceivedEvent, wasHighest: bigint): void => {
    const stream = streamAt(event);
    const newest = event.sequence > wasHighest;
    const told = event.claim.type === 'heartbeat' ? event.claim.state : 'active';
    const lastEventMs = Math.max(stream.lastEventMs ?? 0, event.timeMs);
    putStream({ ...stream, state: newest ? told : stream.state, lastEventMs });
  };

  /** False: its signature is not its emitter's. A heartbeat whose emitter's key is not known yet stands unattested. */
  const checkSignature = (event: ReceivedEvent): boolean => {
    const { claim, emitter } = event;
    if (claim.type === 'start') {
      const key = attestedKey(claim.document);
      if (key === undefined) return false;
      known.keys.set(emitter, key);
      emitters.set(emitter, key);
      return true;
    }
    const key = claim.type === 'heartbeat' ? known.keys.get(emitter) : undefined;
    return key === undefined || claim.type !== 'heartbeat' || isEventSignedBy(claim.document, key);
  };

  const take = (reading: Reading, event: ReceivedEvent): void => {
    const { message, digest } = reading;
    const sameId = known.ids.get(`${event.tenant}/${event.id}`);
    if (sameId !== undefined) {
      if (sameId.digest !== digest) return conflict(reading, event, 'id_reused', sameId);
      count(event.tenant, 'duplicates');
      // It is an entry already; its number may still be a hole where holes were joined.
      return fillPosition(event);
    }
    if (!checkSignature(event)) return quarantine(reading, 'signature_invalid');
    if (!emitters.has(event.emitter)) emitters.set(event.emitter, undefined);
    const samePosition = known.positions.get(positionKey(event));
    if (samePosition !== undefined) return conflict(reading, event, 'position_reused', samePosition);
    const { id, tenant, emitter, boot, sequence, previous, kind, policySetDigest, subject, search } = event;
    const entry: SeenEvent = { id, tenant, emitter, boot, sequence, digest, ...(previous && { previous }) };
    const index = append(tenant, {
      kind,
      eventId: id,
      topic: message.topic,
      partition: message.partition,
      offset: message.offset,
      emitter,
      boot,
      emitterSeq: sequence,
      policySetDigest,
      contentType: EVENT_CONTENT_TYPE,
      payload: message.value,
      subject,
      ...(search && { search }),
    });
    seen.push({ ...entry, index });
    if (event.artifact !== undefined) artifacts.push({ ...event, artifact: event.artifact, index });
    known.ids.set(`${tenant}/${id}`, entry);
    known.positions.set(positionKey(event), entry);
    const { highest } = streamAt(event);
    fillPosition(event);
    noteState(event, highest);
    checkChain(entry);
    followClaim(event);
  };

  let { nextOffset } = state;
  for (const reading of readings) {
    const { topic, partition, offset } = reading.message;
    if (offset < nextOffset) continue;
    if (offset > nextOffset)
      append(
        SYSTEM_TENANT,
        lostOffsetsEntry(SYSTEM_TENANT, { topic, partition }, { from: nextOffset, to: offset - 1n }, ids),
      );
    nextOffset = offset + 1n;
    if (isOfUnknownTenant(reading, state.tenants)) noteUnknownTenant(reading);
    else if (reading.content.ok) take(reading, reading.content.event);
    else quarantine(reading, reading.content.reason);
  }

  for (const { stream, gaps } of heals.values()) {
    const healed = new Map([...gaps].map(([gap, ranges]) => [gap, joinRanges(ranges)]));
    append(stream.tenant, healEntry(stream, healed, ids));
    count(stream.tenant, 'healed', gaps.size);
  }
  return {
    entries,
    seen,
    setAside,
    artifacts,
    unknownTenantEvents,
    streams: [...changed].flatMap((key) => streams.get(key) ?? []),
    emitters,
    nextOffset,
    counts,
  };
};
