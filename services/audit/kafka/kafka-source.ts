import { setTimeout as sleep } from 'node:timers/promises';
import type { Admin, Consumer, EachBatchPayload, Kafka, KafkaMessage } from 'kafkajs';
import { errorMessage } from '../../shared/contracts/errors.ts';
import type { Logger } from '../../shared/runtime/logger.ts';
import type { EventSource, SourceHandler, SourceMessage } from '../core/ingest-source.ts';
import { keepRecordHeaders, recordHeaders } from './record-headers.ts';

export interface KafkaSourceOptions {
  readonly kafka: Kafka;
  readonly topic: string;
  /** Shared by all audit services of one ledger. */
  readonly groupId: string;
  readonly logger: Logger;
  /** How often the topic's ends are asked for; default 5 s. */
  readonly pollMs?: number;
  /** How long a reader that died holds its partitions; default 10 s. */
  readonly sessionTimeoutMs?: number;
}

const HEARTBEAT_MS = 3_000;
const FIRST_RETRY_MS = 500;
const LAST_RETRY_MS = 15_000;
const MAX_BYTES_PER_PARTITION = 4 * 1024 * 1024;
const MAX_WAIT_MS = 200;

const messageOf = (topic: string, partition: number, message: KafkaMessage): SourceMessage => ({
  topic,
  partition,
  offset: BigInt(message.offset),
  headers: recordHeaders(message.headers),
  value: message.value ?? Buffer.alloc(0),
});

interface PartitionRange {
  readonly partition: number;
  readonly first: bigint;
  readonly end: bigint;
}

const rangesOf = async (admin: Admin, topic: string): Promise<readonly PartitionRange[]> =>
  (await admin.fetchTopicOffsets(topic)).map(({ partition, low, high }) => ({
    partition,
    first: BigInt(low),
    end: BigInt(high),
  }));

/**
 * Reads a topic. Where to read stands in the database, not in the group: every assignment is answered by seeking, and
 * what arrives is compared with what was asked for, because the client resets an offset out of range without a word.
 * A consumer that fails is thrown away and made anew.
 */
export const createKafkaSource = (options: KafkaSourceOptions): EventSource => {
  const { kafka, topic, groupId, logger, pollMs = 5_000, sessionTimeoutMs = 10_000 } = options;
  keepRecordHeaders();
  const closing = new AbortController();
  let supervising: Promise<void> = Promise.resolve();
  let failure: string | undefined = 'not connected yet';
  let ends: readonly PartitionRange[] = [];
  let positions = new Map<number, bigint>();
  let running: Promise<unknown> = Promise.resolve();

  const isClosing = (): boolean => closing.signal.aborted;
  const alive = (): Promise<boolean> => Promise.resolve(!isClosing());

  /** Compares every partition with what was read of it. */
  const reconcile = async (admin: Admin, handler: SourceHandler, only?: number): Promise<void> => {
    const read = new Map(await handler.positions(topic));
    ends = await rangesOf(admin, topic);
    for (const { partition, first, end } of ends) {
      if (only !== undefined && only !== partition) continue;
      const range = { topic, partition, first, end, read: read.get(partition) ?? 0n };
      positions.set(partition, await handler.reconcile(range, alive));
    }
  };

  const takeBatch = async (
    payload: EachBatchPayload,
    consumer: Consumer,
    admin: Admin,
    handler: SourceHandler,
  ): Promise<void> => {
    const { partition } = payload.batch;
    const messages = payload.batch.messages.map((message) => messageOf(topic, partition, message));
    const [first, last] = [messages[0], messages.at(-1)];
    const isLost = (): boolean => isClosing() || !payload.isRunning() || payload.isStale();
    if (first === undefined || last === undefined || isLost()) return;
    const asked = positions.get(partition) ?? 0n;
    if (first.offset !== asked) {
      await reconcile(admin, handler, partition);
      const next = positions.get(partition) ?? 0n;
      if (next !== asked || first.offset < asked) {
        logger.warn({ partition, asked: String(asked), got: String(first.offset) }, 'not the offset asked for');
        return consumer.seek({ topic, partition, offset: next.toString() });
      }
    }
    // A transaction may take longer than the group waits for a sign of life.
    const beating = setInterval(() => void payload.heartbeat().catch(() => undefined), HEARTBEAT_MS);
    const keepAlive = async (): Promise<boolean> => {
      if (isLost()) return false;
      try {
        await payload.heartbeat();
        return !isLost();
      } catch {
        return false;
      }
    };
    try {
      const taken = await handler.take(messages, keepAlive);
      positions.set(partition, taken.nextOffset);
      if (taken.nextOffset === last.offset + 1n) payload.resolveOffset(last.offset.toString());
      else if (!isLost()) consumer.seek({ topic, partition, offset: taken.nextOffset.toString() });
    } catch (error) {
      if (!isLost()) throw error;
    } finally {
      clearInterval(beating);
    }
  };

  /** One consumer from joining to its end; rejects with why it ended. */
  const session = async (handler: SourceHandler): Promise<void> => {
    const over = new AbortController();
    const signal = AbortSignal.any([closing.signal, over.signal]);
    const admin = kafka.admin();
    const consumer = kafka.consumer({
      groupId,
      sessionTimeout: sessionTimeoutMs,
      rebalanceTimeout: 60_000,
      heartbeatInterval: Math.min(HEARTBEAT_MS, Math.floor(sessionTimeoutMs / 3)),
      maxWaitTimeInMs: MAX_WAIT_MS,
      maxBytesPerPartition: MAX_BYTES_PER_PARTITION,
      allowAutoTopicCreation: false,
      readUncommitted: false,
      retry: { retries: 5, restartOnFailure: () => Promise.resolve(false) },
    });
    try {
      await admin.connect();
      positions = new Map(await handler.positions(topic));
      await reconcile(admin, handler);
      const ended = new Promise<never>((_resolve, reject) => {
        consumer.on(consumer.events.CRASH, ({ payload }) => reject(payload.error));
        signal.addEventListener('abort', () => reject(new Error('closing')), { once: true });
      });
      ended.catch(() => undefined);
      consumer.on(consumer.events.GROUP_JOIN, ({ payload }) => {
        // Synchronous, so that it happens before the first fetch.
        for (const partition of payload.memberAssignment[topic] ?? [])
          consumer.seek({ topic, partition, offset: (positions.get(partition) ?? 0n).toString() });
        if (failure !== undefined) logger.info({ partitions: payload.memberAssignment[topic] ?? [] }, 'reading Kafka');
        failure = undefined;
      });
      await consumer.connect();
      await consumer.subscribe({ topic, fromBeginning: true });
      await consumer.run({
        autoCommit: false,
        eachBatchAutoResolve: false,
        partitionsConsumedConcurrently: 1,
        eachBatch: (payload) => {
          const work = takeBatch(payload, consumer, admin, handler);
          running = work.catch(() => undefined);
          return work;
        },
      });
      const poll = async (): Promise<never> => {
        for (;;) {
          await sleep(pollMs, undefined, { signal });
          ends = await rangesOf(admin, topic);
        }
      };
      await Promise.race([ended, poll()]);
    } finally {
      // The poll of a session that is over would connect its admin client again, for ever.
      over.abort();
      await running;
      await Promise.allSettled([consumer.disconnect(), admin.disconnect()]);
    }
  };

  const supervise = async (handler: SourceHandler): Promise<void> => {
    let delayMs = FIRST_RETRY_MS;
    while (!isClosing()) {
      try {
        await session(handler);
      } catch (error) {
        if (isClosing()) return;
        // A session that had begun to read starts the waiting times anew.
        delayMs = failure === undefined ? FIRST_RETRY_MS : Math.min(delayMs * 2, LAST_RETRY_MS);
        failure = errorMessage(error);
        logger.error({ err: error, retry_ms: delayMs }, 'reading Kafka ended; trying again');
      }
      await sleep(delayMs, undefined, { signal: closing.signal }).catch(() => undefined);
    }
  };

  return {
    name: 'kafka',
    run: (handler) => {
      supervising = supervise(handler);
      return Promise.resolve();
    },
    health: () => {
      const lag = ends.reduce((sum, { partition, end, first }) => {
        const next = positions.get(partition) ?? first;
        return next < end ? sum + (end - next) : sum;
      }, 0n);
      return { ok: failure === undefined, lag: Number(lag), ...(failure === undefined ? {} : { note: failure }) };
    },
    async close() {
      closing.abort();
      await supervising;
    },
  };
};
