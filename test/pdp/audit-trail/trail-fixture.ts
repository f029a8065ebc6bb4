import { writeFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Kafka } from 'kafkajs';
import { ackKey, signAck, type Ack } from '../../../services/shared/contracts/ack.ts';
import { ACKS_TOPIC, DECISIONS_TOPIC } from '../../../services/shared/contracts/events.ts';
import type { SigningKey } from '../../../services/shared/contracts/signatures.ts';
import { createKafkaClient } from '../../../services/shared/kafka/client.ts';
import { makeTopics } from '../../../services/shared/kafka/topics.ts';
import { createSender } from '../../../services/shared/kafka/sender.ts';
import { loadSettings } from '../../../services/shared/settings/settings.ts';
import { startAuditTrail, type AuditTrailOptions } from '../../../services/pdp/audit-trail/audit-trail.ts';
import { logger } from './emitter-fixture.ts';

/** Settings with everything at its default but these variables, and the masking key that a broker demands. */
export const settingsOf = (home: string, environment: Readonly<Record<string, string>> = {}) => {
  const file = path.join(home, 'edict.yaml');
  writeFileSync(file, 'tenants: { default: { mask_key_file: mask.key } }\n');
  return loadSettings({ file, environment: { EDICT_HOME: home, ...environment } }).settings;
};

export const openTrail = (
  home: string,
  environment: Readonly<Record<string, string>> = {},
  changes: Partial<AuditTrailOptions> = {},
) =>
  startAuditTrail({
    settings: settingsOf(home, environment),
    logger,
    software: 'edict/test',
    maskKey: () => ({ key: Buffer.alloc(32, 7) }),
    ...changes,
  });

/** Waits for something that must come; the bound only ends a test that would hang. */
export const until = async (what: string, holds: () => boolean | Promise<boolean>): Promise<void> => {
  const end = performance.now() + 60_000;
  while (!(await holds())) {
    if (performance.now() > end) throw new Error(`${what} did not come`);
    await sleep(20);
  }
};

export const kafkaClient = (brokers: readonly string[]): Kafka =>
  createKafkaClient({ brokers: [...brokers], partitions: 3, replication: 1 }, 'test', logger);

export const createTopics = async (kafka: Kafka): Promise<void> => {
  const admin = kafka.admin();
  await admin.connect();
  await makeTopics(admin, [
    { topic: DECISIONS_TOPIC, numPartitions: 3, replicationFactor: 1 },
    {
      topic: ACKS_TOPIC,
      numPartitions: 1,
      replicationFactor: 1,
      configEntries: [{ name: 'cleanup.policy', value: 'compact' }],
    },
  ]);
  await admin.disconnect();
};

export interface Received {
  readonly partition: number;
  readonly emitter: string;
  readonly boot: string;
  readonly tenant: string;
  readonly sequence: bigint;
  readonly key: string;
  readonly value: Buffer;
}

export interface TopicReader {
  /** Everything that came so far, in the order of each partition. */
  readonly received: readonly Received[];
  readonly close: () => Promise<void>;
}

let groups = 0;

export const readTopic = async (kafka: Kafka, onReceived: (received: Received) => void = () => undefined) => {
  const received: Received[] = [];
  groups += 1;
  let closed = false;
  const consumer = kafka.consumer({
    groupId: `test-${process.pid}-${Date.now()}-${groups}`,
    maxWaitTimeInMs: 200,
    sessionTimeout: 2000,
    heartbeatInterval: 300,
    retry: {
      initialRetryTime: 100,
      maxRetryTime: 1000,
      retries: 1000,
      restartOnFailure: () => Promise.resolve(!closed),
    },
  });
  await consumer.connect();
  await consumer.subscribe({ topic: DECISIONS_TOPIC, fromBeginning: true });
  await consumer.run({
    autoCommit: false,
    eachMessage: ({ partition, message }) => {
      const header = (name: string): string => String(message.headers?.[name]);
      const one: Received = {
        partition,
        emitter: header('emitter'),
        boot: header('boot'),
        tenant: header('tenant'),
        sequence: BigInt(header('sequence')),
        key: String(message.key),
        value: message.value ?? Buffer.alloc(0),
      };
      received.push(one);
      onReceived(one);
      return Promise.resolve();
    },
  });
  const close = (): Promise<void> => {
    closed = true;
    return consumer.disconnect();
  };
  return { received, close } satisfies TopicReader;
};

/** The numbers that a ledger would have of one stream, as its ack. */
export const ackFor = (
  key: SigningKey,
  stream: Pick<Received, 'emitter' | 'boot' | 'tenant'>,
  sequences: ReadonlySet<bigint>,
): Ack => {
  let complete = 0n;
  while (sequences.has(complete + 1n)) complete += 1n;
  const highest = [...sequences].reduce((a, b) => (a > b ? a : b), 0n);
  const holes: [string, string][] = [];
  for (let at = complete + 1n; at <= highest; at += 1n) {
    if (sequences.has(at)) continue;
    const last = holes.at(-1);
    if (last !== undefined && BigInt(last[1]) === at - 1n) last[1] = at.toString();
    else holes.push([at.toString(), at.toString()]);
  }
  return signAck(key, {
    emitter: stream.emitter,
    boot: stream.boot,
    tenant: stream.tenant,
    complete_to: complete.toString(),
    holes: holes.slice(0, 64),
    covered_to: complete.toString(),
    origin: 'test/1',
    tree_size: '1',
  });
};

/** Reads the topic as an audit service does and publishes acks of what it got, several times a second. */
export const startAcknowledging = async (kafka: Kafka, key: SigningKey) => {
  const streams = new Map<string, { readonly of: Received; readonly sequences: Set<bigint>; acked: number }>();
  const reader = await readTopic(kafka, (received) => {
    const name = ackKey(received);
    const stream = streams.get(name) ?? { of: received, sequences: new Set<bigint>(), acked: 0 };
    stream.sequences.add(received.sequence);
    streams.set(name, stream);
  });
  const sender = createSender({ kafka, topic: ACKS_TOPIC, logger });
  let closed = false;
  const publish = async (): Promise<void> => {
    while (!closed) {
      const messages = [...streams]
        .filter(([, stream]) => stream.acked !== stream.sequences.size)
        .map(([name, stream]) => {
          stream.acked = stream.sequences.size;
          return { key: name, value: JSON.stringify(ackFor(key, stream.of, stream.sequences)) };
        });
      if (messages.length > 0) await sender.send(0, messages);
      await sleep(100);
    }
  };
  const publishing = publish();
  return {
    received: reader.received,
    close: async () => {
      closed = true;
      await publishing;
      await sender.close();
      await reader.close();
    },
  };
};
