import { setTimeout as sleep } from 'node:timers/promises';
import kafkajs, { type Kafka } from 'kafkajs';
import { AppError, errorCode, errorMessage } from '../contracts/errors.ts';
import type { Logger } from '../runtime/logger.ts';

export interface OutgoingMessage {
  readonly key: string;
  readonly value: Buffer | string | null;
  readonly headers?: Readonly<Record<string, string>>;
}

/** What the sender asks of a client; tests put faults here. */
export interface ProducerPort {
  readonly connect: () => Promise<void>;
  /** Resolves when all in-sync replicas have the messages, all of one partition. */
  readonly send: (
    topic: string,
    partition: number,
    messages: readonly OutgoingMessage[],
  ) => Promise<readonly { readonly partition: number; readonly errorCode: number }[]>;
  readonly disconnect: () => Promise<void>;
}

export interface SenderStatus {
  readonly connected: boolean;
  /** Why the last attempt failed; absent when it did not. */
  readonly failure?: string;
  /** Producers that were given up after an error. */
  readonly rebuilt: number;
}

export interface Sender {
  /** How many partitions the topic has; waits until a broker said so. Rejects with `kafka_unavailable` on `close`. */
  readonly partitions: () => Promise<number>;
  /**
   * Sends to one partition, after everything that was sent to it before; resolves when the broker has it. Tries for
   * ever, or until `givenUp`: no attempt begins afterwards, but one that began may still arrive. A message may arrive
   * twice. Rejects with `kafka_unavailable` on `close` and when given up.
   */
  readonly send: (partition: number, messages: readonly OutgoingMessage[], givenUp?: AbortSignal) => Promise<void>;
  readonly status: () => SenderStatus;
  /** Gives up what is waiting. */
  readonly close: () => Promise<void>;
}

const PAUSE_MIN_MS = 100;
const PAUSE_MAX_MS = 5_000;
const DISCONNECT_MS = 3_000;

/**
 * A producer of KafkaJS with the settings under which it loses nothing that it said was stored: idempotent, all
 * in-sync replicas, one partition a request.
 */
export const kafkaProducer = (kafka: Kafka): ProducerPort => {
  const producer = kafka.producer({
    idempotent: true,
    maxInFlightRequests: 1,
    allowAutoTopicCreation: false,
    createPartitioner: kafkajs.Partitioners.DefaultPartitioner,
    retry: { initialRetryTime: 100, maxRetryTime: 2_000, retries: 8 },
  });
  return {
    connect: () => producer.connect(),
    send: (topic, partition, messages) =>
      producer.send({
        topic,
        acks: -1,
        messages: messages.map(({ key, value, headers }) => ({
          key,
          value,
          partition,
          ...(headers === undefined ? {} : { headers: { ...headers } }),
        })),
      }),
    disconnect: () => producer.disconnect(),
  };
};

interface Connected {
  readonly producer: ProducerPort;
  readonly partitions: number;
}

const isTooLarge = (error: unknown): boolean => {
  for (let at: unknown = error, depth = 0; typeof at === 'object' && at !== null && depth < 4; depth += 1) {
    if ('type' in at && (at.type === 'MESSAGE_TOO_LARGE' || at.type === 'RECORD_LIST_TOO_LARGE')) return true;
    at = 'cause' in at ? at.cause : undefined;
  }
  return false;
};

/**
 * Sends to `topic` with at most one outstanding request a partition. After any error the producer is thrown away and
 * the identical batch goes out through a new one: going on with another batch would let the broker take it for a
 * duplicate of the failed one, and drop it.
 */
export const createSender = (options: {
  readonly kafka: Kafka;
  readonly topic: string;
  readonly logger: Logger;
  readonly createProducer?: () => ProducerPort;
}): Sender => {
  const { kafka, topic, logger } = options;
  const createProducer = options.createProducer ?? (() => kafkaProducer(kafka));
  const closing = new AbortController();
  const tails = new Map<number, Promise<void>>();
  const goingAway = new Set<Promise<void>>();
  let current: Promise<Connected> | undefined;
  let connected: Connected | undefined;
  let failure: string | undefined;
  let rebuilt = 0;

  const closed = (): AppError => new AppError('kafka_unavailable', 'the sender is closed');

  const pause = async (attempt: number): Promise<void> => {
    try {
      await sleep(Math.min(PAUSE_MIN_MS * 2 ** attempt, PAUSE_MAX_MS), undefined, { signal: closing.signal });
    } catch {
      throw closed();
    }
  };

  /** What `work` gives; rejects when the sender is closed first, since a silent broker keeps a request for long. */
  const unlessClosed = async <T>(work: Promise<T>): Promise<T> => {
    let onClose: () => void = () => undefined;
    try {
      return await new Promise<T>((resolve, reject) => {
        onClose = () => reject(closed());
        closing.signal.addEventListener('abort', onClose);
        if (closing.signal.aborted) onClose();
        work.then(resolve, reject);
      });
    } finally {
      closing.signal.removeEventListener('abort', onClose);
    }
  };

  const leave = (producer: ProducerPort): void => {
    const bound = new AbortController();
    const gone = Promise.race([
      producer.disconnect().catch(() => undefined),
      // A disconnect can hang while a request is in flight.
      sleep(DISCONNECT_MS, undefined, { signal: bound.signal, ref: false }).catch(() => undefined),
    ]).finally(() => {
      bound.abort();
      goingAway.delete(gone);
    });
    goingAway.add(gone);
  };

  const countPartitions = async (): Promise<number> => {
    const admin = kafka.admin({ retry: { initialRetryTime: 100, maxRetryTime: 1_000, retries: 3 } });
    try {
      await admin.connect();
      const { topics } = await admin.fetchTopicMetadata({ topics: [topic] });
      const count = topics.find(({ name }) => name === topic)?.partitions.length ?? 0;
      if (count === 0) throw new AppError('kafka_unavailable', `topic ${topic} has no partitions`);
      return count;
    } finally {
      await admin.disconnect().catch(() => undefined);
    }
  };

  const connect = async (): Promise<Connected> => {
    for (let attempt = 0; ; attempt += 1) {
      if (closing.signal.aborted) throw closed();
      const producer = createProducer();
      try {
        const partitions = await countPartitions();
        await producer.connect();
        if (closing.signal.aborted) throw closed();
        connected = { producer, partitions };
        return connected;
      } catch (error) {
        leave(producer);
        if (closing.signal.aborted) throw closed();
        noteFailure(error, 'Kafka cannot be reached');
        await pause(attempt);
      }
    }
  };

  const noteFailure = (error: unknown, message: string): void => {
    const text = errorMessage(error);
    if (text !== failure) logger.warn({ topic, code: errorCode(error), reason: text }, message);
    failure = text;
  };

  const use = (): Promise<Connected> => {
    if (current === undefined) {
      current = connect();
      current.catch(() => undefined);
    }
    return current;
  };

  const giveUp = (used: Connected): void => {
    if (connected !== used) return;
    connected = undefined;
    current = undefined;
    rebuilt += 1;
    leave(used.producer);
  };

  const deliver = async (
    partition: number,
    messages: readonly OutgoingMessage[],
    givenUp: AbortSignal | undefined,
  ): Promise<void> => {
    for (let attempt = 0; ; attempt += 1) {
      const used = await unlessClosed(use());
      if (givenUp?.aborted === true) throw new AppError('kafka_unavailable', 'the messages were given up');
      try {
        const stored = await unlessClosed(used.producer.send(topic, partition, messages));
        // On a change of leaders the client can leave out of its answer what it did not send.
        if (!stored.some((part) => part.partition === partition && part.errorCode === 0))
          throw new AppError('kafka_unavailable', `the answer does not name partition ${partition}`);
        if (failure !== undefined) logger.info({ topic }, 'Kafka takes messages again');
        failure = undefined;
        return;
      } catch (error) {
        if (closing.signal.aborted) throw closed();
        if (isTooLarge(error) && messages.length > 1) {
          giveUp(used);
          const middle = messages.length >> 1;
          await deliver(partition, messages.slice(0, middle), givenUp);
          await deliver(partition, messages.slice(middle), givenUp);
          return;
        }
        noteFailure(error, 'Kafka did not take a batch; it is sent again');
        giveUp(used);
        await pause(attempt);
      }
    }
  };

  return {
    partitions: async () => (await unlessClosed(use())).partitions,
    send(partition, messages, givenUp) {
      const before = tails.get(partition) ?? Promise.resolve();
      const sent = before.catch(() => undefined).then(() => deliver(partition, messages, givenUp));
      tails.set(partition, sent);
      sent.catch(() => undefined);
      return sent;
    },
    status: () => ({
      connected: connected !== undefined,
      ...(failure === undefined ? {} : { failure }),
      rebuilt,
    }),
    async close() {
      closing.abort();
      const used = connected;
      connected = undefined;
      if (used !== undefined) leave(used.producer);
      await Promise.all(goingAway);
    },
  };
};
