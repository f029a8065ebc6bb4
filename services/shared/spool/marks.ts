import type { AppError } from '../contracts/errors.ts';

/** Promises that resolve when a mark (a count of records) passes a record's number. */
export interface MarkWaiters {
  /** Resolves when the mark is above `number`. Calls of one event-loop turn share a promise. */
  readonly waitFor: (number: bigint) => Promise<void>;
  /** The next `waitFor` begins a new group. */
  readonly seal: () => void;
  readonly advance: (mark: bigint) => void;
  /** Rejects everybody who waits, and everybody who comes later. */
  readonly fail: (error: AppError) => void;
}

interface Group {
  last: bigint;
  open: boolean;
  readonly promise: Promise<void>;
  readonly resolve: () => void;
  readonly reject: (error: AppError) => void;
  readonly timer: NodeJS.Timeout | undefined;
}

const RESOLVED = Promise.resolve();

/** With `timeout`, a group that was not reached within `ms` of its first call is rejected with `error()`. */
export const createMarkWaiters = (timeout?: { readonly ms: number; readonly error: () => AppError }): MarkWaiters => {
  let groups: Group[] = [];
  let mark = 0n;
  let failure: AppError | undefined;

  const newGroup = (last: bigint): Group => {
    let settle: { resolve: () => void; reject: (error: AppError) => void } | undefined;
    const promise = new Promise<void>((resolve, reject) => {
      settle = { resolve, reject };
    });
    // Whoever waits sees the rejection; nobody may be waiting, which is no fault.
    promise.catch(() => undefined);
    const group: Group = {
      last,
      open: true,
      promise,
      resolve: () => settle?.resolve(),
      reject: (error) => settle?.reject(error),
      timer:
        timeout === undefined
          ? undefined
          : setTimeout(() => {
              groups = groups.filter((other) => other !== group);
              group.reject(timeout.error());
            }, timeout.ms),
    };
    groups.push(group);
    return group;
  };

  return {
    waitFor(number) {
      if (number < mark) return RESOLVED;
      if (failure !== undefined) {
        const rejected = Promise.reject(failure);
        rejected.catch(() => undefined);
        return rejected;
      }
      const last = groups.at(-1);
      const group = last?.open === true ? last : newGroup(number);
      if (group.last < number) group.last = number;
      return group.promise;
    },
    seal() {
      const last = groups.at(-1);
      if (last !== undefined) last.open = false;
    },
    advance(next) {
      if (next <= mark) return;
      mark = next;
      let done = 0;
      for (const group of groups) {
        if (group.last >= mark) break;
        clearTimeout(group.timer);
        group.resolve();
        done += 1;
      }
      if (done > 0) groups = groups.slice(done);
    },
    fail(error) {
      failure ??= error;
      const waiting = groups;
      groups = [];
      for (const group of waiting) {
        clearTimeout(group.timer);
        group.reject(failure);
      }
    },
  };
};
