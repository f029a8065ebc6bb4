import { setImmediate as nextTurn } from 'node:timers/promises';

/** Works as long as `mayGoOn`; true when all is done. Throws what makes it useless to go on. */
export type Task = (mayGoOn: () => boolean) => boolean;

/** Has a task done; see `createWorkQueue`. */
export type InTurns = (task: Task) => Promise<void>;

/** How long work may keep the event loop before others get their turn. */
export const TURN_MS = 4;

/** True until so much time has passed. */
export const within = (ms: number, monotonicMs: () => number): (() => boolean) => {
  const endMs = monotonicMs() + ms;
  return () => monotonicMs() < endMs;
};

/**
 * Work that is too long for one turn of the event loop. All tasks together have `TURN_MS` of each turn, one after the
 * other in a circle, so a long one does not keep a short one waiting. A promise resolves when its task is done, and
 * rejects with what it threw.
 */
export const createWorkQueue = (monotonicMs: () => number): InTurns => {
  interface Queued {
    readonly task: Task;
    readonly resolve: () => void;
    readonly reject: (cause: unknown) => void;
  }
  const queue: Queued[] = [];
  let isRunning = false;

  const run = async (): Promise<void> => {
    isRunning = true;
    await nextTurn();
    for (let next = queue.shift(); next !== undefined; next = queue.shift()) {
      const { task, resolve, reject } = next;
      try {
        if (task(within(TURN_MS, monotonicMs))) resolve();
        else queue.push(next);
      } catch (cause) {
        reject(cause);
      }
      await nextTurn();
    }
    isRunning = false;
  };

  return (task) =>
    new Promise((resolve, reject) => {
      queue.push({ task, resolve, reject });
      if (!isRunning) void run();
    });
};
