import { setTimeout as sleep } from 'node:timers/promises';
import type { Admin, Consumer, Kafka } from 'kafkajs';
import { sha256Hex } from '../../shared/contracts/bytes.ts';
import { AppError, errorMessage } from '../../shared/contracts/errors.ts';
import { DATA_TOPIC } from '../../shared/contracts/events.ts';
import { newUuidV7 } from '../../shared/contracts/uuid.ts';
import { partitionOf } from '../../shared/kafka/client.ts';
import { keepReading } from '../../shared/kafka/reading.ts';
import { stampByBroker } from '../../shared/kafka/topics.ts';
import type { Sender } from '../../shared/kafka/sender.ts';
import type { Logger } from '../../shared/runtime/logger.ts';
import type { DataBook } from '../core/data-book.ts';
import { encodeRecord, recordOf, type DataRecord } from '../core/data-record.ts';
import type { Pushed, PushData } from '../core/data-stream.ts';
import type { RunningDataStream } from './file-stream.ts';
import { readPartitionFile, writePartitionFile } from './partition-file.ts';

interface Partition {
  /** The offset of the next message. */
  next: number;
  /** Where the topic ended when it was last asked. */
  end: number;
  /** True once all was read up to an end, in this life or, by its file, in an earlier one. */
  isKnown: boolean;
  /** What is not in its file yet. */
  isDirty: boolean;
  /** Hex SHA-256 of the last message: whether the topic is still the one that was read. */
  last: string | undefined;
  readonly tenants: Set<string>;
}

const FIRST_READ_MS = 5_000;
const SAVE_EVERY_MS = 10_000;
const PUSH_TIMEOUT_MS = 10_000;
/** The part of that time in which a broker must have the message; the rest is for reading it back. */
const STORE_SHARE = 0.8;
/** Pushes that are not answered yet, those included that were given up and may still go out. */
const MAX_PENDING = 256;

const lost = (partition: number, message: string): AppError =>
  new AppError('data_corrupt', `${DATA_TOPIC}/${partition}: ${message}; what was pushed is not known`);

/**
 * The streams of all tenants on the topic: each decision point reads all of it, in order, from where its files in
 * `directory` end. Resolves when it was read once, or 5 s later. A tenant is known once its partition was read to its
 * end, ever; afterwards it stays known without a broker. Rejects with `data_corrupt` for files that are damaged.
 */
export const startKafkaDataStream = async (options: {
  readonly kafka: Kafka;
  /** Of the topic. Closed with the stream. */
  readonly sender: Sender;
  readonly directory: string;
  readonly book: DataBook;
  /** Called after a partition was read to its end for the first time. */
  readonly onKnown?: () => void;
  readonly nowMs: () => number;
  readonly logger: Logger;
  readonly pushTimeoutMs?: number;
}): Promise<RunningDataStream> => {
  const { kafka, sender, directory, book, logger } = options;
  const closing = new AbortController();
  const partitions: Partition[] = [];
  const pending = new Map<string, (pushed: Pushed) => void>();
  let outstanding = 0;
  let failure: string | undefined = 'Kafka was not reached yet';
  /** Why nothing is known any more, whatever comes. */
  let ruin: string | undefined;
  /** Why the topic may be stamped by the clocks of those who push. */
  let clockProblem: string | undefined;
  let isClockSeen = false;

  const restoreFile = (index: number, count: number): Partition => {
    const state = readPartitionFile(directory, index);
    if (state !== undefined && state.partitions !== count)
      throw lost(index, `the topic has ${count} partitions, and had ${state.partitions}`);
    for (const [tenant, data] of state?.tenants ?? []) book.restore(tenant, data);
    const tenants = new Set(state?.tenants.keys());
    return {
      next: state?.next ?? 0,
      end: Number.POSITIVE_INFINITY,
      isKnown: state !== undefined,
      isDirty: false,
      last: state?.last,
      tenants,
    };
  };

  const restoreAll = (count: number): void => {
    while (partitions.length < count) partitions.push(restoreFile(partitions.length, count));
  };
  // Without a broker the files tell how many partitions there are.
  const first = readPartitionFile(directory, 0);
  if (first !== undefined) restoreAll(first.partitions);

  const save = (): void => {
    partitions.forEach((partition, index) => {
      if (!partition.isDirty || !partition.isKnown) return;
      const tenants = new Map([...partition.tenants].map((tenant) => [tenant, book.stateOf(tenant)]));
      const { next, last } = partition;
      writePartitionFile(directory, index, { next, partitions: partitions.length, last, tenants });
      partition.isDirty = false;
    });
  };
  const trySave = (): void => {
    try {
      save();
    } catch (error) {
      logger.error({ err: error }, 'pushed data cannot be saved; it is read from the topic again at the next start');
    }
  };

  let wake: () => void = () => undefined;
  const firstRead = new Promise<void>((resolve) => {
    wake = resolve;
  });
  /** Resolves what waits for a partition's end. A partition that becomes known is saved at once: it stays known. */
  const noteReached = (partition: Partition): void => {
    if (!partition.isKnown && partition.next >= partition.end) {
      partition.isKnown = true;
      partition.isDirty = true;
      trySave();
      options.onKnown?.();
    }
    if (partitions.every(({ next, end }) => next >= end)) wake();
  };

  const settle = async (record: DataRecord, offset: number, storedMs: number): Promise<void> => {
    if (record.notAfterMs !== undefined && storedMs > record.notAfterMs) {
      const { id, tenant, notAfterMs } = record;
      logger.warn(
        { tenant, id, offset, late_ms: storedMs - notAfterMs },
        'a push that was stored too late has no effect (or the clocks of decision points and brokers differ)',
      );
      return;
    }
    const applied = await book.apply(record, offset);
    const answer = pending.get(record.id);
    if (applied.kind === 'changed') answer?.({ kind: 'applied', identity: applied.identity });
    if (applied.kind === 'conflict')
      answer?.({ kind: 'conflict', pointer: applied.conflict.pointer, message: applied.conflict.message });
  };

  const parse = (value: Buffer | null): DataRecord | undefined => {
    try {
      return value === null ? undefined : recordOf(JSON.parse(value.toString('utf8')));
    } catch {
      return undefined;
    }
  };

  /** `storedMs`: the broker's time of the message, the same to all who read it. */
  const take = async (index: number, offset: number, value: Buffer | null, storedMs: number): Promise<void> => {
    const partition = partitions[index];
    if (partition === undefined) return;
    const digest = sha256Hex(value ?? '');
    if (offset === partition.next - 1 && digest !== partition.last)
      throw lost(index, `message ${offset} is another one than before`);
    if (offset < partition.next) return;
    // Nothing is ever removed from the topic, and nothing but messages takes an offset.
    if (offset > partition.next) throw lost(index, `messages ${partition.next} to ${offset - 1} are gone`);
    const record = parse(value);
    if (record === undefined || partitionOf(record.tenant, partitions.length) !== index)
      logger.error({ partition: index, offset }, 'a message that is no pushed data has no effect');
    else {
      partition.tenants.add(record.tenant);
      await settle(record, offset, storedMs);
    }
    // Once it is applied: what is saved in between must not leave it out.
    partition.next = offset + 1;
    partition.last = digest;
    partition.isDirty = true;
    noteReached(partition);
  };

  /** A push that arrives too late has no effect: by one clock, which a topic of an earlier version does not have. */
  const findClock = async (admin: Admin): Promise<void> => {
    if (isClockSeen) return;
    try {
      if (await stampByBroker(admin)) logger.info(`${DATA_TOPIC} is stamped by its brokers from now on`);
      isClockSeen = true;
      clockProblem = undefined;
    } catch (error) {
      clockProblem =
        `${DATA_TOPIC} must have message.timestamp.type=LogAppendTime, and it may not be seen to here ` +
        `(${errorMessage(error)}): run edict migrate as who may`;
      logger.error({ err: error }, clockProblem);
    }
  };

  const findEnds = async (): Promise<void> => {
    const admin = kafka.admin({ retry: { initialRetryTime: 100, maxRetryTime: 1_000, retries: 3 } });
    try {
      await admin.connect();
      await findClock(admin);
      const ends = await admin.fetchTopicOffsets(DATA_TOPIC);
      if (partitions.length > 0 && ends.length !== partitions.length)
        throw lost(0, `the topic has ${ends.length} partitions, and had ${partitions.length}`);
      restoreAll(ends.length);
      for (const { partition: index, low, high } of ends) {
        const partition = partitions[index];
        if (partition === undefined) continue;
        if (Number(low) > partition.next)
          throw lost(index, `messages ${partition.next} to ${Number(low) - 1} are gone`);
        if (Number(high) < partition.next)
          throw lost(index, `it ends at ${high}, and was read up to ${partition.next}`);
        partition.end = Number(high);
        noteReached(partition);
      }
    } finally {
      await admin.disconnect().catch(() => undefined);
    }
  };

  /** Reads until a message is missing. */
  const start = async (consumer: Consumer, end: (reason: unknown) => void): Promise<void> => {
    await findEnds();
    await consumer.connect();
    await consumer.subscribe({ topic: DATA_TOPIC, fromBeginning: true });
    await consumer.run({
      autoCommit: false,
      eachMessage: async ({ partition, message }) => {
        try {
          await take(partition, Number(message.offset), message.value, Number(message.timestamp));
        } catch (error) {
          end(error);
        }
      },
    });
    partitions.forEach(({ next }, partition) => {
      // The last message once more, to see that it is still the same.
      if (next > 0) consumer.seek({ topic: DATA_TOPIC, partition, offset: String(next - 1) });
    });
    failure = undefined;
  };

  const onFailure = (error: unknown): void => {
    const text = errorMessage(error);
    if (text !== failure) logger.error({ err: error }, 'pushed data cannot be read from Kafka');
    failure = text;
    // What is missing will not come back, and without it a decision may rest on less than was pushed.
    if (error instanceof AppError && error.code === 'data_corrupt') ruin = text;
    // Nothing better comes soon to who knows already, or never will.
    if (ruin !== undefined || (partitions.length > 0 && partitions.every((known) => known.isKnown))) wake();
  };

  const saving = setInterval(trySave, SAVE_EVERY_MS);
  saving.unref();
  const running = keepReading({ kafka, groupPrefix: 'edict-data', start, onFailure, signal: closing.signal });
  await Promise.race([firstRead, sleep(FIRST_READ_MS, undefined, { ref: false })]);

  const isKnown = (tenant: string): boolean =>
    ruin === undefined && partitions.length > 0 && partitions[partitionOf(tenant, partitions.length)]?.isKnown === true;

  const pushTimeoutMs = options.pushTimeoutMs ?? PUSH_TIMEOUT_MS;
  const deliver = async (record: DataRecord): Promise<Pushed> => {
    const { id, tenant } = record;
    const applied = new Promise<Pushed>((resolve) => pending.set(id, resolve));
    const bound = new AbortController();
    const givenUp = new AbortController();
    outstanding += 1;
    const partition = partitionOf(tenant, partitions.length);
    const message = { key: tenant, value: encodeRecord(record) };
    const sent = sender.send(partition, [message], givenUp.signal).finally(() => {
      outstanding -= 1;
    });
    const late = sleep(pushTimeoutMs, undefined, { signal: bound.signal, ref: false }).then(() => {
      givenUp.abort();
      throw new AppError('data_unavailable', `${DATA_TOPIC}: the push was not acknowledged and applied in time`);
    });
    late.catch(() => undefined);
    sent.catch(() => undefined);
    try {
      const refused = sent.then(() => applied);
      refused.catch(() => undefined);
      return await Promise.race([refused, late]);
    } finally {
      bound.abort();
      pending.delete(id);
    }
  };

  const push: PushData = async (tenant, change) => {
    if (!isKnown(tenant))
      throw new AppError('data_unavailable', ruin ?? failure ?? 'the topic was not read to its end yet');
    if (outstanding >= MAX_PENDING) throw new AppError('data_unavailable', 'too many pushes wait for Kafka');
    // Whether it can be done is judged where it stands in the stream: here it is not known what stands before it.
    const nowMs = options.nowMs();
    const notAfterMs = Math.ceil(nowMs + pushTimeoutMs * STORE_SHARE);
    return await deliver({ id: newUuidV7(nowMs), tenant, notAfterMs, change });
  };

  return {
    push,
    isKnown,
    check: () => {
      const unknown = partitions.filter((partition) => !partition.isKnown).length;
      const facts = { partitions: partitions.length, ...(failure === undefined ? {} : { failure }) };
      if (ruin === undefined && partitions.length > 0 && unknown === 0)
        return clockProblem === undefined ? { ok: true, facts } : { ok: false, reason: clockProblem, facts };
      return {
        ok: false,
        reason: `what was pushed is not known: ${ruin ?? failure ?? 'the topic is being read'}`,
        facts,
      };
    },
    unreadable: () => new Map(),
    async close() {
      closing.abort();
      clearInterval(saving);
      await sender.close();
      await running;
      trySave();
    },
  };
};
