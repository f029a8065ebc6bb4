import { setTimeout as sleep } from 'node:timers/promises';
import { MAX_ACK_HOLES, signAck, type Ack } from '../../shared/contracts/ack.ts';
import { errorMessage } from '../../shared/contracts/errors.ts';
import type { SigningKey } from '../../shared/contracts/signatures.ts';
import type { Logger } from '../../shared/runtime/logger.ts';
import type { Log } from '../core/append.ts';
import { completeTo, rangeText, streamKey, type Stream } from '../core/ingest-stream.ts';

/** Where acknowledgements go. */
export interface AckSink {
  /** Makes `acks` known: all of one emitter. `changed`: those that differ from what was published before. */
  readonly publish: (emitter: string, acks: readonly Ack[], changed: readonly Ack[]) => Promise<void>;
  /** What this service published, signatures checked, also before a restart or a restored database. */
  readonly published: () => Promise<readonly Ack[]>;
  /** Why a publication that is on its way does not arrive; undefined when nothing is in its way. */
  readonly failure: () => string | undefined;
  /** What is still on its way is given up: its `publish` rejects. */
  readonly close: () => Promise<void>;
}

export interface AckPublisherOptions {
  readonly key: SigningKey;
  readonly logs: () => Promise<ReadonlyMap<string, Log>>;
  /** Every stream of one emitter, or of all. */
  readonly streams: (emitter?: string) => Promise<readonly Stream[]>;
  /** Makes everything committed before the call durable; sizes of the logs, by log id, that are durable then. */
  readonly flush: () => Promise<ReadonlyMap<number, bigint>>;
  /** Told how far streams are covered now, after a flush. */
  readonly onCovered?: (streams: readonly Stream[]) => Promise<void>;
  readonly sink: AckSink;
  readonly logger: Logger;
  /** The shortest time between two publications; default 200 ms. */
  readonly intervalMs?: number;
  /** How often everything is published again; default 30 s. */
  readonly refreshMs?: number;
  /** How long `close` waits for the last publication; default 2 s. */
  readonly closeMs?: number;
}

export interface AckPublisher {
  /** These streams moved. Never throws. */
  readonly changed: (streams: readonly Pick<Stream, 'emitter'>[]) => void;
  /** Publishes the streams of every emitter; resolves when that is done once. */
  readonly refresh: () => Promise<void>;
  /** Why acknowledgements do not get out; undefined when they do. */
  readonly failure: () => string | undefined;
  /** Publishes what is left, then stops; a publication that does not arrive in time is given up. */
  readonly close: () => Promise<void>;
}

const RETRY_MS = 1_000;
/** Streams whose last acknowledgement is remembered, to tell what changed. */
const MAX_REMEMBERED = 50_000;

const holesOf = (stream: Stream): Ack['holes'] => stream.holes.slice(0, MAX_ACK_HOLES).map(rangeText);

/** Tells whether an acknowledgement would say the same as the last. */
const boundsOf = (stream: Stream, log: Log): string =>
  `${log.origin} ${completeTo(stream)} ${holesOf(stream).join(' ')}`;

/**
 * Publishes signed acknowledgements. What they say is read from the database each time, so they go back where the
 * database does.
 */
export const createAckPublisher = (options: AckPublisherOptions): AckPublisher => {
  const { key, sink, logger, intervalMs = 200, refreshMs = 30_000, closeMs = 2_000 } = options;
  const closing = new AbortController();
  const dirty = new Set<string>();
  const last = new Map<string, { readonly bounds: string; readonly ack: Ack }>();
  let failure: string | undefined;
  let wake: () => void = () => undefined;

  const ackOf = (stream: Stream, log: Log, size: bigint): Ack => {
    const complete = completeTo(stream).toString();
    return signAck(key, {
      emitter: stream.emitter,
      boot: stream.boot.toString(),
      tenant: stream.tenant,
      complete_to: complete,
      holes: holesOf(stream),
      // Read before the flush, so all of it is durable now.
      covered_to: complete,
      origin: log.origin,
      tree_size: size.toString(),
    });
  };

  const publish = async (emitters: readonly string[], again: boolean): Promise<void> => {
    const logs = await options.logs();
    const streams = new Map<string, readonly Stream[]>();
    for (const emitter of emitters) streams.set(emitter, await options.streams(emitter));
    const sizes = await options.flush();
    for (const [emitter, own] of streams) {
      const changed: Ack[] = [];
      const acks = own.flatMap((stream) => {
        const log = logs.get(stream.tenant);
        const size = log === undefined ? undefined : sizes.get(log.id);
        if (log === undefined || size === undefined) return [];
        const name = streamKey(stream);
        const bounds = boundsOf(stream, log);
        const before = last.get(name);
        if (before?.bounds === bounds && !again) return [before.ack];
        const ack = ackOf(stream, log, size);
        changed.push(ack);
        if (last.size >= MAX_REMEMBERED) last.clear();
        last.set(name, { bounds, ack });
        return [ack];
      });
      try {
        if (changed.length > 0 || again) await sink.publish(emitter, acks, changed);
      } catch (error) {
        for (const stream of own) last.delete(streamKey(stream));
        throw error;
      }
    }
    await options.onCovered?.([...streams.values()].flat());
  };

  const attempt = async (emitters: readonly string[], again: boolean): Promise<boolean> => {
    try {
      await publish(emitters, again);
      if (failure !== undefined) logger.info('acknowledgements get out again');
      failure = undefined;
      return true;
    } catch (error) {
      if (failure === undefined) logger.warn({ err: error }, 'acknowledgements do not get out; trying again');
      failure = errorMessage(error);
      for (const emitter of emitters) dirty.add(emitter);
      return false;
    }
  };

  const refresh = async (): Promise<void> => {
    const emitters = new Set((await options.streams()).map(({ emitter }) => emitter));
    // An emitter whose streams a restored database does not know any more is told so.
    for (const { emitter } of await sink.published()) emitters.add(emitter);
    await publish([...emitters], true);
  };

  const work = async (): Promise<void> => {
    let refreshed = performance.now();
    while (!closing.signal.aborted) {
      if (dirty.size === 0)
        await new Promise<void>((resolve) => {
          const timer = setTimeout(resolve, Math.max(refreshMs - (performance.now() - refreshed), 0));
          wake = () => {
            clearTimeout(timer);
            resolve();
          };
        });
      if (closing.signal.aborted) break;
      const emitters = [...dirty];
      dirty.clear();
      const done = await attempt(emitters, false);
      if (performance.now() - refreshed >= refreshMs) {
        refreshed = performance.now();
        const all = await options.streams().catch(() => []);
        // What an emitter missed reaches it now, so this is also for streams that did not move.
        await attempt([...new Set(all.map(({ emitter }) => emitter))], true);
      }
      await sleep(done ? intervalMs : RETRY_MS, undefined, { signal: closing.signal }).catch(() => undefined);
    }
    if (dirty.size > 0) await attempt([...dirty], false);
  };
  const working = work();
  let refreshing: Promise<void> = Promise.resolve();

  return {
    changed(streams) {
      for (const { emitter } of streams) dirty.add(emitter);
      wake();
    },
    refresh() {
      refreshing = refresh();
      return refreshing;
    },
    // A sink that tries for ever rejects nothing, but knows why.
    failure: () => failure ?? sink.failure(),
    async close() {
      closing.abort();
      wake();
      const ended = Promise.allSettled([working, refreshing]);
      // What is not published now is published after the next start, from the database.
      const late = new AbortController();
      await Promise.race([ended, sleep(closeMs, undefined, { signal: late.signal }).catch(() => undefined)]);
      late.abort();
      await sink.close();
      await ended;
    },
  };
};
