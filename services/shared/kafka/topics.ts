import { setTimeout as delay } from 'node:timers/promises';
import kafkajs, { type Admin, type ITopicConfig, type Kafka } from 'kafkajs';
import { ACKS_TOPIC, DATA_TOPIC, DECISIONS_TOPIC } from '../contracts/events.ts';
import { AppError, errorMessage } from '../contracts/errors.ts';
import { isObject } from '../contracts/json.ts';
import type { Settings } from '../settings/schema.ts';

/** Far longer than the audit service may be away; also how long an erased person's events stay with the brokers. */
const DECISIONS_RETENTION_MS = 30 * 24 * 3_600 * 1_000;
const MAX_MESSAGE_BYTES = 1_048_588;

const STAMP = 'message.timestamp.type';
const BY_BROKER = { name: STAMP, value: 'LogAppendTime' } as const;

/**
 * Makes brokers stamp what is pushed by their own clock, on a topic that was made before they did. True when that was
 * changed. Rejects when it may not be looked at or changed.
 */
export const stampByBroker = async (admin: Admin): Promise<boolean> => {
  const resource = { type: kafkajs.ConfigResourceTypes.TOPIC, name: DATA_TOPIC };
  const { resources } = await admin.describeConfigs({ includeSynonyms: false, resources: [resource] });
  const entries = resources[0]?.configEntries ?? [];
  if (entries.some(({ configName, configValue }) => configName === STAMP && configValue === BY_BROKER.value))
    return false;
  // This request puts back to its default whatever it does not name.
  const kept = entries
    .filter(
      ({ configName, configSource }) => configSource === kafkajs.ConfigSource.TOPIC_CONFIG && configName !== STAMP,
    )
    .map(({ configName: name, configValue: value }) => ({ name, value }));
  const configEntries = [...kept, BY_BROKER];
  await admin.alterConfigs({ validateOnly: false, resources: [{ ...resource, configEntries }] });
  return true;
};

/** How long brokers may take to make topics, and then to hear of them. */
const MAKE_MS = 20_000;
const LOOK_MS = 100;
/** What a broker says of a topic that it has not heard of yet, or whose leader is not settled. */
const NOT_YET: ReadonlySet<unknown> = new Set(['UNKNOWN_TOPIC_OR_PARTITION', 'LEADER_NOT_AVAILABLE']);

/**
 * Makes topics, and waits until they can be used. The client's own waiting (`waitForLeaders`) takes a topic that its
 * broker has not heard of yet for one that is not there, and fails. Rejects with what Kafka says, at most `waitMs` after
 * the topics were made.
 */
export const makeTopics = async (
  admin: Pick<Admin, 'createTopics' | 'fetchTopicMetadata'>,
  topics: readonly ITopicConfig[],
  waitMs: number = MAKE_MS,
): Promise<void> => {
  await admin.createTopics({ topics: [...topics], waitForLeaders: false, timeout: MAKE_MS });
  const deadlineMs = performance.now() + waitMs;
  for (;;)
    try {
      await admin.fetchTopicMetadata({ topics: topics.map(({ topic }) => topic) });
      return;
    } catch (cause) {
      const type: unknown = cause instanceof Error ? Reflect.get(cause, 'type') : undefined;
      if (!NOT_YET.has(type) || performance.now() >= deadlineMs) throw cause;
      await delay(LOOK_MS);
    }
};

/** The reasons that Kafka gives for each topic, and the setting that the most common one comes from. */
const whyNotMade = (cause: unknown, replication: number): string => {
  const errors: unknown = isObject(cause) ? cause['errors'] : undefined;
  if (!Array.isArray(errors)) return errorMessage(cause);
  const each = errors.map((error: unknown) => {
    const { topic, type } = isObject(error) ? error : {};
    const reason =
      type === 'INVALID_REPLICATION_FACTOR'
        ? `kafka.replication is ${replication}, and there are not so many brokers`
        : errorMessage(error);
    return `${String(topic)}: ${reason}`;
  });
  return each.join('; ');
};

/**
 * Makes the topics that are missing; of those that exist only the clock of the topic of pushed data is changed
 * (`stampByBroker`). Answers the names of the new and changed ones. Rejects with `kafka_unavailable`.
 */
export const createTopics = async (
  kafka: Kafka,
  { partitions, replication }: Pick<Settings['kafka'], 'partitions' | 'replication'>,
): Promise<readonly string[]> => {
  const common = [
    // With one copy fewer than all, one broker may be away and acks=all still means two disks.
    { name: 'min.insync.replicas', value: String(Math.max(1, Math.min(2, replication - 1))) },
    { name: 'unclean.leader.election.enable', value: 'false' },
    { name: 'max.message.bytes', value: String(MAX_MESSAGE_BYTES) },
  ];
  const wanted = [
    {
      topic: DECISIONS_TOPIC,
      numPartitions: partitions,
      replicationFactor: replication,
      configEntries: [
        ...common,
        { name: 'cleanup.policy', value: 'delete' },
        { name: 'retention.ms', value: String(DECISIONS_RETENTION_MS) },
        { name: 'retention.bytes', value: '-1' },
      ],
    },
    {
      topic: ACKS_TOPIC,
      numPartitions: partitions,
      replicationFactor: replication,
      configEntries: [...common, { name: 'cleanup.policy', value: 'compact' }],
    },
    {
      topic: DATA_TOPIC,
      numPartitions: partitions,
      replicationFactor: replication,
      configEntries: [
        ...common,
        { name: 'cleanup.policy', value: 'delete' },
        // A decision point that is new reads it from the beginning: what it cannot read it cannot know.
        { name: 'retention.ms', value: '-1' },
        // A push that arrives too late has no effect: by one clock, not by the one of who sent it.
        BY_BROKER,
        { name: 'retention.bytes', value: '-1' },
      ],
    },
  ];
  const admin = kafka.admin();
  try {
    await admin.connect();
    const present = new Set(await admin.listTopics());
    const missing = wanted.filter(({ topic }) => !present.has(topic));
    if (missing.length > 0) await makeTopics(admin, missing);
    const changed = present.has(DATA_TOPIC) && (await stampByBroker(admin)) ? [`${DATA_TOPIC} (${STAMP})`] : [];
    return [...missing.map(({ topic }) => topic), ...changed];
  } catch (cause) {
    throw new AppError('kafka_unavailable', `the topics could not be made: ${whyNotMade(cause, replication)}`, {
      cause,
    });
  } finally {
    await admin.disconnect().catch(() => undefined);
  }
};
