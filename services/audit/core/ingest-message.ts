import { artifactPartOf, type ArtifactPart } from '../../shared/contracts/artifact.ts';
import { sha256Hex } from '../../shared/contracts/bytes.ts';
import { counterOf } from '../../shared/contracts/counter.ts';
import { EVENT_TYPES, type EventType } from '../../shared/contracts/events.ts';
import { isObject } from '../../shared/contracts/json.ts';
import { isTenant, SYSTEM_TENANT } from '../../shared/contracts/tenant.ts';
import { isUuidV7 } from '../../shared/contracts/uuid.ts';
import type { DataSubject, SearchRow } from './append.ts';
import { KIND_OF_EVENT, type EntryKind } from './entry.ts';
import { describeDecision, tenantSubject } from './ingest-search.ts';
import { MAX_HEADERS, type SourceMessage } from './ingest-source.ts';
import { parseStrictJson } from './strict-json.ts';

/** Larger messages are not looked into: an event has at most 900 kB. */
export const MAX_EVENT_BYTES = 1024 * 1024;
/** The newest `schema_version` whose members are known; newer ones are stored without looking at them. */
const KNOWN_SCHEMA = 1;
/** Ranges in one lost event, boots in one heartbeat. */
const MAX_CLAIMS = 4096;

export type QuarantineReason =
  | 'too_large'
  | 'not_utf8'
  | 'not_json'
  | 'ambiguous_json'
  | 'not_cloudevent'
  | 'unknown_type'
  | 'malformed_event'
  | 'too_many_headers'
  | 'headers_missing'
  | 'headers_disagree'
  | 'emitter_not_pinned'
  | 'signature_invalid'
  | 'tenant_unknown';

/** One number of one stream: emitter, boot and tenant. */
export interface Position {
  readonly tenant: string;
  readonly emitter: string;
  readonly boot: bigint;
  readonly sequence: bigint;
}

/** Inclusive. */
export interface NumberRange {
  readonly from: bigint;
  readonly to: bigint;
}

/** What an event says beyond being stored. */
export type Claim =
  | { readonly type: 'none' }
  /** The document, for its signature. */
  | { readonly type: 'start'; readonly document: unknown }
  | {
      readonly type: 'heartbeat';
      readonly document: unknown;
      readonly state: 'active' | 'idle' | 'final';
      readonly recovered: readonly { readonly boot: bigint; readonly sequence: bigint; readonly digest: string }[];
    }
  | { readonly type: 'lost'; readonly ranges: readonly (NumberRange & { readonly boot: bigint })[] };

export interface ReceivedEvent extends Position {
  readonly id: string;
  readonly kind: EntryKind;
  /** By the emitter's clock. */
  readonly timeMs: number;
  /** Hex SHA-256 of the event before it; absent in a newer schema that has no such member. */
  readonly previous?: string;
  readonly policySetDigest: Uint8Array;
  readonly subject: DataSubject;
  readonly search?: SearchRow;
  /** Which part of what an artifact event carries. */
  readonly artifact?: ArtifactPart;
  readonly claim: Claim;
}

export interface Reading {
  readonly message: SourceMessage;
  /** Hex SHA-256 of the value. */
  readonly digest: string;
  /** The tenant that the header names, when it is a tenant name at all. */
  readonly headerTenant?: string;
  /** What the headers name, when they name all of it. */
  readonly position?: Position;
  readonly content:
    { readonly ok: true; readonly event: ReceivedEvent } | { readonly ok: false; readonly reason: QuarantineReason };
}

const isEventType = (type: unknown): type is EventType => (EVENT_TYPES as readonly unknown[]).includes(type);

const EMITTER = /^[0-9a-f]{32}$/;
const DIGEST = /^[0-9a-f]{64}$/;
const SET_DIGEST = /^sha256:[0-9a-f]{64}$/;
const RFC3339 = /^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?(Z|[+-][0-9]{2}:[0-9]{2})$/;
const MAX_HEADER_BYTES = 128;
const NO_POLICY = new Uint8Array(32);

/** A counter that starts from 1. */
const ordinal = (value: unknown): bigint | undefined => {
  const number = counterOf(value);
  return number === 0n ? undefined : number;
};

/** The text of a header that stands exactly once. All that Edict sends is ASCII; other bytes fit no pattern below. */
const headerText = (message: SourceMessage, wanted: string): string | undefined => {
  let found: Uint8Array | undefined;
  for (const [name, value] of message.headers) {
    if (name !== wanted) continue;
    if (found !== undefined || value.length > MAX_HEADER_BYTES) return undefined;
    found = value;
  }
  return found === undefined
    ? undefined
    : Buffer.from(found.buffer, found.byteOffset, found.byteLength).toString('latin1');
};

const headerPosition = (message: SourceMessage): Position | undefined => {
  const tenant = headerText(message, 'tenant');
  const emitter = headerText(message, 'emitter');
  const boot = counterOf(headerText(message, 'boot'));
  const sequence = ordinal(headerText(message, 'sequence'));
  if (!isTenant(tenant) || emitter === undefined || !EMITTER.test(emitter)) return undefined;
  return boot === undefined || sequence === undefined ? undefined : { tenant, emitter, boot, sequence };
};

/** False when a member is there and says something else. */
const agrees = (member: unknown, expected: string): boolean => member === undefined || member === expected;

const setDigest = (data: Readonly<Record<string, unknown>>): Uint8Array | undefined => {
  const set = isObject(data['policy']) ? data['policy']['set'] : undefined;
  return typeof set === 'string' && SET_DIGEST.test(set) ? Buffer.from(set.slice(7), 'hex') : undefined;
};

type Recovered = Extract<Claim, { type: 'heartbeat' }>['recovered'][number];

const recoveredOf = (value: unknown, ownBoot: bigint): readonly Recovered[] | undefined => {
  if (value === undefined) return [];
  if (!Array.isArray(value) || value.length > MAX_CLAIMS) return undefined;
  const out: Recovered[] = [];
  for (const item of value as readonly unknown[]) {
    if (!isObject(item)) return undefined;
    const [boot, sequence, digest] = [counterOf(item['boot']), ordinal(item['sequence']), item['digest']];
    if (boot === undefined || boot >= ownBoot || sequence === undefined) return undefined;
    if (typeof digest !== 'string' || !DIGEST.test(digest)) return undefined;
    out.push({ boot, sequence, digest });
  }
  return out;
};

type Lost = Extract<Claim, { type: 'lost' }>['ranges'][number];

/** An emitter speaks for its own boots only, and of its present one only for numbers before the event's. */
const lostOf = (value: unknown, own: Position): readonly Lost[] | undefined => {
  if (!Array.isArray(value) || value.length === 0 || value.length > MAX_CLAIMS) return undefined;
  const out: Lost[] = [];
  for (const item of value as readonly unknown[]) {
    if (!isObject(item)) return undefined;
    const [boot, from, to] = [counterOf(item['boot']), ordinal(item['from']), ordinal(item['to'])];
    if (boot === undefined || from === undefined || to === undefined || from > to) return undefined;
    if (boot > own.boot || (boot === own.boot && to >= own.sequence)) return undefined;
    out.push({ boot, from, to });
  }
  return out;
};

/** What the type's own members say; undefined when they are not what the schema demands. */
const specifics = (
  type: EventType,
  id: string,
  timeMs: number,
  data: Readonly<Record<string, unknown>>,
  position: Position,
  document: unknown,
): Pick<ReceivedEvent, 'policySetDigest' | 'subject' | 'search' | 'artifact' | 'claim'> | undefined => {
  const plain = {
    policySetDigest: NO_POLICY,
    subject: tenantSubject(position.tenant),
    claim: { type: 'none' },
  } as const;
  switch (type) {
    case 'edict.decision.v1': {
      const policySetDigest = setDigest(data);
      const described = describeDecision(data, id, timeMs, position.tenant);
      return policySetDigest && described && { ...plain, policySetDigest, ...described };
    }
    case 'edict.activation.v1': {
      const policySetDigest = setDigest(data);
      return policySetDigest && { ...plain, policySetDigest };
    }
    case 'edict.start.v1':
      // The start of an emitter concerns the installation, no tenant.
      return position.tenant === SYSTEM_TENANT ? { ...plain, claim: { type: 'start', document } } : undefined;
    case 'edict.heartbeat.v1': {
      const state = data['state'];
      const recovered = recoveredOf(data['recovered'], position.boot);
      if (state !== 'active' && state !== 'idle' && state !== 'final') return undefined;
      if (recovered === undefined || typeof data['signature'] !== 'string') return undefined;
      return { ...plain, claim: { type: 'heartbeat', document, state, recovered } };
    }
    case 'edict.lost.v1': {
      const ranges = lostOf(data['lost'], position);
      return ranges && { ...plain, claim: { type: 'lost', ranges } };
    }
    case 'edict.refusals.v1':
      return Array.isArray(data['refusals']) && isObject(data['caller']) ? plain : undefined;
    case 'edict.artifact.v1': {
      const artifact = artifactPartOf(data)?.part;
      return artifact && { ...plain, artifact };
    }
    case 'edict.fulfilment.v1':
      return plain;
    default:
      return type satisfies never;
  }
};

const refuse = (reason: QuarantineReason): Reading['content'] => ({ ok: false, reason });

/** The event as it stands in the value, checked against what the headers say of it. */
const readValue = (message: SourceMessage, position: Position | undefined): Reading['content'] => {
  if (message.value.length > MAX_EVENT_BYTES) return refuse('too_large');
  if (message.headers.length > MAX_HEADERS) return refuse('too_many_headers');
  const json = parseStrictJson(message.value);
  if (!json.ok)
    return refuse(json.why === 'not UTF-8' ? 'not_utf8' : json.why === 'not JSON' ? 'not_json' : 'ambiguous_json');
  const document = json.value;
  if (!isObject(document) || document['specversion'] !== '1.0') return refuse('not_cloudevent');
  const { id, source, type, time, data } = document;
  if (typeof id !== 'string' || !isUuidV7(id) || typeof source !== 'string' || typeof type !== 'string')
    return refuse('not_cloudevent');
  if (typeof time !== 'string' || !RFC3339.test(time) || Number.isNaN(Date.parse(time)) || !isObject(data))
    return refuse('not_cloudevent');
  if (!agrees(document['datacontenttype'], 'application/json')) return refuse('not_cloudevent');
  if (!isEventType(type)) return refuse('unknown_type');
  const schema = data['schema_version'];
  if (typeof schema !== 'number' || !Number.isSafeInteger(schema) || schema < 1) return refuse('malformed_event');
  if (position === undefined) return refuse('headers_missing');
  const emitter = isObject(data['emitter']) ? data['emitter'] : {};
  const same =
    source === position.emitter &&
    agrees(data['tenant'], position.tenant) &&
    agrees(emitter['id'], position.emitter) &&
    agrees(emitter['boot'], position.boot.toString()) &&
    agrees(emitter['sequence'], position.sequence.toString());
  if (!same) return refuse('headers_disagree');
  const timeMs = Date.parse(time);
  const common = { ...position, id, timeMs, kind: KIND_OF_EVENT[type] };
  const previous = emitter['previous'];
  const chained = typeof previous === 'string' && DIGEST.test(previous) ? { previous } : undefined;
  if (schema > KNOWN_SCHEMA) {
    // Stored as its kind whatever its members have become; only what every schema means alike is taken from it.
    const policySetDigest = (type === 'edict.decision.v1' || type === 'edict.activation.v1') && setDigest(data);
    const loose = specifics(type, id, timeMs, data, position, document);
    const otherwise = {
      policySetDigest: policySetDigest || NO_POLICY,
      subject: tenantSubject(position.tenant),
      claim: { type: 'none' },
    } as const;
    return { ok: true, event: { ...common, ...chained, ...(loose ?? otherwise) } };
  }
  const complete =
    data['tenant'] !== undefined &&
    ['id', 'boot', 'sequence'].every((name) => emitter[name] !== undefined) &&
    typeof data['nonce'] === 'string' &&
    EMITTER.test(data['nonce']) &&
    chained !== undefined;
  const own = complete ? specifics(type, id, timeMs, data, position, document) : undefined;
  return own === undefined ? refuse('malformed_event') : { ok: true, event: { ...common, ...chained, ...own } };
};

/** Looks at one message by itself. `pinned`: the emitters that count, when the settings name any. */
export const readMessage = (message: SourceMessage, pinned: ReadonlySet<string> | undefined): Reading => {
  const headerTenant = headerText(message, 'tenant');
  const position = headerPosition(message);
  const read = readValue(message, position);
  const emitter = position?.emitter ?? headerText(message, 'emitter');
  const foreign = pinned !== undefined && emitter !== undefined && !pinned.has(emitter);
  return {
    message,
    digest: sha256Hex(message.value),
    ...(isTenant(headerTenant) ? { headerTenant } : {}),
    ...(position === undefined ? {} : { position }),
    content: foreign ? refuse('emitter_not_pinned') : read,
  };
};
