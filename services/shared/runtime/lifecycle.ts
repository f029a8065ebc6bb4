import { AppError, errorMessage } from '../contracts/errors.ts';
import type { Logger } from './logger.ts';

/** Something started. `close` finishes what was accepted, then resolves; it is called once. */
export interface Handle {
  close(): Promise<void> | void;
}

/** The part of `process` that matters here. */
export interface ProcessEvents {
  on(event: string, listener: (...values: unknown[]) => void): unknown;
  off(event: string, listener: (...values: unknown[]) => void): unknown;
}

export interface Lifecycle {
  /**
   * Opens a part; it is closed, after all that were opened later, when the program stops. When opening fails,
   * everything opened before is closed and the error passed on. A stop while it is opening aborts the signal that
   * `open` is given: what then rejects has closed what it had, and that is a clean stop.
   */
  start<T extends Handle>(name: string, open: (stopping: AbortSignal) => Promise<T> | T): Promise<T>;
  /** Closes everything in reverse order, once; later calls get the same promise. Never rejects. */
  stop(reason: string): Promise<void>;
  /** Resolves with true when everything is closed, with false when a part failed to close or was too slow. */
  readonly stopped: Promise<boolean>;
}

const DEFAULT_DEADLINE_MS = 30_000;
const SIGNALS = ['SIGTERM', 'SIGINT'] as const;

/**
 * Starts in order, stops in reverse: once, on SIGTERM or SIGINT, with a deadline for the whole stop. A second
 * signal exits at once. An uncaught exception or unhandled rejection exits with 1 without a clean stop: the state
 * is unknown then, and whatever was answered is in the spool.
 */
export const createLifecycle = (options: {
  readonly logger: Logger;
  readonly deadlineMs?: number;
  readonly events?: ProcessEvents;
  readonly exit?: (code: number) => void;
}): Lifecycle => {
  const { logger, deadlineMs = DEFAULT_DEADLINE_MS } = options;
  const events: ProcessEvents = options.events ?? process;
  const exit = options.exit ?? ((code: number) => process.exit(code));
  const open: { readonly name: string; readonly handle: Handle }[] = [];
  let stopping: Promise<void> | undefined;
  let isSignalled = false;
  const aborting = new AbortController();
  /** What is being opened right now; a stop waits for it, so that it is closed too. */
  let opening: Promise<unknown> = Promise.resolve();
  let settle: (clean: boolean) => void = () => undefined;
  const stopped = new Promise<boolean>((resolve) => {
    settle = resolve;
  });

  const closeAll = async (): Promise<boolean> => {
    let clean = true;
    await opening;
    for (let part = open.pop(); part !== undefined; part = open.pop()) {
      try {
        await part.handle.close();
        logger.debug({ part: part.name }, 'closed');
      } catch (error) {
        clean = false;
        logger.error({ part: part.name, err: error }, 'could not close');
      }
    }
    return clean;
  };

  const finish = async (): Promise<void> => {
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<'late'>((resolve) => {
      timer = setTimeout(() => resolve('late'), deadlineMs);
    });
    const outcome = await Promise.race([closeAll(), late]);
    clearTimeout(timer);
    if (outcome === 'late') logger.error({ deadline_ms: deadlineMs }, 'did not stop in time');
    for (const signal of SIGNALS) events.off(signal, onSignal);
    events.off('uncaughtException', onCrash);
    events.off('unhandledRejection', onCrash);
    if (outcome === true) logger.info('stopped');
    settle(outcome === true);
    // At once, before whoever waits for a part that is not started any more makes an error of it.
    if (isSignalled) exit(outcome === true ? 0 : 1);
  };

  const stop = (reason: string): Promise<void> => {
    if (stopping === undefined) {
      logger.info({ reason }, 'stopping');
      aborting.abort(new AppError('internal', `not started: stopping (${reason})`));
      stopping = finish();
    }
    return stopping;
  };

  const onSignal = (signal: unknown): void => {
    if (stopping !== undefined) {
      logger.warn({ signal }, 'second signal: exiting at once');
      exit(1);
      return;
    }
    isSignalled = true;
    void stop(String(signal));
  };
  const onCrash = (error: unknown): void => {
    logger.fatal({ err: error, error: errorMessage(error) }, 'uncaught');
    exit(1);
  };
  for (const signal of SIGNALS) events.on(signal, onSignal);
  events.on('uncaughtException', onCrash);
  events.on('unhandledRejection', onCrash);

  return {
    async start(name, opener) {
      if (stopping !== undefined) throw new AppError('internal', `cannot start ${name}: stopping`);
      const opened = Promise.resolve()
        .then(() => opener(aborting.signal))
        .then((handle) => {
          open.push({ name, handle });
          return handle;
        });
      opening = opened.catch(() => undefined);
      try {
        const handle = await opened;
        if (stopping !== undefined) throw new AppError('internal', `${name} is closed again: stopping`);
        return handle;
      } catch (error) {
        await stop(`could not start ${name}`);
        throw error;
      }
    },
    stop,
    stopped,
  };
};
