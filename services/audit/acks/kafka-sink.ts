import { randomBytes } from 'node:crypto';
import type { Kafka } from 'kafkajs';
import { ackKey, parseAck, type Ack } from '../../shared/contracts/ack.ts';
import { AppError, errorMessage } from '../../shared/contracts/errors.ts';
import { ACKS_TOPIC } from '../../shared/contracts/events.ts';
import { canonicalJson } from '../../shared/contracts/json.ts';
import type { VerifierKey } from '../../shared/contracts/signatures.ts';
import { partitionOf } from '../../shared/kafka/client.ts';
import { createSender, type OutgoingMessage } from '../../shared/kafka/sender.ts';
import { unlessAborted } from '../../shared/runtime/abort.ts';
import type { Logger } from '../../shared/runtime/logger.ts';
import type { AckSink } from './ack-publisher.ts';

const READ_TIMEOUT_MS = 60_000;
const MAX_WAIT_MS = 200;

export interface KafkaSinkOptions {
  readonly kafka: Kafka;
  readonly verifier: VerifierKey;
  /** Prefix of the group under which the topic is read once at the start. */
  readonly groupId: string;
  readonly logger: Logger;
}

const parse = (value: Buffer | null, verifier: VerifierKey): Ack | undefined => {
  try {
    return value === null ? undefined : parseAck(JSON.parse(value.toString('utf8')), [verifier]);
  } catch {
    return undefined;
  }
};

/** The newest acknowledgement of every stream on the compacted topic. Rejects with `kafka_unavailable`. */
const readTopic = async ({ kafka, verifier, groupId }: KafkaSinkOptions): Promise<ReadonlyMap<string, Ack>> => {
  // Whoever wants the acknowledgements asks again.
  const admin = kafka.admin({ retry: { initialRetryTime: 100, maxRetryTime: 1_000, retries: 3 } });
  const group = `${groupId}-${randomBytes(6).toString('hex')}`;
  const consumer = kafka.consumer({
    groupId: group,
    allowAutoTopicCreation: false,
    maxWaitTimeInMs: MAX_WAIT_MS,
    retry: { retries: 3, restartOnFailure: () => Promise.resolve(false) },
  });
  const acks = new Map<string, Ack>();
  let timer: NodeJS.Timeout | undefined;
  let mayHaveGroup = false;
  try {
    await admin.connect();
    const ends = new Map(
      (await admin.fetchTopicOffsets(ACKS_TOPIC))
        .filter(({ low, high }) => BigInt(low) < BigInt(high))
        .map(({ partition, high }) => [partition, BigInt(high)]),
    );
    if (ends.size === 0) return acks;
    mayHaveGroup = true;
    await consumer.connect();
    await consumer.subscribe({ topic: ACKS_TOPIC, fromBeginning: true });
    await new Promise<void>((resolve, reject) => {
      timer = setTimeout(() => reject(new Error(`not read within ${READ_TIMEOUT_MS} ms`)), READ_TIMEOUT_MS);
      consumer.on(consumer.events.CRASH, ({ payload }) => reject(payload.error));
      consumer.on(consumer.events.END_BATCH_PROCESS, ({ payload }) => {
        const end = ends.get(payload.partition);
        if (end !== undefined && BigInt(payload.lastOffset) + 1n >= end) ends.delete(payload.partition);
        if (ends.size === 0) resolve();
      });
      const run = consumer.run({
        autoCommit: false,
        eachMessage: ({ message }) => {
          const ack = parse(message.value, verifier);
          if (ack !== undefined) acks.set(ackKey(ack), ack);
          return Promise.resolve();
        },
      });
      run.catch(reject);
    });
    return acks;
  } catch (cause) {
    throw new AppError('kafka_unavailable', `${ACKS_TOPIC} cannot be read: ${errorMessage(cause)}`, { cause });
  } finally {
    clearTimeout(timer);
    await Promise.allSettled([consumer.disconnect()]);
    // Without a broker the client would look for one again, with all its retries.
    if (mayHaveGroup) await Promise.allSettled([admin.deleteGroups([group])]);
    await Promise.allSettled([admin.disconnect()]);
  }
};

/** Acknowledgements on the compacted topic `edict.acks.v1`; a stream's key always goes to the same partition. */
export const createKafkaSink = (options: KafkaSinkOptions): AckSink => {
  const closing = new AbortController();
  const sender = createSender({ kafka: options.kafka, topic: ACKS_TOPIC, logger: options.logger });
  return {
    async publish(_emitter, _acks, changed) {
      if (changed.length === 0) return;
      const partitions = await sender.partitions();
      const batches = new Map<number, OutgoingMessage[]>();
      for (const ack of changed) {
        const partition = partitionOf(ackKey(ack), partitions);
        const batch = batches.get(partition) ?? [];
        batch.push({ key: ackKey(ack), value: canonicalJson(ack) });
        batches.set(partition, batch);
      }
      await Promise.all([...batches].map(([partition, batch]) => sender.send(partition, batch)));
    },
    published: async () => [...(await unlessAborted(readTopic(options), closing.signal)).values()],
    // Compaction keeps the last of each stream.
    held: () => Promise.resolve(new Map()),
    failure: () => sender.status().failure,
    close: () => {
      closing.abort(new AppError('kafka_unavailable', 'the sink is closed'));
      return sender.close();
    },
  };
};
