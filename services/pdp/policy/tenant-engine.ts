import { errorMessage } from '../../shared/contracts/errors.ts';
import type { EngineShelf, Place } from '../core/engine-shelf.ts';
import type { Evaluate } from '../core/evaluate.ts';
import type { EngineLimits } from './engine/host.ts';
import { NoMemoryLeft } from './engine/memory-pool.ts';
import type { PolicySnapshot } from './policy-set.ts';
import type { ForkedEvaluator } from './wasm-evaluator.ts';
import { TURN_MS, within, type InTurns, type Task } from './work-queue.ts';

export type TroubleCode =
  /** The set cannot be used with the tenant's data. */
  | 'policy_unavailable'
  /** It would not fit if it were the only engine, or the machine has no memory. */
  | 'engine_no_room'
  /** It is being made, or what else is being made leaves it no room. */
  | 'engine_busy';

export interface Trouble {
  readonly code: TroubleCode;
  readonly reason: string;
  /** When it may be tried again, `monotonicMs`; undefined: only with other data or another set. */
  readonly untilMs: number | undefined;
}

export interface TenantEngineOptions {
  readonly snapshot: PolicySnapshot;
  readonly limits: EngineLimits | undefined;
  readonly shelf: EngineShelf;
  /** Called before it takes memory: what loading the set left behind is taken over now. */
  readonly claim: () => void;
  readonly inTurns: InTurns;
  readonly monotonicMs: () => number;
  readonly onTrouble: (trouble: Trouble) => void;
}

/** The engines of one tenant for one set of bundles: idle, being made, or live. */
export interface TenantEngine extends Pick<ForkedEvaluator, 'changeData' | 'bytes'> {
  /** As every `Evaluate`; an engine that lost its memory since `bring` gets it back first. */
  readonly evaluate: Evaluate;
  /** True: it evaluates at once. What takes longer than a few milliseconds goes on by itself (`making`). */
  readonly bring: () => boolean;
  /** Resolves when nothing more is done, whatever came of it. */
  readonly making: () => Promise<void> | undefined;
  readonly trouble: () => Trouble | undefined;
  readonly isLive: () => boolean;
  /** It counts no more: another one decides for the tenant. Whoever still holds it can evaluate to the end. */
  readonly retire: () => void;
}

const RETRY_MS = 1_000;

export const createTenantEngine = (options: TenantEngineOptions): TenantEngine => {
  const { snapshot, shelf, monotonicMs } = options;
  const engines = snapshot.fork(options.limits);
  let place: Place | undefined;
  let making: Promise<void> | undefined;
  let trouble: Trouble | undefined;
  let isRetired = false;
  /** What it had when it was last ready: bundles and pushed data. */
  let neededBytes = snapshot.instanceBytes;

  const fail = (code: TroubleCode, reason: string, retryMs: number | undefined): false => {
    trouble = { code, reason, untilMs: retryMs === undefined ? undefined : monotonicMs() + retryMs };
    if (code !== 'engine_busy') options.onTrouble(trouble);
    return false;
  };
  const failTooLarge = (): false =>
    fail('engine_no_room', `an engine of ${neededBytes} bytes is more than pdp.engines.memory_max`, undefined);

  const broke = (cause: unknown): false => {
    place?.drop();
    engines.release();
    return cause instanceof NoMemoryLeft
      ? fail('engine_no_room', errorMessage(cause), RETRY_MS)
      : fail('policy_unavailable', errorMessage(cause), undefined);
  };

  const takePlace = (): boolean => {
    if (place?.isLive() === true) return true;
    options.claim();
    const admission = shelf.admit(neededBytes, engines.release);
    switch (admission.kind) {
      case 'admitted':
        place = admission.place;
        return true;
      case 'too_large':
        return failTooLarge();
      case 'busy':
        return fail('engine_busy', 'engines that are being made leave no room', 0);
      default:
        return admission satisfies never;
    }
  };

  const settle = (): boolean => {
    // Nobody else needs it: whoever comes next copies the image.
    snapshot.unclaimed.release();
    neededBytes = engines.bytes();
    place?.setReady(true);
    place?.use(neededBytes);
    return place?.isLive() === true || failTooLarge();
  };

  const work: Task = (mayGoOn) => {
    try {
      return engines.work(mayGoOn);
    } catch (cause) {
      if (!(cause instanceof NoMemoryLeft)) throw cause;
      shelf.clear(place);
      return engines.work(mayGoOn);
    }
  };

  const makeLater = (): void => {
    making = options
      .inTurns((mayGoOn) => isRetired || work(mayGoOn))
      .then(
        () => {
          making = undefined;
          if (!isRetired) settle();
        },
        (cause: unknown) => {
          making = undefined;
          if (!isRetired) broke(cause);
        },
      );
  };

  return {
    evaluate(input, nowMs) {
      if (!isRetired && place?.isLive() !== true && !takePlace()) {
        const message = trouble?.reason ?? 'there is no room for an engine';
        return { outcome: 'fault', code: 'policy_memory', message, fuelUsed: 0, fuelLimit: 0 };
      }
      const result = engines.evaluate(input, nowMs);
      if (!isRetired) place?.use(engines.bytes());
      return result;
    },
    changeData: engines.changeData,
    bring() {
      if (making !== undefined) return false;
      if (engines.isReady()) return true;
      if (trouble !== undefined && (trouble.untilMs === undefined || monotonicMs() < trouble.untilMs)) return false;
      trouble = undefined;
      if (!takePlace()) return false;
      place?.setReady(false);
      try {
        if (work(within(TURN_MS, monotonicMs))) return settle();
      } catch (cause) {
        return broke(cause);
      }
      makeLater();
      return false;
    },
    making: () => making,
    trouble: () => trouble,
    isLive: () => place?.isLive() === true,
    bytes: engines.bytes,
    retire() {
      isRetired = true;
      place?.drop();
    },
  };
};
