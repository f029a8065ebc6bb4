import { randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Consumer, Kafka } from 'kafkajs';
import { AppError, errorMessage } from '../contracts/errors.ts';

const PAUSE_MIN_MS = 100;
const PAUSE_MAX_MS = 5_000;

/** Runs one consumer until it crashes for good, `end` is called, or the signal is aborted. */
const runOne = async (
  consumer: Consumer,
  start: (consumer: Consumer, end: (reason: unknown) => void) => Promise<void>,
  signal: AbortSignal,
): Promise<void> => {
  let end: (reason: unknown) => void = () => undefined;
  const over = new Promise<unknown>((resolve) => {
    end = resolve;
  });
  const close = (): void => end(undefined);
  signal.addEventListener('abort', close, { once: true });
  if (signal.aborted) close();
  consumer.on(consumer.events.CRASH, ({ payload }) => {
    if (!payload.restart) end(payload.error);
  });
  try {
    await start(consumer, end);
    const reason = await over;
    if (reason === undefined) return;
    throw reason instanceof AppError ? reason : new AppError('kafka_unavailable', errorMessage(reason));
  } finally {
    signal.removeEventListener('abort', close);
  }
};

/**
 * Reads a topic by itself, with one consumer after another, until the signal is aborted. Each is in a fresh group of
 * this process alone, so that it reads everything: a dead process's place in an old one would delay the first message by
 * its session. Between them it waits 100 ms, and longer up to 5 s while they do not last. Never rejects.
 */
export const keepReading = async (options: {
  readonly kafka: Kafka;
  readonly groupPrefix: string;
  /** Connects, subscribes and runs the consumer. `end` ends it, and tells why. */
  readonly start: (consumer: Consumer, end: (reason: unknown) => void) => Promise<void>;
  /** Called for each that ended, before it is disconnected. */
  readonly onFailure: (error: unknown) => void;
  readonly signal: AbortSignal;
}): Promise<void> => {
  const { kafka, groupPrefix, start, onFailure, signal } = options;
  let pauseMs = PAUSE_MIN_MS;
  while (!signal.aborted) {
    const startedMs = performance.now();
    const consumer = kafka.consumer({
      groupId: `${groupPrefix}-${randomBytes(8).toString('hex')}`,
      maxWaitTimeInMs: 250,
      allowAutoTopicCreation: false,
      retry: {
        initialRetryTime: 100,
        maxRetryTime: 2_000,
        retries: 5,
        // The client would start again by itself, also after it was told to disconnect; the loop here does it.
        restartOnFailure: () => Promise.resolve(false),
      },
    });
    await runOne(consumer, start, signal).catch(onFailure);
    await consumer.disconnect().catch(() => undefined);
    if (performance.now() - startedMs > PAUSE_MAX_MS) pauseMs = PAUSE_MIN_MS;
    await sleep(pauseMs, undefined, { signal }).catch(() => undefined);
    pauseMs = Math.min(pauseMs * 2, PAUSE_MAX_MS);
  }
};
