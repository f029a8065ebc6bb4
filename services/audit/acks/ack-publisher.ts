import { setTimeout as sleep } from 'node:timers/promises';
import { ackKey, MAX_ACK_HOLES, signAck, type Ack } from '../../shared/contracts/ack.ts';
import { errorMessage } from '../../shared/contracts/errors.ts';
import type { SigningKey } from '../../shared/contracts/signatures.ts';
import type { Logger } from '../../shared/runtime/logger.ts';
import type { Log } from '../core/append.ts';
import { completeTo, rangeText, streamKey, type AckedStream, type Stream } from '../core/ingest-stream.ts';

/** Where acknowledgements go. */
export interface AckSink {
  /**
   * Makes `acks` known: of one emitter, all that anything is expected of. `changed`: those that differ from what was
   * published before, and perhaps others.
   */
  readonly publish: (emitter: string, acks: readonly Ack[], changed: readonly Ack[]) => Promise<void>;
  /** What this service published, signatures checked, also before a restart or a restored database. */
  readonly published: () => Promise<readonly Ack[]>;
  /**
   * Where a publication replaces the one before: the emitters whose spools may still hold something, each with the
   * first boot in it, whose streams must stay among `acks`. Elsewhere what was published stays: nothing.
   */
  readonly held: () => Promise<ReadonlyMap<string, bigint>>;
  /** Why a publication that is on its way does not arrive; undefined when nothing is in its way. */
  readonly failure: () => string | undefined;
  /** What is still on its way is given up: its `publish` rejects. */
  readonly close: () => Promise<void>;
}

/**
 * Every stream of one emitter, or of all. With `recent` only those of which something may still be expected or that
 * changed a short time ago, and those of the boots from `fromBoot` on.
 */
export type ReadAckedStreams = (
  emitter: string | undefined,
  recent?: { readonly fromBoot?: bigint | undefined },
) => Promise<readonly AckedStream[]>;

export interface AckPublisherOptions {
  readonly key: SigningKey;
  readonly logs: () => Promise<ReadonlyMap<string, Log>>;
  readonly streams: ReadAckedStreams;
  /** Makes everything committed before the call durable; sizes of the logs, by log id, that are durable then. */
  readonly flush: () => Promise<ReadonlyMap<number, bigint>>;
  /** Told how far streams are covered now, after a flush. */
  readonly onCovered?: (streams: readonly AckedStream[]) => Promise<void>;
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
  readonly changed: (streams: readonly Pick<Stream, 'emitter' | 'boot'>[]) => void;
  /**
   * Publishes the streams of every emitter that anything is expected of, and those of which what was published differs
   * from the database; resolves when that is done once.
   */
  readonly refresh: () => Promise<void>;
  /** Why acknowledgements do not get out; undefined when they do. */
  readonly failure: () => string | undefined;
  /** Publishes what is left, then stops; a publication that does not arrive in time is given up. */
  readonly close: () => Promise<void>;
}

const RETRY_MS = 1_000;
/** Streams whose last acknowledgement is remembered, to tell what changed. */
const MAX_REMEMBERED = 50_000;

/** No boot is later. */
const LAST_BOOT = 2n ** 64n - 1n;

const earlier = (a: bigint | undefined, b: bigint | undefined): bigint | undefined =>
  a === undefined || (b !== undefined && b < a) ? b : a;

const holesOf = (stream: Stream): Ack['holes'] => stream.holes.slice(0, MAX_ACK_HOLES).map(rangeText);

/** Tells whether an acknowledgement would say the same as the last. */
const boundsOf = (stream: AckedStream, log: Log): string =>
  `${log.origin} ${completeTo(stream)} ${stream.coveredTo} ${holesOf(stream).join(' ')}`;

/** The same of what was published. */
const boundsOfAck = ({ origin, complete_to: to, covered_to: covered, holes }: Ack): string =>
  `${origin} ${to} ${covered} ${holes.join(' ')}`;

/**
 * Publishes signed acknowledgements. What they say is read from the database each time, so they go back where the
 * database does.
 */
export const createAckPublisher = (options: AckPublisherOptions): AckPublisher => {
  const { key, sink, logger, intervalMs = 200, refreshMs = 30_000, closeMs = 2_000 } = options;
  const closing = new AbortController();
  /** Emitters to be said again, each with its first boot that moved: what is closed is said once more, too. */
  const dirty = new Map<string, bigint>();
  const last = new Map<string, { readonly bounds: string; readonly ack: Ack }>();
  let failure: string | undefined;
  let wake: () => void = () => undefined;

  const markDirty = (emitter: string, boot: bigint): void => {
    dirty.set(emitter, earlier(dirty.get(emitter), boot) ?? boot);
  };

  const ackOf = (stream: AckedStream, log: Log, size: bigint): Ack =>
    signAck(key, {
      emitter: stream.emitter,
      boot: stream.boot.toString(),
      tenant: stream.tenant,
      complete_to: completeTo(stream).toString(),
      holes: holesOf(stream),
      // Read before the flush, so all of it is durable now.
      covered_to: stream.coveredTo.toString(),
      origin: log.origin,
      tree_size: size.toString(),
    });

  /** With `before`, what was published once, also the streams that nothing is expected of and that differ from it. */
  const publish = async (
    emitters: ReadonlyMap<string, bigint | undefined>,
    again: boolean,
    before?: ReadonlyMap<string, Ack>,
  ): Promise<void> => {
    const logs = await options.logs();
    const held = await sink.held();
    const streams = new Map<
      string,
      { readonly recent: readonly AckedStream[]; readonly older: readonly AckedStream[] }
    >();
    for (const [emitter, moved] of emitters) {
      const recent = await options.streams(emitter, { fromBoot: earlier(held.get(emitter), moved) });
      const names = new Set(recent.map(streamKey));
      const all = before === undefined ? [] : await options.streams(emitter);
      streams.set(emitter, { recent, older: all.filter((stream) => !names.has(streamKey(stream))) });
    }
    const sizes = await options.flush();
    for (const [emitter, { recent, older }] of streams) {
      const changed: Ack[] = [];
      const acks = recent.flatMap((stream) => {
        const log = logs.get(stream.tenant);
        const size = log === undefined ? undefined : sizes.get(log.id);
        if (log === undefined || size === undefined) return [];
        const name = streamKey(stream);
        const bounds = boundsOf(stream, log);
        const known = last.get(name);
        if (known?.bounds === bounds && !again) return [known.ack];
        const ack = ackOf(stream, log, size);
        changed.push(ack);
        if (last.size >= MAX_REMEMBERED) last.clear();
        last.set(name, { bounds, ack });
        return [ack];
      });
      for (const stream of older) {
        const log = logs.get(stream.tenant);
        const size = log === undefined ? undefined : sizes.get(log.id);
        if (log === undefined || size === undefined) continue;
        const published = before?.get(streamKey(stream));
        if (published === undefined || boundsOfAck(published) !== boundsOf(stream, log))
          changed.push(ackOf(stream, log, size));
      }
      try {
        if (changed.length > 0 || again) await sink.publish(emitter, acks, changed);
      } catch (error) {
        for (const stream of recent) last.delete(streamKey(stream));
        throw error;
      }
    }
    await options.onCovered?.([...streams.values()].flatMap(({ recent }) => recent));
  };

  const attempt = async (emitters: ReadonlyMap<string, bigint | undefined>, again: boolean): Promise<boolean> => {
    try {
      await publish(emitters, again);
      if (failure !== undefined) logger.info('acknowledgements get out again');
      failure = undefined;
      return true;
    } catch (error) {
      if (failure === undefined) logger.warn({ err: error }, 'acknowledgements do not get out; trying again');
      failure = errorMessage(error);
      for (const [emitter, boot] of emitters) markDirty(emitter, boot ?? LAST_BOOT);
      return false;
    }
  };

  const refresh = async (): Promise<void> => {
    const emitters = new Set((await options.streams(undefined)).map(({ emitter }) => emitter));
    const published = new Map((await sink.published()).map((ack) => [ackKey(ack), ack]));
    // An emitter whose streams a restored database does not know any more is told so.
    for (const { emitter } of published.values()) emitters.add(emitter);
    await publish(new Map([...emitters].map((emitter) => [emitter, undefined])), true, published);
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
      const emitters = new Map(dirty);
      dirty.clear();
      const done = await attempt(emitters, false);
      if (performance.now() - refreshed >= refreshMs) {
        refreshed = performance.now();
        const all = await options.streams(undefined, {}).catch(() => []);
        // What an emitter missed reaches it now, so this is also for streams that did not move.
        await attempt(new Map(all.map(({ emitter }) => [emitter, undefined])), true);
      }
      await sleep(done ? intervalMs : RETRY_MS, undefined, { signal: closing.signal }).catch(() => undefined);
    }
    if (dirty.size > 0) await attempt(new Map(dirty), false);
  };
  const working = work();
  let refreshing: Promise<void> = Promise.resolve();

  return {
    changed(streams) {
      for (const { emitter, boot } of streams) markDirty(emitter, boot);
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
