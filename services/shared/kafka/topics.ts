import type { Kafka } from 'kafkajs';
import { ACKS_TOPIC, DATA_TOPIC, DECISIONS_TOPIC } from '../contracts/events.ts';
import { AppError, errorMessage } from '../contracts/errors.ts';
import type { Settings } from '../settings/schema.ts';

/** Far longer than the audit service may be away; also how long an erased person's events stay with the brokers. */
const DECISIONS_RETENTION_MS = 30 * 24 * 3_600 * 1_000;
const MAX_MESSAGE_BYTES = 1_048_588;

/**
 * Makes the topics that are missing; those that exist are left as they are. Answers the names of the new ones. Rejects
 * with `kafka_unavailable`.
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
        { name: 'message.timestamp.type', value: 'LogAppendTime' },
        { name: 'retention.bytes', value: '-1' },
      ],
    },
  ];
  const admin = kafka.admin();
  try {
    await admin.connect();
    const present = new Set(await admin.listTopics());
    const missing = wanted.filter(({ topic }) => !present.has(topic));
    if (missing.length > 0) await admin.createTopics({ topics: missing, waitForLeaders: true, timeout: 20_000 });
    return missing.map(({ topic }) => topic);
  } catch (cause) {
    throw new AppError('kafka_unavailable', `the topics could not be made: ${errorMessage(cause)}`, { cause });
  } finally {
    await admin.disconnect().catch(() => undefined);
  }
};
