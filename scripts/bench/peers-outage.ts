import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { Kafka, logLevel } from 'kafkajs';
import { DECISIONS_TOPIC } from '../../services/shared/contracts/events.ts';
import { AppError } from '../../services/shared/contracts/errors.ts';
import { isObject } from '../../services/shared/contracts/json.ts';
import { createTopics, makeTopics } from '../../services/shared/kafka/topics.ts';
import { startKafka, type KafkaBroker } from '../../test/support/kafka.ts';
import { createJsonClient } from '../replay/client.ts';
import { startLogSink } from './log-sink.ts';
import { closeAll, startCerbos, startEdict, startOpa, type Peer } from './peers-servers.ts';
import type { PeerRequest } from './peers-requests.ts';

export interface OutageOptions {
  readonly scratch: string;
  readonly requests: readonly PeerRequest[];
  /** How long the sink is away; a broker needs some seconds more to come back, which are part of what is stated. */
  readonly outageMs: number;
  readonly offeredPerS: number;
  /** How long the events may take to arrive once the sink is back. */
  readonly settleMs: number;
  readonly withCerbos: boolean;
}

export interface Outage {
  readonly name: string;
  readonly outageMs: number;
  /** Decisions that the callers got. */
  readonly answered: number;
  /** Requests that got none: the server said that it cannot. */
  readonly refused: number;
  readonly delivered: number;
  readonly lost: number;
}

interface Sink {
  stop(): Promise<void>;
  start(): Promise<void>;
  /** Different decisions that the sink has. */
  delivered(): Promise<number>;
}

const CERBOS_TOPIC = 'cerbos.audit';
const BEFORE_MS = 1_000;
const AFTER_MS = 1_000;
const TICK_MS = 10;
const MAX_OPEN = 2_000;
const LOOK_MS = 1_000;
/** A reader of the topic that sees nothing new for so long has read it. */
const QUIET_MS = 2_000;
const READ_MAX_MS = 60_000;

/** Sends so many requests a second until `isOver`, whatever the answers take. */
const offer = async (
  peer: Peer,
  { requests, offeredPerS }: OutageOptions,
  isOver: () => boolean,
): Promise<{ readonly answered: number; readonly refused: number }> => {
  const [, bearer] = (peer.headers['Authorization'] ?? '').split(' ');
  const client = createJsonClient(peer.url, { connections: 64, ...(bearer === undefined ? {} : { apiKey: bearer }) });
  const open = new Set<Promise<void>>();
  let [sent, answered, refused] = [0, 0, 0];
  const bodies = requests.map((request) => JSON.parse(request[peer.kind]) as unknown);
  const startedMs = performance.now();
  while (!isOver()) {
    const due = Math.floor(((performance.now() - startedMs) * offeredPerS) / 1_000);
    while (sent < due && open.size < MAX_OPEN) {
      const asked: Promise<void> = client
        .post(peer.path, bodies[sent % bodies.length])
        .then(
          ({ status }) => {
            if (status === 200) answered += 1;
            else refused += 1;
          },
          () => {
            refused += 1;
          },
        )
        .finally(() => open.delete(asked));
      open.add(asked);
      sent += 1;
    }
    await sleep(TICK_MS);
  }
  await Promise.all(open);
  client.close();
  return { answered, refused };
};

const measureOutage = async (peer: Peer, sink: Sink, options: OutageOptions): Promise<Outage> => {
  let isOver = false;
  const load = offer(peer, options, () => isOver);
  await sleep(BEFORE_MS);
  const stoppedMs = performance.now();
  await sink.stop();
  await sleep(options.outageMs);
  await sink.start();
  const outageMs = performance.now() - stoppedMs;
  await sleep(AFTER_MS);
  isOver = true;
  const { answered, refused } = await load;
  const deadlineMs = performance.now() + options.settleMs;
  let delivered = await sink.delivered();
  while (delivered < answered && performance.now() < deadlineMs) {
    await sleep(LOOK_MS);
    delivered = await sink.delivered();
  }
  return { name: peer.name, outageMs, answered, refused, delivered, lost: Math.max(0, answered - delivered) };
};

/** The different decisions in a topic, read from its beginning; `idOf` is undefined for what is no decision. */
const countInTopic = async (
  kafka: Kafka,
  topic: string,
  idOf: (event: Readonly<Record<string, unknown>>) => unknown,
): Promise<number> => {
  const consumer = kafka.consumer({ groupId: `bench-${randomUUID()}` });
  const ids = new Set<unknown>();
  let changedMs = performance.now();
  try {
    await consumer.connect();
    await consumer.subscribe({ topic, fromBeginning: true });
    let isReading = false;
    let crash: Error | undefined;
    consumer.on(consumer.events.CRASH, ({ payload }) => {
      // A broker that has just come back is asked again.
      if (!payload.restart) crash = payload.error;
    });
    consumer.on(consumer.events.GROUP_JOIN, () => {
      isReading = true;
      changedMs = performance.now();
    });
    await consumer.run({
      eachMessage: ({ message }) => {
        const event: unknown = JSON.parse(message.value?.toString('utf8') ?? 'null');
        const id = isObject(event) ? idOf(event) : undefined;
        if (id !== undefined) ids.add(id);
        changedMs = performance.now();
        return Promise.resolve();
      },
    });
    const deadlineMs = performance.now() + READ_MAX_MS;
    while (!isReading || performance.now() - changedMs < QUIET_MS) {
      // What cannot be read must not look like what was lost.
      if (crash !== undefined || performance.now() > deadlineMs)
        throw new AppError('internal', `${topic} cannot be read: ${crash?.message ?? 'no end'}`, { cause: crash });
      await sleep(TICK_MS);
    }
    return ids.size;
  } finally {
    await consumer.disconnect();
  }
};

const brokerSink = (broker: KafkaBroker, delivered: () => Promise<number>): Sink => ({
  stop: async () => await broker.kill(),
  start: async () => await broker.restart(),
  delivered,
});

const withKafka = async (options: OutageOptions, results: Outage[]): Promise<void> => {
  const broker = await startKafka();
  const peers: Peer[] = [];
  try {
    const { brokers } = broker;
    const kafka = new Kafka({ clientId: 'bench', brokers: [...brokers], logLevel: logLevel.NOTHING });
    await createTopics(kafka, { partitions: 1, replication: 1 });
    const edict = await startEdict(options.scratch, 'edict, spool, then Kafka', { durability: 'spool', brokers });
    peers.push(edict);
    const ours = brokerSink(
      broker,
      async () =>
        await countInTopic(kafka, DECISIONS_TOPIC, ({ type, id }) => (type === 'edict.decision.v1' ? id : undefined)),
    );
    results.push(await measureOutage(edict, ours, options));
    if (!options.withCerbos) return;
    const admin = kafka.admin();
    await admin.connect();
    await makeTopics(admin, [{ topic: CERBOS_TOPIC, numPartitions: 1 }]);
    await admin.disconnect();
    const cerbos = await startCerbos(options.scratch, 'Cerbos, Kafka', { brokers, topic: CERBOS_TOPIC });
    peers.push(cerbos);
    const theirs = brokerSink(broker, async () => await countInTopic(kafka, CERBOS_TOPIC, ({ callId }) => callId));
    results.push(await measureOutage(cerbos, theirs, options));
  } finally {
    await closeAll([...peers, broker]);
  }
};

const withLogService = async (options: OutageOptions, results: Outage[]): Promise<void> => {
  const sink = await startLogSink();
  const started: { close(): Promise<void> }[] = [{ close: sink.stop }];
  try {
    const opa = await startOpa(options.scratch, 'OPA, HTTP log service', sink.url);
    started.unshift(opa);
    const logs = { stop: sink.stop, start: sink.start, delivered: () => Promise.resolve(sink.received()) };
    results.push(await measureOutage(opa, logs, options));
  } finally {
    await closeAll(started);
  }
};

/** Decisions that were answered and whose events never arrived, when what takes them is gone for a while. */
export const measureOutages = async (options: OutageOptions): Promise<readonly Outage[]> => {
  const results: Outage[] = [];
  await withKafka(options, results);
  await withLogService(options, results);
  return results;
};
