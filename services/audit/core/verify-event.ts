import { hex } from '../../shared/contracts/bytes.ts';
import { counterOf } from '../../shared/contracts/counter.ts';
import { EVENT_CONTENT_TYPE, type EventType } from '../../shared/contracts/events.ts';
import { isObject } from '../../shared/contracts/json.ts';
import { bytesToUuid } from '../../shared/contracts/uuid.ts';
import { ENTRY_KINDS, entryKindName, KIND_OF_EVENT, OWN_CONTENT_TYPE, type Entry, type EntryKind } from './entry.ts';

type Json = Readonly<Record<string, unknown>>;

/** A difference between what an entry says and what its payload says. */
export interface Mismatch {
  readonly what: string;
  readonly expected: string;
  readonly actual: string;
}

const OWN_KINDS: ReadonlySet<EntryKind> = new Set([
  'gap',
  'erasure',
  'retention',
  'access',
  'key',
  'seal',
  'incarnation',
  'alert',
  'heal',
  'emitter',
]);
const EVENT_KINDS: ReadonlySet<EntryKind> = new Set(Object.values(KIND_OF_EVENT));
/** Entries that wrap a message which could not become an event entry. */
const WRAPPING_KINDS: ReadonlySet<EntryKind> = new Set(['quarantine', 'conflict']);

/** The newest `schema_version` whose members are known. */
const KNOWN_SCHEMA = 1;
const ZERO_ID = '0'.repeat(32);
const ZERO_SET = '0'.repeat(64);
const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/** The JSON object in `bytes`, or undefined. */
export const parseObject = (bytes: Uint8Array): Json | undefined => {
  try {
    const value: unknown = JSON.parse(utf8.decode(bytes));
    return isObject(value) ? value : undefined;
  } catch {
    return undefined;
  }
};

const shown = (value: unknown): string => (typeof value === 'string' ? value : (JSON.stringify(value) ?? 'nothing'));

/** Collects what differs. */
type Compare = (what: string, fromPayload: unknown, inEntry: string) => void;

const comparer =
  (mismatches: Mismatch[]): Compare =>
  (what, fromPayload, inEntry) => {
    if (fromPayload !== inEntry) mismatches.push({ what, expected: shown(fromPayload), actual: inEntry });
  };

const NO_MEMBERS: Json = {};
const objectIn = (value: unknown): Json => (isObject(value) ? value : NO_MEMBERS);

const checkEvent = (compare: Compare, entry: Entry, kind: EntryKind, event: Json, tenant: string): void => {
  const data = objectIn(event['data']);
  const emitter = objectIn(data['emitter']);
  const schema = data['schema_version'];
  /** Members that a newer schema may not have are compared only where they are. */
  const isNewer = typeof schema === 'number' && schema > KNOWN_SCHEMA;
  const compareMember: Compare = (what, fromPayload, inEntry) => {
    if (!isNewer || fromPayload !== undefined) compare(what, fromPayload, inEntry);
  };
  const { type } = event;
  const isKnownType = typeof type === 'string' && Object.hasOwn(KIND_OF_EVENT, type);
  compare('kind', isKnownType ? KIND_OF_EVENT[type as EventType] : shown(type), kind);
  const id = hex(entry.emitter);
  compare('event id', event['id'], bytesToUuid(entry.eventId));
  compare('source', event['source'], id);
  compareMember('emitter', emitter['id'], id);
  compareMember('boot', emitter['boot'], String(entry.boot));
  compareMember('emitter number', emitter['sequence'], String(entry.emitterSeq));
  compareMember('tenant', data['tenant'], tenant);
  const { set } = objectIn(data['policy']);
  const bindsSet = kind === 'decision' || kind === 'activation';
  if (bindsSet && set !== undefined) compare('policy set digest', set, `sha256:${hex(entry.policySetDigest)}`);
  else compare('policy set digest', ZERO_SET, hex(entry.policySetDigest));
};

const checkUnnumbered = (compare: Compare, entry: Entry): void => {
  compare('emitter', ZERO_ID, hex(entry.emitter));
  compare('boot', '0', String(entry.boot));
  compare('emitter number', '0', String(entry.emitterSeq));
  compare('policy set digest', ZERO_SET, hex(entry.policySetDigest));
};

const checkOwn = (compare: Compare, entry: Entry): void => {
  compare('topic', '', entry.topic);
  compare('partition', '0', String(entry.partition));
  compare('offset', '0', String(entry.offset));
  checkUnnumbered(compare, entry);
};

export interface PayloadFacts {
  readonly kind: EntryKind | undefined;
  /** The parsed payload; undefined when it is no JSON object. */
  readonly document: Json | undefined;
  /** True for an event of an emitter, false for what the audit service says or wraps. */
  readonly isEvent: boolean;
  readonly mismatches: readonly Mismatch[];
}

/** Compares what an entry's header copies from its payload with the payload itself. */
export const comparePayload = (
  entry: Entry,
  contentType: string,
  payload: Uint8Array,
  tenant: string,
): PayloadFacts => {
  const kind = entryKindName(entry.kind);
  const document = parseObject(payload);
  if (kind === undefined)
    return {
      kind,
      document,
      isEvent: false,
      mismatches: [{ what: 'kind', expected: '1–19', actual: `${entry.kind}` }],
    };
  const isEvent = contentType === EVENT_CONTENT_TYPE;
  const mayBeEvent = EVENT_KINDS.has(kind);
  const mayBeOwn = OWN_KINDS.has(kind) || WRAPPING_KINDS.has(kind);
  if (isEvent ? !mayBeEvent : !mayBeOwn || contentType !== OWN_CONTENT_TYPE)
    return {
      kind,
      document,
      isEvent,
      mismatches: [
        { what: 'content type', expected: mayBeEvent ? EVENT_CONTENT_TYPE : OWN_CONTENT_TYPE, actual: contentType },
      ],
    };
  if (document === undefined)
    return {
      kind,
      document,
      isEvent,
      mismatches: [{ what: 'payload', expected: 'a JSON object', actual: `${payload.length} other bytes` }],
    };
  const mismatches: Mismatch[] = [];
  const compare = comparer(mismatches);
  if (isEvent) checkEvent(compare, entry, kind, document, tenant);
  else if (WRAPPING_KINDS.has(kind)) checkUnnumbered(compare, entry);
  else checkOwn(compare, entry);
  return { kind, document, isEvent, mismatches };
};

const rangesOf = (value: unknown): readonly (readonly [bigint, bigint])[] =>
  (Array.isArray(value) ? value : []).flatMap((item: unknown) => {
    const [from, to] = Array.isArray(item) ? [counterOf(item[0]), counterOf(item[1])] : [undefined, undefined];
    return from === undefined || to === undefined || to < from ? [] : [[from, to] as const];
  });

/** The seq ranges whose payloads an erasure or retention entry says are gone: `ranges: [["3","7"], …]`. */
export const goneSeqs = (document: Json): readonly (readonly [bigint, bigint])[] => rangesOf(document['ranges']);

export const KINDS_OF_GONE: ReadonlySet<number> = new Set([ENTRY_KINDS.erasure, ENTRY_KINDS.retention]);
