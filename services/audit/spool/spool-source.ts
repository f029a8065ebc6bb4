import { setTimeout as sleep } from 'node:timers/promises';
import { errorMessage } from '../../shared/contracts/errors.ts';
import type { Logger } from '../../shared/runtime/logger.ts';
import { openSpoolReader, type SpoolReader } from '../../shared/spool/reader.ts';
import { listSegments } from '../../shared/spool/segments.ts';
import { listSpools, type SpoolOfSlot } from '../../shared/spool/slots.ts';
import type { EventSource, SourceHandler } from '../core/ingest-source.ts';
import { spoolMessage, spoolTopic } from '../core/spool-message.ts';
import { createSpoolEnd } from './spool-end.ts';

export interface SpoolSourceOptions {
  readonly home: string;
  /** Records in one transaction. */
  readonly batch: number;
  readonly logger: Logger;
  /** How often new slots are looked for; default 500 ms. */
  readonly scanMs?: number;
  /** How long a spool may be far behind without getting on; default 60 s. */
  readonly stuckMs?: number;
}

const MAX_READ_BYTES = 8 * 1024 * 1024;
/** Transactions' worth of records handed over at once: the next is read while one is stored. */
const BATCHES_AHEAD = 4;
const RETRY_MS = 1_000;
/** Records behind the spool's end from which standing still is a fault. */
const FAR_BEHIND = 1_000n;
/** Larger than any record number: a spool never tells where it ends. */
const NO_END = 2n ** 63n - 1n;

interface Task {
  readonly spool: SpoolOfSlot;
  readonly done: Promise<void>;
  readonly stop: () => void;
  /** Why it does not get on; undefined when it does. */
  failure: string | undefined;
  /** The first record that is not stored yet, and since when it is that. */
  next: bigint;
  movedMs: number;
  /** Where the spool ends, and what tells it. */
  end: bigint;
  readonly measure: () => bigint;
}

const behind = ({ next, end }: Task): bigint => (next < end ? end - next : 0n);

const moveTo = (task: Task, next: bigint): void => {
  if (next === task.next) return;
  task.next = next;
  task.movedMs = performance.now();
};

/** Reads the spool of every slot under `home/emitters`, whether or not its emitter lives. */
export const createSpoolSource = (options: SpoolSourceOptions): EventSource => {
  const { home, batch, logger, scanMs = 500, stuckMs = 60_000 } = options;
  const closing = new AbortController();
  const tasks = new Map<string, Task>();
  let scanning: Promise<void> = Promise.resolve();
  let unreadable: readonly string[] = [];
  let scanFailure: string | undefined;
  /** By folder: damaged places that were met in this run. Forgotten when the folder is taken away. */
  const damage = new Map<string, { readonly slot: string; readonly places: number }>();

  /** Reads until stopped or until the folder belongs to another emitter. */
  const follow = async (task: Task, reader: SpoolReader, handler: SourceHandler, isStopped: () => boolean) => {
    const { emitter, directory } = task.spool;
    const topic = spoolTopic(emitter);
    const keepAlive = (): Promise<boolean> => Promise.resolve(!isStopped());
    while (!isStopped()) {
      const got = await reader.read({ maxRecords: batch * BATCHES_AHEAD, maxBytes: MAX_READ_BYTES });
      switch (got.kind) {
        case 'records': {
          const messages = got.records.map((record) => spoolMessage(emitter, record));
          const taken = await handler.take(messages, keepAlive);
          if (taken.nextOffset !== reader.next()) reader.seek(taken.nextOffset);
          moveTo(task, taken.nextOffset);
          break;
        }
        case 'waiting':
          await reader.changed();
          break;
        case 'gone':
        case 'corrupt': {
          if (got.kind === 'corrupt') {
            damage.set(directory, { slot: task.spool.slot, places: (damage.get(directory)?.places ?? 0) + 1 });
            const { at, file, reason } = got;
            logger.error({ slot: task.spool.slot, file, record: String(at), reason }, 'the spool is damaged');
          }
          const first = got.kind === 'gone' ? got.first : got.resumeAt;
          const place = { topic, partition: 0, first, end: NO_END, read: reader.next() };
          const next = await handler.reconcile(place, keepAlive);
          reader.seek(next);
          moveTo(task, next);
          break;
        }
        case 'foreign': {
          const owner = listSpools(home).spools.find((spool) => spool.directory === directory);
          if (owner?.emitter !== emitter) return;
          // The same emitter's spool ends before what was read of it: read it again, what is known is passed over.
          const first = listSegments(directory)[0] ?? 0n;
          const place = { topic, partition: 0, first, end: first, read: reader.next() };
          const next = await handler.reconcile(place, keepAlive);
          reader.seek(next);
          moveTo(task, next);
          break;
        }
        default:
          got satisfies never;
      }
      task.failure = undefined;
    }
  };

  const start = (spool: SpoolOfSlot, handler: SourceHandler): Task => {
    const stopping = new AbortController();
    const isStopped = (): boolean => stopping.signal.aborted || closing.signal.aborted;
    let reader: SpoolReader | undefined;
    const run = async (): Promise<void> => {
      while (!isStopped()) {
        try {
          const from = (await handler.positions(spoolTopic(spool.emitter))).get(0) ?? 0n;
          const { directory, emitter, movedAside } = spool;
          moveTo(task, from);
          reader = openSpoolReader({ directory, emitter, from, isFinal: movedAside });
          return await follow(task, reader, handler, isStopped);
        } catch (error) {
          if (isStopped()) return;
          if (task.failure === undefined) logger.error({ slot: spool.slot, err: error }, 'cannot read the spool');
          task.failure = errorMessage(error);
          await sleep(RETRY_MS, undefined, { signal: closing.signal }).catch(() => undefined);
        } finally {
          reader?.close();
        }
      }
    };
    const task: Task = {
      spool,
      failure: undefined,
      next: 0n,
      movedMs: performance.now(),
      end: 0n,
      measure: createSpoolEnd(spool.directory),
      stop: () => {
        stopping.abort();
        reader?.close();
      },
      // Begins in the next turn, when `task` is there.
      done: Promise.resolve().then(run),
    };
    return task;
  };

  const scan = (handler: SourceHandler): void => {
    const found = listSpools(home);
    unreadable = found.unreadable;
    for (const directory of damage.keys())
      if (!found.spools.some((spool) => spool.directory === directory)) damage.delete(directory);
    for (const spool of found.spools) {
      const known = tasks.get(spool.emitter);
      if (known?.spool.directory === spool.directory) continue;
      known?.stop();
      const task = start(spool, handler);
      tasks.set(spool.emitter, task);
      logger.info({ slot: spool.slot, emitter: spool.emitter }, 'reading a spool');
      void task.done.finally(() => {
        if (tasks.get(spool.emitter) === task) tasks.delete(spool.emitter);
      });
    }
  };

  const scanForEver = async (handler: SourceHandler): Promise<void> => {
    while (!closing.signal.aborted) {
      try {
        scan(handler);
        for (const task of tasks.values()) {
          // One that has just caught up does not stand still.
          if (behind(task) === 0n) task.movedMs = performance.now();
          task.end = task.measure();
        }
        scanFailure = undefined;
      } catch (error) {
        scanFailure = errorMessage(error);
      }
      await sleep(scanMs, undefined, { signal: closing.signal }).catch(() => undefined);
    }
  };

  return {
    name: 'spool',
    run: (handler) => {
      scanning = scanForEver(handler);
      return Promise.resolve();
    },
    health: () => {
      const failures = [
        ...(scanFailure === undefined ? [] : [scanFailure]),
        ...unreadable.map((slot) => `slot ${slot} cannot be read`),
        ...[...tasks.values()].flatMap(({ failure, spool }) =>
          failure === undefined ? [] : [`slot ${spool.slot}: ${failure}`],
        ),
        ...[...damage.values()].map(
          ({ slot, places }) => `slot ${slot}: ${places} damaged places; see the gap entries`,
        ),
        ...[...tasks.values()]
          .filter((task) => behind(task) >= FAR_BEHIND && performance.now() - task.movedMs > stuckMs)
          .map((task) => `slot ${task.spool.slot}: ${behind(task)} records wait and none is stored`),
      ];
      const lag = Number([...tasks.values()].reduce((sum, task) => sum + behind(task), 0n));
      return { ok: failures.length === 0, lag, ...(failures.length === 0 ? {} : { note: failures.join('; ') }) };
    },
    async close() {
      closing.abort();
      await scanning;
      const running = [...tasks.values()];
      for (const task of running) task.stop();
      await Promise.all(running.map(({ done }) => done));
    },
  };
};
