import { newUuidV7 } from '../../services/shared/contracts/uuid.ts';
import { DECISIONS_TOPIC, EVENT_CONTENT_TYPE } from '../../services/shared/contracts/events.ts';
import { AppError } from '../../services/shared/contracts/errors.ts';
import { sha256 } from '../../services/shared/contracts/bytes.ts';
import type { NewEntry } from '../../services/audit/core/append.ts';
import { describeDecision, tenantSubject } from '../../services/audit/core/ingest-search.ts';

export const START_MS = Date.UTC(2026, 0, 1);
/** Ten decisions a second. */
export const MS_A_ROW = 100;
const EMITTER = 'ab'.repeat(16);
const SET = sha256('set');
const LATE_MS = 600_000;

/** A number from 0 below `below` that looks random and is the same each time. */
export const pick = (row: number, salt: number, below: number): number =>
  sha256(`${row}/${salt}`).readUInt32BE(0) % below;

/** The first hundredth has names of its own: common then, and never since. */
const isOld = (row: number, rows: number): boolean => row < rows / 100;

/**
 * What the `row`th of `rows` decisions says. Every tenth is of the same user; one in a hundred arrives ten minutes late;
 * a session has twenty decisions.
 */
const inputOf = (row: number, rows: number) => {
  const old = isOld(row, rows);
  const user = row % 10 === 0 ? 'busy' : `user-${pick(row, 1, 10_000)}`;
  const hops = pick(row, 2, 8);
  return {
    version: 1,
    tenant: 'acme',
    subject: { type: 'user', id: old ? 'old' : user, properties: { department: 'finance' }, verified: false },
    agent: {
      type: 'agent',
      id: old ? 'old' : `agent-${pick(row, 3, 200)}`,
      properties: {},
      verified: false,
      chain: Array.from({ length: hops > 3 ? 0 : hops }, (_, hop) => ({
        type: 'agent',
        id: old ? 'old-hop' : `hop-${pick(row, 10 + hop, 50)}`,
        properties: {},
        verified: false,
      })),
    },
    action: { name: old ? 'old' : `action-${pick(row, 4, 8)}`, properties: {} },
    resource: {
      type: 'dataset',
      id: old ? 'old' : `resource-${pick(row, 5, 5_000)}`,
      properties: { sensitivity: 'low' },
    },
    context: {
      purpose: old ? 'old' : `purpose-${pick(row, 6, 20)}`,
      session: old ? 'old' : `session-${Math.floor(row / 20)}`,
      args: { limit: row },
    },
  };
};

const answerOf = (id: string, row: number, rows: number) => {
  const isDenied = pick(row, 7, 20) === 0;
  const reasons = isOld(row, rows)
    ? [{ code: 'old' }]
    : isDenied
      ? [
          { code: `denied-${pick(row, 8, 30)}`, leg: 'agent' },
          { code: 'also-denied', leg: 'subject' },
        ]
      : [{ code: 'permitted' }];
  return {
    decision_id: id,
    decision: isDenied ? 'deny' : 'allow',
    allow: !isDenied,
    reasons,
    obligations: [],
    advice: [],
  };
};

/** Where a decision stands in its emitter's stream. */
export interface RowPosition {
  readonly emitter: string;
  readonly boot: string;
  readonly sequence: string;
  /** Hex digest of the event before it. */
  readonly previous: string;
}

const FIRST: Omit<RowPosition, 'sequence'> = { emitter: EMITTER, boot: '1', previous: '00'.repeat(32) };

/** The `row`th decision's event, with every member that a decision point writes. */
export const rowEvent = (row: number, rows: number, { emitter, ...position }: RowPosition) => {
  const timeMs = START_MS + row * MS_A_ROW - (pick(row, 9, 100) === 0 ? LATE_MS : 0);
  const id = newUuidV7(timeMs);
  const data = {
    schema_version: 1,
    nonce: sha256(id).toString('hex').slice(0, 32),
    tenant: 'acme',
    emitter: { id: emitter, ...position },
    caller: { id: 'gw-1' },
    request_id: `request-${row}`,
    input: inputOf(row, rows),
    answer: answerOf(id, row, rows),
    evaluation: {
      engine: 'edict-wasm/3',
      entrypoint: 'edict/decide',
      time_ns: String(BigInt(timeMs) * 1_000_000n),
      seed: null,
      fuel_limit: 1_008_200,
      fuel_used: 26_444,
      memo: false,
      nondeterministic: {},
      replayable: true,
    },
    policy: {
      bundles: [{ name: 'mesh', digest: `sha256:${SET.toString('hex')}`, serial: 12 }],
      set: `sha256:${SET.toString('hex')}`,
    },
    durability: 'spool',
    duration_us: 412,
  };
  const event = {
    specversion: '1.0',
    id,
    source: emitter,
    type: 'edict.decision.v1',
    time: new Date(timeMs).toISOString(),
    datacontenttype: 'application/json',
    data,
  };
  return { id, timeMs, data, bytes: Buffer.from(JSON.stringify(event)) };
};

/** A decision as the ingest hands it to the ledger. */
export const rowEntry = (row: number, rows: number): NewEntry => {
  const { id, timeMs, data, bytes } = rowEvent(row, rows, { ...FIRST, sequence: String(row + 1) });
  const described = describeDecision(data, id, timeMs, 'acme');
  if (described === undefined) throw new AppError('internal', 'a generated decision is none');
  return {
    kind: 'decision',
    eventId: id,
    topic: DECISIONS_TOPIC,
    partition: 0,
    offset: BigInt(row),
    emitter: EMITTER,
    boot: 1n,
    emitterSeq: BigInt(row + 1),
    policySetDigest: SET,
    contentType: EVENT_CONTENT_TYPE,
    payload: bytes,
    // One key for all: what is measured is reading.
    subject: tenantSubject('acme'),
    search: described.search,
  };
};
