import { getHeapStatistics } from 'node:v8';
import { Worker } from 'node:worker_threads';
import { AppError, errorCode, errorMessage, isAppError } from '../shared/contracts/errors.ts';
import { joinInTurns } from './policy/bytes-in-turns.ts';
import type { LoadBundle, LoadedBundle, LoadRequest } from './policy/load-bundle.ts';

export interface BundleLoaderOptions {
  /** What takes longer is refused, and its thread ended: a module, or a case of a bundle, may never come to an end. */
  readonly timeoutMs: number;
  /** Of the thread's JavaScript heap. Default: what the process itself may have. */
  readonly heapMaxBytes?: number;
  /** How long the thread waits for the next bundle before it ends. */
  readonly idleMs?: number;
}

export interface BundleLoader {
  /** As `loadBundle`. A thread that ends, hangs or has no memory left is `bundle_invalid` too. */
  readonly load: LoadBundle;
  /** Ends the thread, in whatever it is doing. */
  readonly close: () => Promise<void>;
}

/** What the thread says of a request. */
export type LoadAnswer =
  { readonly bundle: LoadedBundle } | { readonly error: Pick<AppError, 'code' | 'message' | 'details'> };

/** A thread costs a fifth of a second to start, and holds what it last loaded until it ends. */
const IDLE_MS = 10_000;
/** Of an instance. One that has more took longer to load than another thread takes to start. */
const KEPT_BYTES = 64 * 1024 * 1024;
const MIB = 1024 * 1024;
/** As much as the thread that will evaluate has: a case that needs more must fail here, too. */
const STACK_MIB = 1;

const refuse = (message: string, cause?: unknown): AppError => new AppError('bundle_invalid', message, { cause });

/** What runs from its sources needs the loader of TypeScript in each thread. */
const program = (url: URL): { readonly code: string | URL; readonly isText: boolean } =>
  url.pathname.endsWith('.ts')
    ? {
        code: `import('tsx/esm/api').then(({ register }) => { register(); return import(${JSON.stringify(url.href)}); });`,
        isText: true,
      }
    : { code: url, isText: false };

const startThread = (heapMaxBytes: number): Worker => {
  const isSource = import.meta.url.endsWith('.ts');
  const { code, isText } = program(new URL(`bundle-loader-main${isSource ? '.ts' : '.js'}`, import.meta.url));
  return new Worker(code, {
    eval: isText,
    // Those of this process are its own: to watch files, to preload, to debug.
    execArgv: [],
    name: 'bundle-loader',
    resourceLimits: { maxOldGenerationSizeMb: Math.ceil(heapMaxBytes / MIB), stackSizeMb: STACK_MIB },
  });
};

/**
 * The thread's answer. Rejects with what ended the thread, or else with `bundle_invalid` when it takes too long, and
 * with the reason of `stopping` when that is aborted.
 */
const answerOf = (thread: Worker, timeoutMs: number, stopping: AbortSignal): Promise<LoadAnswer> =>
  new Promise((resolve, reject) => {
    const forget = (): void => {
      clearTimeout(timer);
      thread.off('message', onMessage).off('messageerror', onEnd).off('error', onEnd).off('exit', onExit);
      stopping.removeEventListener('abort', onStop);
    };
    const onMessage = (answer: LoadAnswer): void => {
      forget();
      resolve(answer);
    };
    const onEnd = (cause: unknown): void => {
      forget();
      reject(cause);
    };
    const onExit = (code: number): void => onEnd(refuse(`the thread that loaded it ended with code ${code}`));
    const onStop = (): void => onEnd(stopping.reason);
    const timer = setTimeout(() => onEnd(refuse(`it was not loaded within ${timeoutMs} ms`)), timeoutMs);
    thread.on('message', onMessage).on('messageerror', onEnd).on('error', onEnd).on('exit', onExit);
    stopping.addEventListener('abort', onStop);
    if (stopping.aborted) onStop();
  });

/**
 * Loads bundles on a thread of its own, one at a time, so that this one goes on deciding: what it does here is to copy
 * the archive, in turns. The thread is started when there is something to load.
 */
export const createBundleLoader = (options: BundleLoaderOptions): BundleLoader => {
  const { timeoutMs, idleMs = IDLE_MS, heapMaxBytes = getHeapStatistics().heap_size_limit } = options;
  let thread: Worker | undefined;
  let idle: NodeJS.Timeout | undefined;
  let last: Promise<unknown> = Promise.resolve();
  let isClosed = false;

  const end = async (): Promise<void> => {
    clearTimeout(idle);
    const ended = thread;
    thread = undefined;
    await ended?.terminate();
  };

  const start = (): Worker => {
    const started = startThread(heapMaxBytes);
    // Whoever waits for an answer is told. One that ends while nobody does is no loss.
    started.on('error', () => undefined);
    started.on('exit', () => {
      if (thread === started) thread = undefined;
    });
    return started;
  };

  const refusalOf = (cause: unknown): unknown => {
    if (isAppError(cause)) return cause;
    if (errorCode(cause) === 'ERR_WORKER_OUT_OF_MEMORY')
      return refuse(`to load it takes more than the ${heapMaxBytes} bytes of memory that there are for it`, cause);
    return refuse(`the thread that loaded it failed: ${errorMessage(cause)}`, cause);
  };

  const ask = async (request: LoadRequest, signal: AbortSignal): Promise<LoadedBundle> => {
    const bytes = await joinInTurns([request.bytes]);
    const deltas = await Promise.all(request.deltas.map((delta) => joinInTurns([delta])));
    if (isClosed || signal.aborted) throw new AppError('internal', 'not loaded: stopping');
    clearTimeout(idle);
    let answer: LoadAnswer;
    try {
      const used = (thread ??= start());
      used.postMessage(
        { ...request, bytes, deltas } satisfies LoadRequest,
        [bytes, ...deltas].map(({ buffer }) => buffer),
      );
      answer = await answerOf(used, timeoutMs, signal);
    } catch (cause) {
      await end();
      throw isClosed || signal.aborted ? new AppError('internal', 'not loaded: stopping', { cause }) : refusalOf(cause);
    }
    if ('bundle' in answer && (answer.bundle.policy?.module.image.memoryBytes ?? 0) > KEPT_BYTES) await end();
    else idle = setTimeout(() => void end(), idleMs);
    if ('bundle' in answer) return answer.bundle;
    const { code, message, details } = answer.error;
    throw new AppError(code, message, { details });
  };

  return {
    load: async (request, signal) => {
      const loaded = last.then(() => ask(request, signal));
      last = loaded.catch(() => undefined);
      return await loaded;
    },
    close: async () => {
      isClosed = true;
      await end();
      await last;
      await end();
    },
  };
};
