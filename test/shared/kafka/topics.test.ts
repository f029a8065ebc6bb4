import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import kafkajs, { type Admin, type Kafka } from 'kafkajs';
import { createDataBook } from '../../../services/pdp/core/data-book.ts';
import type { RunningDataStream } from '../../../services/pdp/data/file-stream.ts';
import { startKafkaDataStream } from '../../../services/pdp/data/kafka-stream.ts';
import { ACKS_TOPIC, DATA_TOPIC, DECISIONS_TOPIC } from '../../../services/shared/contracts/events.ts';
import { createKafkaClient } from '../../../services/shared/kafka/client.ts';
import { createSender } from '../../../services/shared/kafka/sender.ts';
import { createTopics, makeTopics } from '../../../services/shared/kafka/topics.ts';
import { createLogger } from '../../../services/shared/runtime/logger.ts';
import { loadSettings } from '../../../services/shared/settings/settings.ts';
import { startKafka, type KafkaBroker } from '../../support/kafka.ts';

const logger = createLogger({ service: 'test', level: 'silent' });
const { TOPIC } = kafkajs.ConfigResourceTypes;
/** As `edict migrate` made it once: by the clock of who sends, with what an operator set on it. */
const OLD = { name: 'retention.ms', value: '-1' };
const OWN = { name: 'max.message.bytes', value: '2000000' };

describe('the topics', () => {
  let broker: KafkaBroker;
  let kafka: Kafka;
  let admin: Admin;
  let folder: string;
  beforeAll(async () => {
    broker = await startKafka({
      properties: {
        'authorizer.class.name': 'org.apache.kafka.metadata.authorizer.StandardAuthorizer',
        'allow.everyone.if.no.acl.found': true,
      },
    });
    const { settings } = loadSettings({ environment: {} });
    kafka = createKafkaClient({ ...settings.kafka, brokers: [...broker.brokers] }, 'test', logger);
    admin = kafka.admin();
    await admin.connect();
    folder = mkdtempSync(join(tmpdir(), 'edict-topics-'));
  }, 60_000);
  afterAll(async () => {
    await admin.disconnect();
    await broker.close();
    rmSync(folder, { recursive: true, force: true });
  }, 60_000);

  const configOf = async (topic: string): Promise<Readonly<Record<string, string>>> => {
    const described = await admin.describeConfigs({
      includeSynonyms: false,
      resources: [{ type: TOPIC, name: topic }],
    });
    return Object.fromEntries(
      described.resources[0]?.configEntries.map(({ configName, configValue }) => [configName, configValue]) ?? [],
    );
  };
  const makeOldTopic = async (): Promise<void> => {
    await admin.deleteTopics({ topics: [DATA_TOPIC] }).catch(() => undefined);
    while ((await admin.listTopics()).includes(DATA_TOPIC)) await new Promise((done) => setTimeout(done, 50));
    await makeTopics(admin, [{ topic: DATA_TOPIC, numPartitions: 1, configEntries: [OLD, OWN] }]);
    expect(await configOf(DATA_TOPIC)).toMatchObject({ 'message.timestamp.type': 'CreateTime' });
  };
  const startStream = (): Promise<RunningDataStream> =>
    startKafkaDataStream({
      kafka,
      sender: createSender({ kafka, topic: DATA_TOPIC, logger }),
      directory: mkdtempSync(join(folder, 'pdp-')),
      book: createDataBook({ maxBytes: 100_000, setTimer: () => () => undefined }),
      nowMs: Date.now,
      logger,
    });
  const expectStamped = async (): Promise<void> =>
    expect(await configOf(DATA_TOPIC)).toMatchObject({
      'message.timestamp.type': 'LogAppendTime',
      [OLD.name]: OLD.value,
      [OWN.name]: OWN.value,
    });

  const heardOf = (times: number, type: string) => {
    let asked = 0;
    return {
      createTopics: () => Promise.resolve(true),
      fetchTopicMetadata: () => {
        asked += 1;
        return asked > times
          ? Promise.resolve({ topics: [] })
          : Promise.reject(Object.assign(new Error(type), { type }));
      },
      asked: () => asked,
    };
  };

  it('are waited for while brokers have not heard of them, and no longer than that', async () => {
    const unknown = heardOf(2, 'UNKNOWN_TOPIC_OR_PARTITION');
    await makeTopics(unknown, [{ topic: 'a' }]);
    expect(unknown.asked()).toBe(3);
    const never = heardOf(Number.POSITIVE_INFINITY, 'LEADER_NOT_AVAILABLE');
    await expect(makeTopics(never, [{ topic: 'a' }], 200)).rejects.toThrow('LEADER_NOT_AVAILABLE');
    const refused = heardOf(1, 'TOPIC_AUTHORIZATION_FAILED');
    await expect(makeTopics(refused, [{ topic: 'a' }])).rejects.toThrow('TOPIC_AUTHORIZATION_FAILED');
    expect(refused.asked()).toBe(1);
  });

  it('need as many brokers as kafka.replication says, which the error names', async () => {
    await expect(createTopics(kafka, { partitions: 1, replication: 3 })).rejects.toMatchObject({
      code: 'kafka_unavailable',
      message: expect.stringMatching(
        /edict\.decisions\.v1: kafka\.replication is 3, and there are not so many brokers/,
      ) as string,
    });
  }, 60_000);

  it('are made, or changed in nothing but the clock of pushed data, and then left as they are', async () => {
    await makeOldTopic();
    const made = await createTopics(kafka, { partitions: 1, replication: 1 });
    expect(made).toEqual([DECISIONS_TOPIC, ACKS_TOPIC, `${DATA_TOPIC} (message.timestamp.type)`]);
    await expectStamped();
    expect(await createTopics(kafka, { partitions: 1, replication: 1 })).toEqual([]);
  }, 60_000);

  it('get that clock from a decision point that may change it', async () => {
    await makeOldTopic();
    const stream = await startStream();
    await expectStamped();
    expect(await stream.check()).toMatchObject({ ok: true });
    await stream.close();
  }, 60_000);

  it('without that clock, which may not be changed, make a decision point not ready, and pushes go on', async () => {
    await makeOldTopic();
    const { AclResourceTypes, AclOperationTypes, AclPermissionTypes, ResourcePatternTypes } = kafkajs;
    const { READ, WRITE, DESCRIBE, DESCRIBE_CONFIGS } = AclOperationTypes;
    await admin.createAcls({
      acl: [READ, WRITE, DESCRIBE, DESCRIBE_CONFIGS].map((operation) => ({
        resourceType: AclResourceTypes.TOPIC,
        resourceName: DATA_TOPIC,
        resourcePatternType: ResourcePatternTypes.LITERAL,
        principal: 'User:ANONYMOUS',
        host: '*',
        operation,
        permissionType: AclPermissionTypes.ALLOW,
      })),
    });
    const stream = await startStream();
    expect(await stream.check()).toMatchObject({
      ok: false,
      reason: expect.stringContaining('must have message.timestamp.type=LogAppendTime') as string,
    });
    const pushed = await stream.push('acme', { op: 'put', path: ['a'], value: 1 });
    expect(pushed).toMatchObject({ kind: 'applied' });
    await stream.close();
  }, 60_000);
});
