import { setTimeout as sleep } from 'node:timers/promises';
import type { Kafka } from 'kafkajs';
import { openAckKey } from '../../../services/audit/acks/ack-key.ts';
import { createKafkaSink } from '../../../services/audit/acks/kafka-sink.ts';
import { createKafkaSource } from '../../../services/audit/kafka/kafka-source.ts';
import type { Ingest } from '../../../services/audit/ingest/ingest.ts';
import type { EventSource } from '../../../services/audit/core/ingest-source.ts';
import { signAck, type Ack } from '../../../services/shared/contracts/ack.ts';
import { isAppError } from '../../../services/shared/contracts/errors.ts';
import { ACKS_TOPIC } from '../../../services/shared/contracts/events.ts';
import { createKafkaClient } from '../../../services/shared/kafka/client.ts';
import { makeTopics } from '../../../services/shared/kafka/topics.ts';
import { createEmitter, type MadeEvent } from '../core/ingest-fixtures.ts';
import { openTestLedger, silent, type LedgerHarness } from '../ingest/fixtures.ts';
import { startKafka, type KafkaBroker } from '../../support/kafka.ts';
import path from 'node:path';

const until = async (what: () => Promise<boolean> | boolean, limitMs = 60_000): Promise<void> => {
  for (const deadline = Date.now() + limitMs; !(await what()); await sleep(50))
    if (Date.now() > deadline) throw new Error('did not happen');
};

describe('the Kafka source', () => {
  let broker: KafkaBroker;
  let kafka: Kafka;
  let opened: Awaited<ReturnType<typeof openTestLedger>>;
  let harness: LedgerHarness;
  let topic: string;
  let topics = 0;
  const open: { source: EventSource; ingest: Ingest }[] = [];

  beforeAll(async () => {
    broker = await startKafka();
    kafka = createKafkaClient({ brokers: [...broker.brokers], partitions: 2, replication: 1 }, 'test', silent);
  }, 120_000);
  afterAll(() => broker.close());

  beforeEach(async () => {
    opened = await openTestLedger(['edict', 'acme']);
    ({ harness } = opened);
    topics += 1;
    topic = `events-${topics}`;
    await admin((client) => makeTopics(client, [{ topic, numPartitions: 2, replicationFactor: 1 }]));
  });
  afterEach(async () => {
    for (const each of open.splice(0)) await stop(each);
    await opened.close();
  });

  const admin = async <T>(work: (client: ReturnType<Kafka['admin']>) => Promise<T>): Promise<T> => {
    const client = kafka.admin();
    await client.connect();
    try {
      return await work(client);
    } finally {
      await client.disconnect();
    }
  };

  const send = async (partition: number, events: readonly Pick<MadeEvent, 'bytes' | 'headers'>[]): Promise<void> => {
    const producer = kafka.producer({ allowAutoTopicCreation: false });
    await producer.connect();
    const messages = events.map(({ bytes, headers }) => ({ partition, value: bytes, headers: { ...headers } }));
    for (let at = 0; at < messages.length; at += 200)
      await producer.send({ topic, acks: -1, messages: messages.slice(at, at + 200) });
    await producer.disconnect();
  };

  const start = async (batch = 50) => {
    const ingest = harness.newIngest({ batch });
    const source = createKafkaSource({
      kafka,
      topic,
      groupId: `audit-${topics}`,
      logger: silent,
      pollMs: 300,
      sessionTimeoutMs: 6_000,
    });
    const started = { source, ingest };
    open.push(started);
    await source.run(ingest);
    return started;
  };
  const stop = async ({ source, ingest }: (typeof open)[number]): Promise<void> => {
    ingest.close();
    await source.close();
  };

  const decisions = async (): Promise<number> =>
    (await harness.kinds('acme')).filter((kind) => kind === 'decision').length;
  const someEvents = (count: number, emitter = createEmitter()): readonly MadeEvent[] =>
    Array.from({ length: count }, () => emitter.event('acme'));

  it('stores every message of every partition once, with poison and redeliveries among them', async () => {
    const [left, right] = [someEvents(300), someEvents(200)];
    await send(0, [...left, { bytes: Buffer.from('junk'), headers: {} }, ...left.slice(100)]);
    await send(1, right);
    const { source } = await start();
    await until(async () => (await decisions()) === 500);
    await until(() => source.health().ok && source.health().lag === 0);
    expect((await harness.kinds('edict')).filter((kind) => kind === 'quarantine')).toHaveLength(1);
    expect(new Set((await harness.streams()).map(({ complete_to }) => complete_to))).toEqual(new Set(['200', '300']));
  }, 90_000);

  it('sets messages aside whose headers have names that every object inherits, and reads on', async () => {
    const names = ['__proto__', 'constructor', 'toString', 'hasOwnProperty'];
    const hostile = Object.fromEntries(names.map((name) => [name, `of ${name}`]));
    const emitter = createEmitter();
    await send(0, [{ bytes: Buffer.from('junk'), headers: hostile }, ...someEvents(3, emitter)]);
    await start();
    await until(async () => (await decisions()) === 3);
    expect((await harness.kinds('edict')).filter((kind) => kind === 'quarantine')).toHaveLength(1);
  }, 60_000);

  it('sets a message with twenty thousand headers aside at once', async () => {
    const many = Object.fromEntries(Array.from({ length: 20_000 }, (_, index) => [`h${index}`, 'v']));
    await send(0, [{ bytes: Buffer.from('junk'), headers: many }, ...someEvents(3)]);
    const startedMs = Date.now();
    await start();
    await until(async () => (await decisions()) === 3);
    expect(Date.now() - startedMs).toBeLessThan(30_000);
    expect((await harness.kinds('edict')).filter((kind) => kind === 'quarantine')).toHaveLength(1);
  }, 60_000);

  it('shares the partitions with a second service and loses and doubles nothing when one goes', async () => {
    const emitters = [createEmitter(), createEmitter()] as const;
    await send(0, someEvents(200, emitters[0]));
    const first = await start(20);
    await until(async () => (await decisions()) > 0);
    await start(20);
    await send(1, someEvents(200, emitters[1]));
    await send(0, someEvents(100, emitters[0]));
    await until(async () => (await decisions()) >= 350);
    await stop(first);
    await send(0, someEvents(100, emitters[0]));
    await send(1, someEvents(100, emitters[1]));
    await until(async () => (await decisions()) === 700);
    expect(await harness.streams()).toMatchObject([{ holes: [] }, { holes: [] }]);
    expect((await harness.kinds('edict')).includes('gap')).toBe(false);
  }, 120_000);

  it('records what the broker deleted before it was read', async () => {
    await send(0, someEvents(30));
    await admin(async (client) => {
      // Loads the topic's metadata, which deleting needs.
      await client.fetchTopicOffsets(topic);
      await client.deleteTopicRecords({ topic, partitions: [{ partition: 0, offset: '10' }] });
    });
    await start();
    await until(async () => (await decisions()) === 20);
    expect((await harness.kinds('edict')).filter((kind) => kind === 'gap')).toHaveLength(1);
    expect(await harness.streams()).toMatchObject([{ complete_to: '0', holes: [{ from: '1', to: '10' }] }]);
  }, 90_000);

  it('says why it is not ready, and reads on, when the broker is killed and comes back', async () => {
    const emitter = createEmitter();
    await send(0, someEvents(50, emitter));
    const { source } = await start();
    await until(async () => (await decisions()) === 50);
    await broker.kill();
    await until(() => !source.health().ok);
    await broker.restart();
    await send(0, someEvents(50, emitter));
    await until(async () => (await decisions()) === 100, 90_000);
    expect(source.health().ok).toBe(true);
  }, 180_000);

  it('does not mistake a topic that does not exist for an empty one', async () => {
    topic = 'nowhere';
    const { source } = await start();
    await until(() => !source.health().ok && source.health().note !== 'not connected yet');
  }, 60_000);

  it('publishes acknowledgements on the compacted topic and finds them again', async () => {
    await admin((client) =>
      makeTopics(client, [
        {
          topic: ACKS_TOPIC,
          numPartitions: 3,
          replicationFactor: 1,
          configEntries: [{ name: 'cleanup.policy', value: 'compact' }],
        },
      ]),
    );
    const { key, verifier } = openAckKey(path.join(harness.home, 'ack.pem'), path.join(harness.home, 'ack.vkey'));
    const foreign = openAckKey(path.join(harness.home, 'b.pem'), path.join(harness.home, 'b.vkey'));
    const ackOf = (signer: typeof key, boot: string, to: string) =>
      signAck(signer, {
        emitter: 'ab'.repeat(16),
        boot,
        tenant: 'acme',
        complete_to: to,
        holes: [],
        covered_to: to,
        origin: 'o',
        tree_size: '1',
      });
    const sink = createKafkaSink({ kafka, verifier, groupId: 'acks', logger: silent });
    // The leader of a new partition may not know of it yet: whoever wants the acknowledgements asks again.
    const published = async (): Promise<readonly Ack[]> => {
      for (let left = 20; ; left -= 1) {
        try {
          return await sink.published();
        } catch (cause) {
          if (!isAppError(cause) || cause.code !== 'kafka_unavailable' || left === 0) throw cause;
        }
        await sleep(250);
      }
    };
    expect(await published()).toEqual([]);
    const newest = [ackOf(key, '1', '9'), ackOf(key, '2', '3')];
    await sink.publish('', [], [ackOf(key, '1', '5'), ...newest, ackOf(foreign.key, '3', '1')]);
    expect((await published()).toSorted((a, b) => Number(a.boot) - Number(b.boot))).toEqual(newest);
    await sink.close();
  }, 90_000);
});
