import { bytesEqual, hex } from '../../shared/contracts/bytes.ts';
import { isObject } from '../../shared/contracts/json.ts';
import { bytesToUuid } from '../../shared/contracts/uuid.ts';
import { commitPayload, entryKindName, leafHash, type Entry } from './entry.ts';
import { describeDecision } from './ingest-search.ts';
import { entryOf, type FoundDecision, type ReadEntry } from './query-reader.ts';
import { parseObject } from './verify-event.ts';
import { compareSearch, searchColumns, type SearchColumns } from './verify-search.ts';
import type { NameSubject } from './pseudonym.ts';

const NO_CHECKPOINT = 'no checkpoint yet';
const NOT_COVERED = 'the newest checkpoint does not cover this entry yet';

/** What proves an entry, hashes in base64; the log's key signed `checkpoint`, a C2SP note. */
export interface ShownProof {
  readonly checkpoint: string;
  /** RFC 6962, section 2.1.1; null while the checkpoint does not cover the entry. */
  readonly proof: { readonly index: string; readonly tree_size: string; readonly hashes: readonly string[] } | null;
  /** RFC 6962, section 2.1.2, from a size that the caller named; null when it named none. */
  readonly consistency: { readonly from: string; readonly to: string; readonly hashes: readonly string[] } | null;
}

/** What the meta log says of a checkpoint, hashes in base64. */
export interface ShownWitnessed {
  /** The note of the entry's log whose hash is the leaf. */
  readonly checkpoint: string;
  /** The entry in the tree of that checkpoint; null where no entry was asked for. */
  readonly proof: ShownProof['proof'];
  readonly meta: {
    readonly log: string;
    /** The meta log's note, with cosignatures. */
    readonly checkpoint: string;
    readonly index: string;
    readonly tree_size: string;
    readonly hashes: readonly string[];
  };
}

/** The newest checkpoint of the log that a page is read from. */
export interface ShownCheckpoint {
  readonly log: string;
  readonly size: string;
  readonly checkpoint: string;
}

/** The members of a page that say what covers it. */
export const showCovered = (
  covered: ShownCheckpoint | undefined,
): { readonly covered_by: ShownCheckpoint | null; readonly not_proven: string | null } => ({
  covered_by: covered ?? null,
  not_proven: covered === undefined ? NO_CHECKPOINT : null,
});

/** One row of `GET /v1/decisions`. Members that the event does not have are absent. */
export interface ShownDecision {
  readonly decision_id: string;
  readonly seq: string;
  readonly log: string;
  readonly event_time: string;
  readonly ingest_time: string;
  readonly decision: string;
  /** Absent when the payload cannot be read: the search table knows persons only by pseudonym. */
  readonly subject?: { readonly type: string; readonly id: string; readonly issuer?: string };
  readonly agent?: string;
  /** The actors before the agent, oldest first. */
  readonly chain?: readonly string[];
  readonly action: string;
  readonly resource: { readonly type: string; readonly id: string };
  readonly reasons: readonly { readonly code: string; readonly leg?: string; readonly rule?: string }[];
  /** What had to be carried out; absent when the payload cannot be read. */
  readonly obligations?: readonly { readonly id: string; readonly type: string }[];
  readonly purpose?: string;
  readonly session?: string;
  readonly request_id?: string;
  readonly caller: string;
  /** Where the members come from: the committed event, or, when that cannot be read, the search table. */
  readonly read_from: 'event' | 'search';
  readonly payload: 'opened' | 'missing' | 'no_key' | 'unopened';
  /** What the search table says otherwise than the event: somebody changed it. */
  readonly search_mismatch?: readonly string[];
  /** The size of the checkpoint that covers the entry; null while none does. */
  readonly covered_by: string | null;
}

const textOf = (value: SearchColumns[string] | undefined): string | undefined =>
  value === null || value === undefined ? undefined : String(value);

const timeOf = (ms: number): string => {
  const date = new Date(ms);
  return Number.isNaN(date.getTime()) ? String(ms) : date.toISOString();
};

/** `{[name]: value}` when there is a value. */
const present = <Name extends string, Value>(name: Name, value: Value | undefined): { readonly [N in Name]?: Value } =>
  (value === undefined ? {} : { [name]: value }) as { readonly [N in Name]?: Value };

type Members = Readonly<Record<string, unknown>>;

/** The objects in a list of the answer. */
const listOf = (event: Members, name: 'reasons' | 'obligations'): readonly Members[] => {
  const { data } = event;
  const answer = isObject(data) ? data['answer'] : undefined;
  const list = isObject(answer) ? answer[name] : undefined;
  return Array.isArray(list) ? list.filter(isObject) : [];
};

const textIn = (object: Members, name: string): string | undefined => {
  const value = object[name];
  return typeof value === 'string' ? value : undefined;
};

const reasonsOf = (event: Members): ShownDecision['reasons'] =>
  listOf(event, 'reasons').flatMap((reason) => {
    const code = textIn(reason, 'code');
    if (code === undefined) return [];
    return [{ code, ...present('leg', textIn(reason, 'leg')), ...present('rule', textIn(reason, 'rule')) }];
  });

const obligationsOf = (event: Members): NonNullable<ShownDecision['obligations']> =>
  listOf(event, 'obligations').map((each) => ({ id: textIn(each, 'id') ?? '', type: textIn(each, 'type') ?? '' }));

const chainIn = (value: SearchColumns[string] | undefined): readonly string[] | undefined =>
  Array.isArray(value) && value.length > 0 ? (value as readonly string[]) : undefined;

const fromSearch = ({ search }: FoundDecision) => ({
  event_time: timeOf(Number(search['event_time_ms'])),
  decision: textOf(search['decision']) ?? '',
  ...present('agent', textOf(search['agent'])),
  ...present('chain', chainIn(search['chain'])),
  action: textOf(search['action']) ?? '',
  resource: { type: textOf(search['resource_type']) ?? '', id: textOf(search['resource']) ?? '' },
  reasons: (Array.isArray(search['reasons']) ? (search['reasons'] as readonly string[]) : []).map((code) => ({ code })),
  ...present('purpose', textOf(search['purpose'])),
  ...present('session', textOf(search['session_id'])),
  ...present('request_id', textOf(search['request_id'])),
  caller: textOf(search['caller']) ?? '',
});

const fromEvent = (event: Readonly<Record<string, unknown>>, entry: Entry, tenant: string) => {
  const { data, time } = event;
  if (!isObject(data) || typeof time !== 'string') return undefined;
  const described = describeDecision(data, bytesToUuid(entry.eventId), Date.parse(time), tenant);
  if (described === undefined) return undefined;
  const { search, subject } = described;
  return {
    event_time: timeOf(search.eventTimeMs),
    decision: search.decision,
    subject: {
      type: subject.type,
      id: subject.id,
      ...present('issuer', subject.issuer === '' ? undefined : subject.issuer),
    },
    ...present('agent', search.agent),
    ...present('chain', search.chain),
    action: search.action,
    resource: { type: search.resourceType, id: search.resource },
    reasons: reasonsOf(event),
    obligations: obligationsOf(event),
    ...present('purpose', search.purpose),
    ...present('session', search.session),
    ...present('request_id', search.requestId),
    caller: search.caller,
  };
};

/**
 * The row as an auditor sees it: from the committed event where that opens, with what the search table says otherwise.
 * `signedSize`: of the newest checkpoint of its log, 0 without one.
 */
export const showDecision = (
  tenant: string,
  found: FoundDecision,
  nameSubject: NameSubject,
  signedSize: bigint,
): ShownDecision => {
  const entry = entryOf(found.header);
  const common = {
    decision_id: found.eventId,
    seq: String(found.seq),
    log: found.log.origin,
    ingest_time: timeOf(Number(entry?.ingestUs ?? found.search['ingest_us'] ?? 0) / 1000),
    payload: found.payload.state,
    covered_by: found.seq < signedSize ? String(signedSize) : null,
  };
  const event = found.payload.state === 'opened' ? parseObject(found.payload.payload) : undefined;
  const members = event === undefined || entry === undefined ? undefined : fromEvent(event, entry, tenant);
  if (event === undefined || entry === undefined || members === undefined)
    return { ...common, ...fromSearch(found), read_from: 'search' };
  const expected = searchColumns(nameSubject, tenant, entry, event);
  const differences = compareSearch(found.seq, expected, [found.search]).map(({ what }) => what);
  return {
    ...common,
    ...members,
    read_from: 'event',
    ...(differences.length === 0 ? {} : { search_mismatch: differences }),
  };
};

/** The answer of `GET /v1/decisions/{id}`: what an auditor needs to compute every hash anew. */
export const showEntry = (
  tenant: string,
  found: ReadEntry,
  proven: ShownProof | undefined,
  witnessed: ShownWitnessed | undefined,
): Readonly<Record<string, unknown>> => {
  const entry = entryOf(found.header);
  const { payload, header, leaf } = found;
  const opened = payload.state === 'opened' ? payload : undefined;
  const computedLeaf = header === undefined ? undefined : leafHash(header);
  const commitment =
    opened?.salt.length === 32 ? commitPayload(opened.salt, opened.contentType, opened.payload) : undefined;
  return {
    tenant,
    log: found.log.origin,
    seq: String(found.seq),
    event: parseObject(opened?.payload ?? new Uint8Array(0)) ?? null,
    event_base64: opened === undefined ? null : Buffer.from(opened.payload).toString('base64'),
    content_type: opened?.contentType ?? null,
    salt: opened === undefined ? null : hex(opened.salt),
    payload: payload.state,
    entry:
      entry === undefined
        ? null
        : {
            kind: entryKindName(entry.kind) ?? String(entry.kind),
            seq: String(entry.seq),
            ingest_us: String(entry.ingestUs),
            ingest_time: timeOf(Number(entry.ingestUs) / 1000),
            event_id: bytesToUuid(entry.eventId),
            topic: entry.topic,
            partition: entry.partition,
            offset: String(entry.offset),
            emitter: hex(entry.emitter),
            boot: String(entry.boot),
            emitter_seq: String(entry.emitterSeq),
            policy_set_digest: hex(entry.policySetDigest),
            commitment: hex(entry.commitment),
            prev: hex(entry.prev),
          },
    entry_base64: header === undefined ? null : Buffer.from(header).toString('base64'),
    leaf: leaf === undefined ? null : hex(leaf),
    checks: {
      leaf: computedLeaf !== undefined && leaf !== undefined && bytesEqual(computedLeaf, leaf),
      commitment: commitment !== undefined && entry !== undefined ? bytesEqual(commitment, entry.commitment) : null,
    },
    checkpoint: proven?.checkpoint ?? null,
    proof: proven?.proof ?? null,
    consistency: proven?.consistency ?? null,
    witnessed: witnessed ?? null,
    not_proven: proven === undefined ? NO_CHECKPOINT : proven.proof === null ? NOT_COVERED : null,
  };
};
