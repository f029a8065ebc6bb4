import { createHash } from 'node:crypto';
import { hex, ZERO_DIGEST } from '../../shared/contracts/bytes.ts';
import { DECISIONS_TOPIC, signEvent } from '../../shared/contracts/events.ts';
import { emitterId, generateSigningKey } from '../../shared/contracts/signatures.ts';
import { newUuidV7 } from '../../shared/contracts/uuid.ts';
import type { SourceMessage } from '../core/ingest-source.ts';

/** An emitter that is made for a drill: it numbers, links and signs its events as a decision point does. */
export interface DrillEmitter {
  readonly id: string;
  readonly start: (tenant: string) => SourceMessage;
  readonly decision: (tenant: string) => SourceMessage;
}

const PEOPLE = ['alice', 'bob', 'carol'] as const;
const ACTIONS = ['read', 'write', 'delete'] as const;

/** `offset`: of the first message; all are of partition 0. */
export const createDrillEmitter = (nowMs: () => number): DrillEmitter => {
  const { key } = generateSigningKey();
  const id = emitterId(key.publicKey);
  const streams = new Map<string, { readonly sequence: bigint; readonly previous: string }>();
  let offset = 0n;
  let count = 0;

  const message = (tenant: string, type: string, members: Readonly<Record<string, unknown>>): SourceMessage => {
    const before = streams.get(tenant) ?? { sequence: 0n, previous: hex(ZERO_DIGEST) };
    const sequence = before.sequence + 1n;
    const eventId = newUuidV7(nowMs());
    const answer = members['answer'] === undefined ? {} : { answer: { ...members['answer'], decision_id: eventId } };
    const unsigned = {
      specversion: '1.0',
      id: eventId,
      source: id,
      type,
      time: new Date(nowMs()).toISOString(),
      datacontenttype: 'application/json',
      data: {
        schema_version: 1,
        nonce: createHash('sha256').update(eventId).digest('hex').slice(0, 32),
        tenant,
        emitter: { id, boot: '1', sequence: String(sequence), previous: before.previous },
        ...members,
        ...answer,
      },
    };
    const event =
      type === 'edict.start.v1'
        ? { ...unsigned, data: { ...unsigned.data, signature: signEvent(key, unsigned) } }
        : unsigned;
    const value = Buffer.from(JSON.stringify(event));
    streams.set(tenant, { sequence, previous: createHash('sha256').update(value).digest('hex') });
    const headers = { emitter: id, boot: '1', tenant, sequence: String(sequence) };
    const made = {
      topic: DECISIONS_TOPIC,
      partition: 0,
      offset,
      headers: Object.entries(headers).map(([name, text]) => [name, Buffer.from(text)] as const),
      value,
    };
    offset += 1n;
    return made;
  };

  return {
    id,
    start: (tenant) =>
      message(tenant, 'edict.start.v1', {
        public_key: Buffer.from(key.publicKey).toString('base64'),
        software: 'edict',
      }),
    decision: (tenant) => {
      const subject = PEOPLE[count % PEOPLE.length] ?? 'alice';
      const action = ACTIONS[count % ACTIONS.length] ?? 'read';
      const decision = count % 2 === 0 ? 'allow' : 'deny';
      count += 1;
      return message(tenant, 'edict.decision.v1', {
        caller: { id: 'drill' },
        request_id: `drill-${count}`,
        input: {
          version: 1,
          tenant,
          subject: { type: 'user', id: subject, properties: {}, verified: true },
          action: { name: action, properties: {} },
          resource: { type: 'dataset', id: 'drill', properties: {} },
          context: { purpose: 'drill' },
        },
        answer: {
          decision,
          allow: decision === 'allow',
          reasons: [{ code: decision === 'allow' ? 'permitted' : 'not_permitted' }],
          obligations: [],
          advice: [],
        },
        policy: { bundles: [], set: `sha256:${'ab'.repeat(32)}` },
      });
    },
  };
};
