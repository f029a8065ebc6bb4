import { ARTIFACT_PART_BYTES, partsOf } from '../../../services/shared/contracts/artifact.ts';
import { sha256, sha256Hex } from '../../../services/shared/contracts/bytes.ts';
import { DECISIONS_TOPIC, signEvent, type EventType } from '../../../services/shared/contracts/events.ts';
import { emitterId, generateSigningKey, type SigningKey } from '../../../services/shared/contracts/signatures.ts';
import { newUuidV7 } from '../../../services/shared/contracts/uuid.ts';
import type { NewEntry } from '../../../services/audit/core/append.ts';
import { readMessage, type Reading } from '../../../services/audit/core/ingest-message.ts';
import { planBatch, positionKey, type IngestState, type Plan } from '../../../services/audit/core/ingest-plan.ts';
import type { SourceMessage } from '../../../services/audit/core/ingest-source.ts';
import { streamKey } from '../../../services/audit/core/ingest-stream.ts';

const ZEROS = '0'.repeat(64);
const TIME = '2026-01-01T00:00:00.000Z';

export interface MadeEvent {
  readonly id: string;
  readonly tenant: string;
  readonly emitter: string;
  readonly boot: string;
  readonly sequence: string;
  readonly bytes: Buffer;
  readonly headers: Readonly<Record<string, string>>;
}

export interface EventOptions {
  readonly id?: string;
  readonly type?: string;
  /** Over the members that the type demands. */
  readonly data?: Readonly<Record<string, unknown>>;
  /** Over the members of the envelope. */
  readonly envelope?: Readonly<Record<string, unknown>>;
  readonly previous?: string;
  readonly sequence?: bigint;
  readonly signedBy?: SigningKey;
}

const membersOf = (type: string, id: string, key: SigningKey): Readonly<Record<string, unknown>> => {
  switch (type as EventType) {
    case 'edict.decision.v1':
      return {
        caller: { id: 'gw-1' },
        request_id: 'r-1',
        input: {
          version: 1,
          subject: {
            type: 'user',
            id: 'alice',
            properties: {},
            verified: true,
            claims: { iss: 'https://issuer.test' },
          },
          agent: { type: 'agent', id: 'analytics-agent' },
          action: { name: 'read', properties: {} },
          resource: { type: 'dataset', id: 'hr.salaries', properties: {} },
          context: { purpose: 'headcount-report', session: 's-1' },
        },
        answer: { decision_id: id, decision: 'deny', allow: false, reasons: [{ code: 'agent_not_entitled' }] },
        policy: { bundles: [], set: `sha256:${'ab'.repeat(32)}` },
      };
    case 'edict.activation.v1':
      return { policy: { bundles: [], set: `sha256:${'cd'.repeat(32)}` } };
    case 'edict.refusals.v1':
      return { caller: { id: '-' }, from: TIME, to: TIME, refusals: [] };
    case 'edict.heartbeat.v1':
      return { state: 'active', recovered: [] };
    case 'edict.start.v1':
      return { public_key: key.publicKey.toString('base64'), software: 'edict/0.1.0' };
    case 'edict.lost.v1':
      return { lost: [{ boot: '1', from: '1', to: '1' }], reason: 'spool_given_up' };
    case 'edict.artifact.v1':
      return artifactData(Buffer.from('{}'), 1);
    default:
      return {};
  }
};

/** The members of an artifact event with one part of `bytes`, cut as a PDP does. */
export const artifactData = (
  bytes: Buffer,
  part: number,
  { digest = `sha256:${sha256Hex(bytes)}`, mediaType = 'application/json' } = {},
): Readonly<Record<string, unknown>> => {
  const start = (part - 1) * ARTIFACT_PART_BYTES;
  return {
    artifact: { digest, media_type: mediaType, bytes: bytes.length, part, parts: partsOf(bytes.length) },
    content: bytes.subarray(start, start + ARTIFACT_PART_BYTES).toString('base64'),
  };
};

/** An emitter that numbers, links and signs its events as the contract says. */
export const createEmitter = (boot = 1n, key: SigningKey = generateSigningKey().key) => {
  const id = emitterId(key.publicKey);
  const streams = new Map<string, { sequence: bigint; previous: string }>();

  const event = (tenant: string, options: EventOptions = {}): MadeEvent => {
    const { id: eventId = newUuidV7(), type = 'edict.decision.v1' } = options;
    const at = streams.get(tenant) ?? { sequence: 0n, previous: ZEROS };
    const sequence = options.sequence ?? at.sequence + 1n;
    const position = {
      id,
      boot: boot.toString(),
      sequence: sequence.toString(),
      previous: options.previous ?? at.previous,
    };
    const unsigned = {
      specversion: '1.0',
      id: eventId,
      source: id,
      type,
      time: TIME,
      datacontenttype: 'application/json',
      ...options.envelope,
      data: {
        schema_version: 1,
        nonce: sha256(eventId).toString('hex').slice(0, 32),
        tenant,
        emitter: position,
        ...membersOf(type, eventId, key),
        ...options.data,
      },
    };
    const isSigned = type === 'edict.heartbeat.v1' || type === 'edict.start.v1';
    const signature = isSigned ? { signature: signEvent(options.signedBy ?? key, unsigned) } : {};
    const bytes = Buffer.from(JSON.stringify({ ...unsigned, data: { ...unsigned.data, ...signature } }));
    if (options.sequence === undefined) streams.set(tenant, { sequence, previous: sha256(bytes).toString('hex') });
    return {
      id: eventId,
      tenant,
      emitter: id,
      boot: position.boot,
      sequence: position.sequence,
      bytes,
      headers: { emitter: id, boot: position.boot, tenant, sequence: position.sequence },
    };
  };
  return { id, key, boot, event };
};

export const messageOf = (
  { bytes, headers }: Pick<MadeEvent, 'bytes' | 'headers'>,
  offset: bigint,
  place: { readonly topic?: string; readonly partition?: number } = {},
): SourceMessage => ({
  topic: place.topic ?? DECISIONS_TOPIC,
  partition: place.partition ?? 0,
  offset,
  headers: Object.entries(headers).map(([name, value]) => [name, Buffer.from(value)]),
  value: bytes,
});

export const numberedIds = () => {
  let next = 0;
  return {
    newId: () => newUuidV7(1_767_225_600_000 + (next += 1)),
    nonce: () => (next += 1).toString(16).padStart(32, '0'),
  };
};

export const emptyState = (tenants: readonly string[]): IngestState => ({
  nextOffset: 0n,
  tenants: new Set(tenants),
  emitterKeys: new Map(),
  streams: new Map(),
  events: [],
  setAside: new Set(),
  unknownTenantEvents: new Set(),
});

/** The state after a plan, as a database would keep it. */
export const afterPlan = (state: IngestState, plan: Plan): IngestState => ({
  nextOffset: plan.nextOffset,
  tenants: state.tenants,
  emitterKeys: new Map([
    ...state.emitterKeys,
    ...[...plan.emitters].flatMap(([id, key]) => (key === undefined ? [] : [[id, key] as const])),
  ]),
  streams: new Map([...state.streams, ...plan.streams.map((stream) => [streamKey(stream), stream] as const)]),
  events: [...state.events, ...plan.seen],
  setAside: new Set([...state.setAside, ...plan.setAside.map(({ tenant, mark }) => `${tenant}/${mark}`)]),
  unknownTenantEvents: new Set([...state.unknownTenantEvents, ...plan.unknownTenantEvents.map(positionKey)]),
});

export interface Ledger {
  state: IngestState;
  readonly entries: Map<string, NewEntry[]>;
  readonly counts: Record<string, number>;
}

export const newLedger = (tenants: readonly string[] = ['edict', 'acme']): Ledger => ({
  state: emptyState(tenants),
  entries: new Map(),
  counts: {},
});

/** Ingests events at consecutive offsets and keeps the outcome. */
export const ingest = (
  ledger: Ledger,
  events: readonly Pick<MadeEvent, 'bytes' | 'headers'>[],
  options: { readonly nowMs?: number; readonly pinned?: ReadonlySet<string>; readonly offset?: bigint } = {},
): Plan => {
  const start = options.offset ?? ledger.state.nextOffset;
  const readings: Reading[] = events.map((event, index) =>
    readMessage(messageOf(event, start + BigInt(index)), options.pinned),
  );
  const plan = planBatch(ledger.state, readings, options.nowMs ?? 1_000, numberedIds());
  ledger.state = afterPlan(ledger.state, plan);
  for (const [tenant, entries] of plan.entries)
    ledger.entries.set(tenant, [...(ledger.entries.get(tenant) ?? []), ...entries]);
  for (const counts of plan.counts.values())
    for (const [name, value] of Object.entries(counts)) ledger.counts[name] = (ledger.counts[name] ?? 0) + value;
  return plan;
};

export const payloadOf = (entry: NewEntry | undefined): Record<string, unknown> =>
  JSON.parse(Buffer.from(entry?.payload ?? new Uint8Array()).toString('utf8')) as Record<string, unknown>;
