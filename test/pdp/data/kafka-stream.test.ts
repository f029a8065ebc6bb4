import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import kafkajs, { type Kafka } from 'kafkajs';
import { createDataBook, type DataBook } from '../../../services/pdp/core/data-book.ts';
import { encodeRecord } from '../../../services/pdp/core/data-record.ts';
import type { DataChange } from '../../../services/pdp/core/pushed-data.ts';
import type { RunningDataStream } from '../../../services/pdp/data/file-stream.ts';
import { startKafkaDataStream } from '../../../services/pdp/data/kafka-stream.ts';
import { DATA_TOPIC } from '../../../services/shared/contracts/events.ts';
import { newUuidV7 } from '../../../services/shared/contracts/uuid.ts';
import { createKafkaClient, partitionOf } from '../../../services/shared/kafka/client.ts';
import { createSender, kafkaProducer } from '../../../services/shared/kafka/sender.ts';
import { createTopics } from '../../../services/shared/kafka/topics.ts';
import { createLogger } from '../../../services/shared/runtime/logger.ts';
import { loadSettings } from '../../../services/shared/settings/settings.ts';
import { startKafka, type KafkaBroker } from '../../support/kafka.ts';

const logger = createLogger({ service: 'test', level: 'silent' });
const put = (path: readonly string[], value: unknown): DataChange => ({ op: 'put', path, value });
const count: DataChange = { op: 'patch', path: [], operations: [{ op: 'add', path: ['list', '-'], value: 1 }] };

describe('the stream of pushed data on Kafka', () => {
  let broker: KafkaBroker;
  let kafka: Kafka;
  let folder: string;
  let open: RunningDataStream[] = [];
  beforeAll(async () => {
    broker = await startKafka();
    const { settings } = loadSettings({ environment: {} });
    kafka = createKafkaClient({ ...settings.kafka, brokers: [...broker.brokers] }, 'test', logger);
    expect(await createTopics(kafka, { partitions: 3, replication: 1 })).toContain(DATA_TOPIC);
    folder = mkdtempSync(join(tmpdir(), 'edict-data-topic-'));
  }, 60_000);
  afterEach(async () => {
    for (const stream of open) await stream.close();
    open = [];
  });
  afterAll(async () => {
    await broker.close();
    rmSync(folder, { recursive: true, force: true });
  }, 60_000);

  const start = async (
    name: string,
    options: { readonly pushTimeoutMs?: number; readonly twice?: boolean } = {},
  ): Promise<{ readonly stream: RunningDataStream; readonly book: DataBook }> => {
    const book = createDataBook({
      maxBytes: 100_000,
      setTimer: (done, ms) => {
        const timer = setTimeout(done, ms);
        return () => clearTimeout(timer);
      },
    });
    const createProducer = (): ReturnType<typeof kafkaProducer> => {
      const producer = kafkaProducer(kafka);
      return {
        ...producer,
        send: async (topic, partition, messages) => {
          await producer.send(topic, partition, messages);
          return await producer.send(topic, partition, messages);
        },
      };
    };
    const sender = createSender({
      kafka,
      topic: DATA_TOPIC,
      logger,
      ...(options.twice === true ? { createProducer } : {}),
    });
    const stream = await startKafkaDataStream({
      kafka,
      sender,
      directory: join(folder, name),
      book,
      nowMs: Date.now,
      logger,
      pushTimeoutMs: options.pushTimeoutMs ?? 10_000,
    });
    open.push(stream);
    return { stream, book };
  };
  /** As `start`, until it was read to its end: a busy machine may need longer than a start waits. */
  const startKnown: typeof start = async (name, options) => {
    const started = await start(name, options);
    while (!(await started.stream.check()).ok) await sleep(20);
    return started;
  };
  const revisionOf = (book: DataBook, tenant: string): number => book.of(tenant).identity?.revision ?? -1;

  it('gives every decision point the same data under the same revision, also one that comes later', async () => {
    const [one, two] = await Promise.all([startKnown('one'), startKnown('two')]);
    expect(one.stream.isKnown('acme')).toBe(true);
    await one.stream.push('acme', put(['list'], []));
    const pushes = Array.from({ length: 30 }, (_, i) => (i % 2 === 0 ? one : two).stream.push('acme', count));
    const pushed = await Promise.all([...pushes, two.stream.push('globex', put(['x'], 1))]);
    expect(pushed.every(({ kind }) => kind === 'applied')).toBe(true);
    const last = Math.max(revisionOf(one.book, 'acme'), revisionOf(two.book, 'acme'));
    await Promise.all([one.book.waitFor('acme', last, 5_000), two.book.waitFor('acme', last, 5_000)]);
    expect(one.book.of('acme').document).toEqual({ list: Array.from({ length: 30 }, () => 1) });
    const three = await startKnown('three');
    for (const { book } of [two, three])
      for (const tenant of ['acme', 'globex']) expect(book.of(tenant)).toEqual(one.book.of(tenant));
    expect(await two.stream.push('acme', { op: 'delete', path: ['nothing'] })).toMatchObject({ kind: 'conflict' });
  }, 60_000);

  it('takes a message that the broker has twice for one', async () => {
    const one = await startKnown('twice', { twice: true });
    await one.stream.push('initech', put(['list'], []));
    for (let i = 0; i < 3; i += 1) await one.stream.push('initech', count);
    await sleep(300);
    expect(one.book.of('initech').document).toEqual({ list: [1, 1, 1] });
  }, 60_000);

  it('goes on from its files, and knows what it knew while there is no broker', async () => {
    const one = await startKnown('restart');
    await one.stream.push('umbrella', put(['a'], 1));
    const before = one.book.of('umbrella');
    await one.stream.close();
    const other = await startKnown('meanwhile');
    await other.stream.push('umbrella', put(['b'], 2));
    await broker.stop();
    const again = await start('restart', { pushTimeoutMs: 3_000 });
    expect(again.stream.isKnown('umbrella')).toBe(true);
    expect(again.book.of('umbrella')).toEqual(before);
    await expect(again.stream.push('umbrella', put(['c'], 3))).rejects.toMatchObject({ code: 'data_unavailable' });
    const fresh = await start('never-read');
    expect(fresh.stream.isKnown('umbrella')).toBe(false);
    expect(await fresh.stream.check()).toMatchObject({ ok: false });
    await expect(fresh.stream.push('umbrella', put(['d'], 4))).rejects.toMatchObject({ code: 'data_unavailable' });
    await broker.restart();
    while (!fresh.stream.isKnown('umbrella')) await sleep(50);
    const last = await fresh.stream.push('umbrella', put(['e'], 5));
    const revision = last.kind === 'applied' ? last.identity.revision : 0;
    await again.book.waitFor('umbrella', revision, 30_000);
    // The sender that had c in front of it has sent what came after it.
    await expect(again.stream.push('umbrella', { op: 'delete', path: ['e'] })).resolves.toMatchObject({
      kind: 'applied',
    });
    // What was pushed meanwhile, and not what was given up.
    expect(again.book.of('umbrella').document).toEqual({ a: 1, b: 2 });
    await fresh.book.waitFor('umbrella', revisionOf(again.book, 'umbrella'), 30_000);
    expect(fresh.book.of('umbrella')).toEqual(again.book.of('umbrella'));
  }, 90_000);

  it('gives no effect to a push that was stored after it had been given up', async () => {
    const admin = kafka.admin();
    await admin.connect();
    const { resources } = await admin.describeConfigs({
      includeSynonyms: false,
      resources: [
        { type: kafkajs.ConfigResourceTypes.TOPIC, name: DATA_TOPIC, configNames: ['message.timestamp.type'] },
      ],
    });
    await admin.disconnect();
    expect(resources[0]?.configEntries).toMatchObject([{ configValue: 'LogAppendTime' }]);
    const [one, two] = await Promise.all([startKnown('late-1'), startKnown('late-2')]);
    const sender = createSender({ kafka, topic: DATA_TOPIC, logger });
    await one.stream.push('vandelay', put(['grant'], false));
    const nowMs = Date.now();
    const record = (key: string, notAfterMs: number): string =>
      encodeRecord({ id: newUuidV7(nowMs), tenant: 'vandelay', notAfterMs, change: put([key], true) });
    for (const value of [record('grant', nowMs - 1_000), record('in_time', nowMs + 3_600_000)])
      await sender.send(partitionOf('vandelay', 3), [{ key: 'vandelay', value }]);
    await sender.close();
    await one.stream.push('vandelay', put(['last'], 1));
    await two.book.waitFor('vandelay', revisionOf(one.book, 'vandelay'), 5_000);
    for (const { book } of [one, two])
      expect(book.of('vandelay').document).toEqual({ grant: false, in_time: true, last: 1 });
  }, 60_000);

  it('skips what is no pushed data', async () => {
    const one = await startKnown('skips');
    const sender = createSender({ kafka, topic: DATA_TOPIC, logger });
    const partition = partitionOf('hooli', 3);
    for (const value of ['nonsense', '{"v":1}', null]) await sender.send(partition, [{ key: 'hooli', value }]);
    await sender.close();
    await one.stream.push('hooli', put(['a'], 1));
    expect(one.book.of('hooli').document).toEqual({ a: 1 });
  }, 60_000);

  it('knows nothing when its last message is another one, or its files are damaged', async () => {
    const one = await startKnown('other');
    await one.stream.push('acme', put(['z'], 1));
    await one.stream.close();
    const directory = join(folder, 'other');
    for (const name of readdirSync(directory)) {
      const file = join(directory, name);
      const text = readFileSync(file, 'utf8');
      writeFileSync(file, text.replace(/"last":"[0-9a-f]{64}"/, `"last":"${'0'.repeat(64)}"`));
    }
    const { stream } = await start('other');
    while ((await stream.check()).ok) await sleep(20);
    expect(stream.isKnown('acme')).toBe(false);
    expect(await stream.check()).toMatchObject({
      reason: expect.stringContaining('is another one than before') as string,
    });
    writeFileSync(join(directory, 'partition-0.json'), '{"next": 1');
    await expect(start('other')).rejects.toMatchObject({ code: 'data_corrupt' });
  }, 60_000);

  it('is unknown to a new decision point when messages are gone', async () => {
    const one = await startKnown('gone');
    await one.stream.push('acme', put(['y'], 1));
    const admin = kafka.admin();
    await admin.connect();
    const partition = partitionOf('acme', 3);
    // The client deletes only in topics that it looked at.
    await admin.fetchTopicOffsets(DATA_TOPIC);
    await admin.deleteTopicRecords({ topic: DATA_TOPIC, partitions: [{ partition, offset: '1' }] });
    await admin.disconnect();
    const { stream } = await start('new');
    while (!JSON.stringify(await stream.check()).includes('are gone')) await sleep(20);
    expect(stream.isKnown('acme')).toBe(false);
    expect(await stream.check()).toMatchObject({ reason: expect.stringContaining('are gone') as string });
    // Who had read them goes on.
    expect(await one.stream.push('acme', put(['y'], 2))).toMatchObject({ kind: 'applied' });
  }, 60_000);
});
