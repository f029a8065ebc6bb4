import { DATA_MEDIA_TYPE } from '../shared/contracts/data-node.ts';
import { AppError } from '../shared/contracts/errors.ts';
import { DATA_TOPIC } from '../shared/contracts/events.ts';
import { createKafkaClient } from '../shared/kafka/client.ts';
import { createSender } from '../shared/kafka/sender.ts';
import type { CheckResult } from '../shared/runtime/health.ts';
import type { Handle } from '../shared/runtime/lifecycle.ts';
import type { Logger } from '../shared/runtime/logger.ts';
import { homePaths } from '../shared/settings/home.ts';
import type { Settings } from '../shared/settings/schema.ts';
import { durationMs, sizeBytes } from '../shared/settings/units.ts';
import type { NodesOfState } from './audit-trail/artifacts.ts';
import { createDataBook, type DataBook } from './core/data-book.ts';
import { unarchivedNodes } from './core/data-nodes.ts';
import { createDataOwners, type DataOwners } from './core/data-owners.ts';
import type { PushedData } from './core/pushed-data.ts';
import { hasFileData, startFileDataStream, type RunningDataStream } from './data/file-stream.ts';
import { startKafkaDataStream } from './data/kafka-stream.ts';
import { createWorkQueue } from './policy/work-queue.ts';

interface DataListener {
  /** After each change, before the push is answered. */
  readonly changed: (tenant: string) => void;
  /** After it became known of some tenants what was pushed for them. */
  readonly known: () => void;
}

export interface PushedDataPart extends Handle, DataOwners {
  readonly dataOf: (tenant: string) => PushedData;
  /** Yields the artifacts that the tenant's state, as it is now, needs beside those that were given. */
  readonly artifactsOf: (tenant: string) => NodesOfState;
  /** False while it is not known what was pushed for the tenant. */
  readonly isKnown: (tenant: string) => boolean;
  /** Resolves when the tenant's data is at `revision`, or after `pdp.data_wait`. */
  readonly waitFor: (tenant: string, revision: number) => Promise<void>;
  /** From now on `listener` is told. */
  readonly follow: (listener: DataListener) => void;
  /** `denied`: how many tenants have bundles that cannot be used with their data. Names none: anybody may ask. */
  readonly check: (denied: number) => Promise<CheckResult>;
  /** Tenants whose data cannot be read, and why. */
  readonly unreadable: () => ReadonlyMap<string, string>;
}

/** The topic when there are brokers, else the log below `home`. */
const startStream = async (
  settings: Settings,
  options: { readonly book: DataBook; readonly onKnown: () => void; readonly logger: Logger },
): Promise<RunningDataStream> => {
  const { logger } = options;
  const directory = homePaths(settings.home).data;
  if (settings.kafka.brokers.length === 0) return await startFileDataStream({ ...options, directory, nowMs: Date.now });
  if (hasFileData(directory))
    throw new AppError(
      'settings_invalid',
      `/kafka/brokers: ${directory} holds data that was pushed without Kafka; push it again and remove that folder`,
    );
  const kafka = createKafkaClient(settings.kafka, 'edict-pdp-data', logger);
  const sender = createSender({ kafka, topic: DATA_TOPIC, logger });
  return await startKafkaDataStream({
    ...options,
    kafka,
    sender,
    directory: homePaths(settings.home).dataTopic,
    nowMs: Date.now,
  }).catch(async (error: unknown) => {
    await sender.close();
    throw error;
  });
};

/** Reads what was pushed, and takes pushes. Rejects with `data_corrupt`. */
export const startPushedData = async ({
  settings,
  logger,
}: {
  readonly settings: Settings;
  readonly logger: Logger;
}): Promise<PushedDataPart> => {
  let listener: DataListener = { changed: () => undefined, known: () => undefined };
  const enqueue = createWorkQueue(() => performance.now());
  const book = createDataBook({
    maxBytes: sizeBytes(settings.pdp.data_max),
    onChanged: (tenant) => listener.changed(tenant),
    async work(steps) {
      let done = steps.next();
      if (done.done !== true)
        await enqueue((mayGoOn) => {
          do done = steps.next();
          while (done.done !== true && mayGoOn());
          return done.done === true;
        });
      if (done.done !== true) throw new TypeError('a change was left undone');
      return done.value;
    },
    setTimer: (done, ms) => {
      const timer = setTimeout(done, ms);
      return () => clearTimeout(timer);
    },
  });
  const waitMs = durationMs(settings.pdp.data_wait);
  const stream = await startStream(settings, { book, onKnown: () => listener.known(), logger });
  return {
    ...createDataOwners({ push: stream.push, dataOf: book.of }),
    dataOf: book.of,
    artifactsOf(tenant) {
      const { document } = book.of(tenant);
      return function* (given) {
        for (const { digest, bytes: size, text } of unarchivedNodes(document, given))
          yield { digest, mediaType: DATA_MEDIA_TYPE, size, bytes: () => Buffer.from(text(), 'utf8') };
      };
    },
    isKnown: stream.isKnown,
    waitFor: (tenant, revision) => book.waitFor(tenant, revision, waitMs),
    follow(next) {
      listener = next;
    },
    async check(denied) {
      const found = await stream.check();
      // One tenant's trouble takes nothing from the others, so this stays ready.
      return denied === 0 || !found.ok ? found : { ok: true, facts: { ...found.facts, denied } };
    },
    unreadable: stream.unreadable,
    async close() {
      book.close();
      await stream.close();
    },
  };
};
