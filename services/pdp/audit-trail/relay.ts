import type { Sender, SenderStatus } from '../../shared/kafka/sender.ts';
import type { Logger } from '../../shared/runtime/logger.ts';
import { acquireLock, isLockHeld, type HeldLock } from '../../shared/spool/lock.ts';
import type { SegmentSummary } from '../../shared/spool/segments.ts';
import { listSpools, slotPaths } from '../../shared/spool/slots.ts';
import type { AckBook } from './ack-book.ts';
import type { ResendTimings } from './resend-plan.ts';
import { startSlotRelay, type SlotRelay, type SlotRelayStatus } from './slot-relay.ts';

export interface RelayOptions {
  readonly home: string;
  readonly sender: Sender;
  readonly acks: AckBook;
  readonly timings: ResendTimings;
  readonly nowMs: () => number;
  readonly logger: Logger;
  /** The slot that this process's emitter holds. */
  readonly ownSlot: () => string | undefined;
  readonly segmentsOf: (emitter: string) => readonly SegmentSummary[] | undefined;
  readonly onConfirmed: (emitter: string, next: bigint) => void;
  /** How often slots are looked for. */
  readonly scanMs?: number;
}

export interface RelayStatus {
  readonly kafka: SenderStatus;
  readonly slots: readonly SlotRelayStatus[];
}

export interface Relay {
  readonly status: () => RelayStatus;
  /** Resolves when the broker has every record of `emitter` below `next`, or when `deadlineMs` passed. */
  readonly drain: (emitter: string, next: bigint, deadlineMs: number) => Promise<boolean>;
  /** Saves the cursors. What the broker did not confirm is sent by the next relay. */
  readonly close: () => Promise<void>;
}

const SCAN_MS = 1_000;
const DRAIN_POLL_MS = 20;

/**
 * Passes spools on to Kafka: that of this process's emitter, and every other slot under `home` that has no living
 * worker, since nobody else would. One relay serves a slot at a time (lock `relay`).
 */
export const startRelay = (options: RelayOptions): Relay => {
  const { home, logger } = options;
  const serving = new Map<string, { readonly relay: SlotRelay; readonly lock: HeldLock }>();
  const closing = new AbortController();
  let wake: (() => void) | undefined;

  const stopServing = async (slot: string): Promise<void> => {
    const served = serving.get(slot);
    if (served === undefined) return;
    await served.relay.close();
    serving.delete(slot);
    await served.lock.release();
  };

  const scan = async (): Promise<void> => {
    const { spools } = listSpools(home);
    for (const spool of spools) {
      if (closing.signal.aborted) return;
      const paths = slotPaths(home, spool.slot);
      const own = options.ownSlot() === spool.slot;
      const served = serving.get(spool.slot);
      // The process of a living worker relays for itself: only it can say that its events reached the broker.
      if (!own && !spool.slot.includes('.') && (await isLockHeld(paths.directory))) {
        await stopServing(spool.slot);
        continue;
      }
      if (served !== undefined) {
        if (served.relay.status().emitter !== spool.emitter) await stopServing(spool.slot);
        else continue;
      }
      const lock = await acquireLock(paths.directory, 'relay');
      if (lock === undefined) continue;
      const relay = startSlotRelay({
        spool,
        cursorFile: paths.relayCursor,
        sender: options.sender,
        acks: options.acks,
        timings: options.timings,
        nowMs: options.nowMs,
        logger,
        segmentsOf: options.segmentsOf,
        onConfirmed: options.onConfirmed,
      });
      serving.set(spool.slot, { relay, lock });
      void relay.ended.finally(() => {
        if (serving.get(spool.slot)?.relay === relay) void stopServing(spool.slot);
      });
    }
  };

  const run = async (): Promise<void> => {
    while (!closing.signal.aborted) {
      try {
        await scan();
      } catch (error) {
        logger.error({ err: error }, 'the slots cannot be looked at');
      }
      if (closing.signal.aborted) return;
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, options.scanMs ?? SCAN_MS);
        wake = () => {
          clearTimeout(timer);
          resolve();
        };
      });
    }
  };
  const running = run();

  const slots = (): readonly SlotRelayStatus[] => [...serving.values()].map(({ relay }) => relay.status());

  return {
    status: () => ({ kafka: options.sender.status(), slots: slots() }),
    async drain(emitter, next, deadlineMs) {
      const end = performance.now() + deadlineMs;
      for (;;) {
        const slot = slots().find((status) => status.emitter === emitter);
        if (slot !== undefined && slot.next >= next) return true;
        if (performance.now() >= end) return false;
        await new Promise((resolve) => setTimeout(resolve, DRAIN_POLL_MS));
      }
    },
    async close() {
      closing.abort();
      wake?.();
      await running;
      // Whoever waits for the broker gets an error, and the slots end.
      const stopping = Array.from(serving.keys(), stopServing);
      await options.sender.close();
      await Promise.all(stopping);
    },
  };
};
