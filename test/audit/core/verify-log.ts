/** A small log in memory, and what verifies it: made by hand, so that a test can alter any byte. */
import { fromHex, hex, sha256, ZERO_DIGEST } from '../../../services/shared/contracts/bytes.ts';
import { signEvent, EVENT_CONTENT_TYPE } from '../../../services/shared/contracts/events.ts';
import { canonicalJson } from '../../../services/shared/contracts/json.ts';
import { emitterId, formatVkey, generateSigningKey } from '../../../services/shared/contracts/signatures.ts';
import { newUuidV7, uuidToBytes } from '../../../services/shared/contracts/uuid.ts';
import {
  commitPayload,
  encodeEntry,
  ENTRY_KINDS,
  genesisHash,
  leafHash,
  OWN_CONTENT_TYPE,
  segmentOf,
  type Entry,
  type EntryKind,
} from '../../../services/audit/core/entry.ts';
import { verifyLog } from '../../../services/audit/core/verify.ts';
import type { StoredEntry, StoredPayload, VerifyInput } from '../../../services/audit/core/verify-input.ts';
import type { SearchColumns } from '../../../services/audit/core/verify-search.ts';

export const NOW_MS = 1_767_225_600_000;
const { key } = generateSigningKey();
export const EMITTER = emitterId(key.publicKey);
export const ORIGIN = 'local-0123456789abcdef/acme/0/1';
export const { key: LOG_KEY } = generateSigningKey();
export const VKEY = formatVkey(ORIGIN, LOG_KEY.publicKey);
const SET = `sha256:${hex(sha256('set'))}`;

type Mutable<T> = { -readonly [K in keyof T]: T[K] };
export type Row = Mutable<Omit<StoredEntry, 'payload'> & { readonly payload: StoredPayload }>;

export interface TestLog {
  readonly rows: Row[];
  /** Appends an entry as the writer would; `change` alters the entry before it is hashed. */
  append(kind: EntryKind, contentType: string, payload: Uint8Array, change?: Partial<Entry>): Row;
  own(kind: EntryKind, members: Readonly<Record<string, unknown>>): Row;
  decision(members?: Readonly<Record<string, unknown>>): Row;
  heartbeat(members?: Readonly<Record<string, unknown>>): Row;
  /** Takes the next number without making an entry. */
  skip(): void;
  restart(): void;
  /** When the events behind are made, Unix milliseconds. */
  setTime(ms: number): void;
  input(change?: Partial<VerifyInput>): VerifyInput;
  leaf(): Uint8Array;
}

/** The search row of these tests: action and decision. */
const searchOf = (event: Readonly<Record<string, unknown>>): SearchColumns | undefined => {
  if (event['type'] !== 'edict.decision.v1') return undefined;
  const data = event['data'] as { answer: { decision: string }; input: { action: { name: string } } };
  return { decision: data.answer.decision, action: data.input.action.name };
};

export const createTestLog = (): TestLog => {
  const rows: Row[] = [];
  let leaf: Uint8Array = genesisHash({ origin: ORIGIN, vkey: VKEY });
  let boot = 1n;
  let number = 0n;
  let previous: Uint8Array = ZERO_DIGEST;

  let timeMs = NOW_MS;

  const append: TestLog['append'] = (kind, contentType, payload, change = {}) => {
    const seq = BigInt(rows.length);
    const salt = sha256(`salt ${seq}`);
    const entry: Entry = {
      kind: ENTRY_KINDS[kind],
      seq,
      ingestUs: BigInt(NOW_MS) * 1000n - 1_000_000_000n + seq * 1000n,
      eventId: uuidToBytes(newUuidV7(NOW_MS)),
      topic: '',
      partition: 0,
      offset: 0n,
      emitter: new Uint8Array(16),
      boot: 0n,
      emitterSeq: 0n,
      policySetDigest: ZERO_DIGEST,
      commitment: commitPayload(salt, contentType, payload),
      prev: leaf,
      ...change,
    };
    const header = encodeEntry(entry);
    leaf = leafHash(header);
    const row: Row = {
      seq,
      segment: segmentOf(seq),
      header,
      leaf,
      payload: { state: 'opened', salt, contentType, payload },
      search: [],
    };
    rows.push(row);
    return row;
  };

  const own: TestLog['own'] = (kind, members) =>
    append(kind, OWN_CONTENT_TYPE, Buffer.from(canonicalJson({ nonce: '00'.repeat(16), ...members })));

  const event = (kind: EntryKind, type: string, members: Readonly<Record<string, unknown>>, signed: boolean): Row => {
    number += 1n;
    const id = newUuidV7(timeMs);
    const unsigned = {
      specversion: '1.0',
      id,
      source: EMITTER,
      type,
      time: new Date(NOW_MS).toISOString(),
      datacontenttype: 'application/json',
      data: {
        schema_version: 1,
        nonce: '11'.repeat(16),
        tenant: 'acme',
        emitter: { id: EMITTER, boot: String(boot), sequence: String(number), previous: hex(previous) },
        ...members,
      },
    };
    const whole = signed ? { ...unsigned, data: { ...unsigned.data, signature: signEvent(key, unsigned) } } : unsigned;
    const bytes = Buffer.from(JSON.stringify(whole));
    previous = sha256(bytes);
    const row = append(kind, EVENT_CONTENT_TYPE, bytes, {
      eventId: uuidToBytes(id),
      topic: `spool/${EMITTER}`,
      offset: number,
      emitter: fromHex(EMITTER),
      boot,
      emitterSeq: number,
      policySetDigest: kind === 'decision' ? fromHex(SET.slice(7)) : ZERO_DIGEST,
    });
    const search = searchOf(whole);
    if (search !== undefined) row.search = [search];
    return row;
  };

  own('incarnation', { origin: ORIGIN, vkey: VKEY });
  return {
    rows,
    append,
    own,
    decision: (members = {}) =>
      event(
        'decision',
        'edict.decision.v1',
        { input: { action: { name: 'read' } }, answer: { decision: 'deny' }, policy: { set: SET }, ...members },
        false,
      ),
    heartbeat: (members = {}) => event('heartbeat', 'edict.heartbeat.v1', { state: 'active', ...members }, true),
    skip() {
      number += 1n;
      previous = sha256('lost');
    },
    restart() {
      boot += 1n;
      number = 0n;
      previous = ZERO_DIGEST;
    },
    setTime(ms) {
      timeMs = ms;
    },
    leaf: () => leaf,
    input: (change = {}) => ({
      log: { tenant: 'acme', origin: ORIGIN, vkey: VKEY },
      head: { size: BigInt(rows.length), leaf },
      pages: [rows],
      orphans: () => [],
      claims: [],
      known: [],
      emitterKeys: new Map([[EMITTER, key.publicKey]]),
      expectedSearch: (_entry, document) => searchOf(document),
      now: () => NOW_MS,
      graceMs: 60_000,
      ...change,
    }),
  };
};

/** The verdicts that failed, by name. */
export const redOf = async (input: VerifyInput): Promise<readonly string[]> =>
  Object.entries((await verifyLog(input)).verdicts)
    .filter(([, verdict]) => verdict.status === 'failed')
    .map(([name]) => name);
