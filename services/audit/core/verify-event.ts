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

const memberOf = (value: unknown, ...path: readonly string[]): unknown =>
  path.reduce<unknown>((at, name) => (isObject(at) && Object.hasOwn(at, name) ? at[name] : undefined), value);

const shown = (value: unknown): string => (typeof value === 'string' ? value : (JSON.stringify(value) ?? 'nothing'));

const compare = (what: string, fromPayload: unknown, inEntry: string): readonly Mismatch[] =>
  fromPayload === inEntry ? [] : [{ what, expected: shown(fromPayload), actual: inEntry }];

const isZero = (what: string, inEntry: string, zero: string): readonly Mismatch[] =>
  inEntry === zero ? [] : [{ what, expected: zero, actual: inEntry }];

/** Members that a newer schema may not have: compared only where they are. */
const compareMember = (isNewer: boolean, what: string, fromPayload: unknown, inEntry: string): readonly Mismatch[] =>
  isNewer && fromPayload === undefined ? [] : compare(what, fromPayload, inEntry);

const checkEvent = (entry: Entry, kind: EntryKind, event: Json, tenant: string): readonly Mismatch[] => {
  const schema = memberOf(event, 'data', 'schema_version');
  const isNewer = typeof schema === 'number' && schema > KNOWN_SCHEMA;
  const type = event['type'];
  const isKnownType = typeof type === 'string' && Object.hasOwn(KIND_OF_EVENT, type);
  const set = memberOf(event, 'data', 'policy', 'set');
  const bindsSet = kind === 'decision' || kind === 'activation';
  return [
    ...(isKnownType && KIND_OF_EVENT[type as EventType] === kind
      ? []
      : [{ what: 'kind', expected: isKnownType ? KIND_OF_EVENT[type as EventType] : shown(type), actual: kind }]),
    ...compare('event id', event['id'], bytesToUuid(entry.eventId)),
    ...compare('source', event['source'], hex(entry.emitter)),
    ...compareMember(isNewer, 'emitter', memberOf(event, 'data', 'emitter', 'id'), hex(entry.emitter)),
    ...compareMember(isNewer, 'boot', memberOf(event, 'data', 'emitter', 'boot'), String(entry.boot)),
    ...compareMember(
      isNewer,
      'emitter number',
      memberOf(event, 'data', 'emitter', 'sequence'),
      String(entry.emitterSeq),
    ),
    ...compareMember(isNewer, 'tenant', memberOf(event, 'data', 'tenant'), tenant),
    ...(bindsSet && set !== undefined
      ? compare('policy set digest', set, `sha256:${hex(entry.policySetDigest)}`)
      : isZero('policy set digest', hex(entry.policySetDigest), ZERO_SET)),
  ];
};

const checkUnnumbered = (entry: Entry): readonly Mismatch[] => [
  ...isZero('emitter', hex(entry.emitter), ZERO_ID),
  ...isZero('boot', String(entry.boot), '0'),
  ...isZero('emitter number', String(entry.emitterSeq), '0'),
  ...isZero('policy set digest', hex(entry.policySetDigest), ZERO_SET),
];

const checkOwn = (entry: Entry): readonly Mismatch[] => [
  ...isZero('topic', entry.topic, ''),
  ...isZero('partition', String(entry.partition), '0'),
  ...isZero('offset', String(entry.offset), '0'),
  ...checkUnnumbered(entry),
];

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
  const mayBeEvent = (Object.values(KIND_OF_EVENT) as readonly EntryKind[]).includes(kind);
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
  const mismatches = isEvent
    ? checkEvent(entry, kind, document, tenant)
    : WRAPPING_KINDS.has(kind)
      ? checkUnnumbered(entry)
      : checkOwn(entry);
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
