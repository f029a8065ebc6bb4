import { setTimeout as delay } from 'node:timers/promises';
import { AppError, errorMessage, isAppError } from '../../shared/contracts/errors.ts';
import { isDelta } from './bundle-delta.ts';
import { requestBundle, type BundleServer } from './bundle-request.ts';

export interface HttpSourceOptions extends BundleServer {
  /** Between two requests when the server does not wait; each pause is between half of it and all of it. */
  readonly pollMs: number;
  /** How long the server may hold a request until there is a new version; undefined: no long polling. */
  readonly longPollMs: number | undefined;
}

/** A version of the bundle that the server gave. */
export interface Downloaded {
  /** The last whole one. */
  readonly bytes: Uint8Array;
  /** What came after it, oldest first. */
  readonly deltas: readonly Uint8Array[];
  readonly etag: string | undefined;
  /** When the server last said that this is the one, milliseconds since 1970. */
  readonly confirmedMs: number;
}

export interface RemoteStatus {
  readonly url: string;
  readonly etag: string | undefined;
  readonly confirmedMs: number | undefined;
  /** Failures since the last good answer, and what the last one was. */
  readonly failures: number;
  readonly error: string | undefined;
  readonly longPolling: boolean;
  /** How many came since the last whole bundle. */
  readonly deltas: number;
}

export interface HttpSource {
  /** What the server has. Waits a moment for the first answer; throws `upstream_unavailable` when the last one failed. */
  readonly current: () => Promise<Downloaded>;
  /** A version from an earlier life, so that the server need not send it again. Before `start`. */
  readonly seed: (kept: Omit<Downloaded, 'confirmedMs'>) => void;
  /** Asks for a whole bundle at once, if the last answer was none. */
  readonly resync: () => void;
  /** Begins to ask. `onChange` is called when what `current` gives may have changed. */
  readonly start: (onChange: () => void) => void;
  readonly status: () => RemoteStatus;
  readonly close: () => Promise<void>;
}

/** A start does not wait longer for a server: what was kept decides until then. */
const FIRST_ANSWER_MS = 5_000;
const BACKOFF_FIRST_MS = 500;
const BACKOFF_MAX_MS = 60_000;
/** After so many a whole bundle is asked for: each is applied again whenever one follows. */
const MAX_DELTAS = 16;
/** A server that answers a long poll sooner with nothing new does not wait: it is asked as any other. */
const HELD_MS = 1_000;

/** Half is certain, half is random: clients that failed together do not come back together. */
const jittered = (ms: number, random: () => number): number => ms / 2 + (ms / 2) * random();

/** How long to wait after `failures` failures in a row, before jitter. */
export const backoffMs = (failures: number): number =>
  Math.min(BACKOFF_MAX_MS, BACKOFF_FIRST_MS * 2 ** Math.min(failures - 1, 16));

const retryAfterMs = (error: unknown): number => {
  const value = isAppError(error) ? error.details['retry_after_ms'] : undefined;
  return typeof value === 'number' ? Math.min(value, BACKOFF_MAX_MS) : 0;
};

/** Asks a bundle server again and again, as OPA does: ETag, long polling, pauses with jitter, backoff. */
export const createHttpSource = (
  options: HttpSourceOptions,
  { nowMs, random = Math.random }: { readonly nowMs: () => number; readonly random?: () => number },
): HttpSource => {
  const { url, pollMs, longPollMs } = options;
  const stop = new AbortController();
  let here: Omit<Downloaded, 'confirmedMs'> | undefined;
  let wantsWhole = false;
  let interruption = new AbortController();
  let confirmedMs: number | undefined;
  let error: AppError | undefined;
  let failures = 0;
  let waits = longPollMs !== undefined;
  let running: Promise<void> | undefined;
  let onChange = (): void => undefined;
  let settleFirst = (): void => undefined;
  let first: Promise<void> | undefined = new Promise<void>((resolve) => {
    settleFirst = () => {
      first = undefined;
      resolve();
    };
  });

  /** Gives the pause until the next request. */
  const askOnce = async (): Promise<number> => {
    // The first request of a life is answered at once, so that a start knows where it stands.
    const waitMs = waits && confirmedMs !== undefined && failures === 0 ? (longPollMs ?? 0) : 0;
    const askedMs = nowMs();
    const etag = wantsWhole ? undefined : here?.etag;
    const base = etag !== undefined && here !== undefined && here.deltas.length < MAX_DELTAS ? here : undefined;
    const takesDelta = base !== undefined;
    const signal = AbortSignal.any([stop.signal, interruption.signal]);
    const answer = await requestBundle(options, { etag, takesDelta, waitMs: wantsWhole ? 0 : waitMs, signal });
    const wasBroken = error !== undefined || confirmedMs === undefined;
    [error, failures] = [undefined, 0];
    confirmedMs = nowMs();
    if (answer.status === 'bundle') {
      here =
        base !== undefined && (await isDelta(answer.bytes))
          ? { bytes: base.bytes, deltas: [...base.deltas, answer.bytes], etag: answer.etag }
          : { bytes: answer.bytes, deltas: [], etag: answer.etag };
      wantsWhole = false;
      waits = answer.waits && longPollMs !== undefined;
    }
    if (wasBroken || answer.status === 'bundle') onChange();
    const isHeld = waitMs > 0 && (answer.status === 'bundle' || confirmedMs - askedMs >= HELD_MS);
    const isFirstOfMany = waits && waitMs === 0;
    return isHeld || isFirstOfMany ? 0 : jittered(pollMs, random);
  };

  const run = async (): Promise<void> => {
    while (!stop.signal.aborted) {
      let pauseMs: number;
      try {
        pauseMs = await askOnce();
      } catch (cause) {
        if (stop.signal.aborted) return;
        if (interruption.signal.aborted) {
          interruption = new AbortController();
          continue;
        }
        error = isAppError(cause) ? cause : new AppError('internal', errorMessage(cause), { cause });
        failures += 1;
        pauseMs = Math.max(jittered(backoffMs(failures), random), retryAfterMs(cause));
        if (failures === 1) onChange();
      }
      settleFirst();
      const signal = AbortSignal.any([stop.signal, interruption.signal]);
      await delay(pauseMs, undefined, { signal, ref: false }).catch(() => undefined);
      if (interruption.signal.aborted) interruption = new AbortController();
    }
  };

  return {
    current: async () => {
      if (first !== undefined) await Promise.race([first, delay(FIRST_ANSWER_MS, undefined, { ref: false })]);
      if (error !== undefined) throw error;
      if (here === undefined || confirmedMs === undefined)
        throw new AppError('upstream_unavailable', `${url}: no answer yet`);
      return { ...here, confirmedMs };
    },
    seed: (kept) => {
      if (kept.etag !== undefined) here = kept;
    },
    resync: () => {
      if (wantsWhole || here === undefined || here.deltas.length === 0) return;
      wantsWhole = true;
      interruption.abort();
    },
    start: (changed) => {
      onChange = changed;
      running ??= run();
    },
    status: () => ({
      url,
      etag: here?.etag,
      confirmedMs,
      failures,
      error: error === undefined ? undefined : errorMessage(error),
      longPolling: waits,
      deltas: here?.deltas.length ?? 0,
    }),
    close: async () => {
      stop.abort();
      settleFirst();
      await running;
    },
  };
};
