import { AppError, type ErrorCode } from '../../shared/contracts/errors.ts';
import type { Logger } from '../../shared/runtime/logger.ts';
import {
  isToPrimary,
  type GroupAnswers,
  type GroupStatus,
  type Orders,
  type Question,
  type ToWorker,
} from './messages.ts';
import { createSwitchboard } from './switchboard.ts';

/** A forked worker. `send` and `kill` of one that is gone do nothing. */
export interface WorkerProcess {
  readonly pid: number | undefined;
  readonly send: (message: ToWorker) => void;
  readonly kill: (signal: NodeJS.Signals) => void;
  readonly onMessage: (listener: (message: unknown) => void) => void;
  readonly onExit: (listener: (code: number | null, signal: string | null) => void) => void;
}

export interface Supervisor {
  /** Where the workers listen. */
  readonly url: string;
  readonly status: () => GroupStatus;
  /** Asks every worker that listens. */
  readonly ask: (question: Question) => Promise<GroupAnswers>;
  /** Tells every worker to read the settings again. */
  readonly reload: () => void;
  /** Drains all workers; kills what is left after `stopMs`. Rejects when one did not end cleanly. */
  readonly close: () => Promise<void>;
}

export interface SupervisorOptions {
  readonly count: number;
  readonly fork: () => WorkerProcess;
  /** Asked whenever a worker starts. */
  readonly orders: (index: number) => Orders;
  readonly logger: Logger;
  /** Aborted: the start is given up. */
  readonly stopping: AbortSignal;
  readonly stopMs?: number;
  readonly pauses?: Pauses;
  readonly pings?: Pings;
}

interface Pauses {
  readonly minMs: number;
  readonly maxMs: number;
  readonly steadyMs: number;
}

interface Pings {
  readonly everyMs: number;
  /** A worker that answered none of so many in a row is killed. */
  readonly missed: number;
}

/** Before a worker starts again: doubled each time, until one has run for `steadyMs`. */
const PAUSES: Pauses = { minMs: 100, maxMs: 10_000, steadyMs: 60_000 };
const PINGS: Pings = { everyMs: 5_000, missed: 6 };
/** A little more than what a worker takes for itself. */
const STOP_MS = 32_000;

interface Member {
  readonly index: number;
  process: WorkerProcess | undefined;
  /** While it listens. */
  url: string | undefined;
  begunMs: number;
  pauseMs: number;
  timer: NodeJS.Timeout | undefined;
  /** Since it said that it hears. */
  isHearing: boolean;
  /** Pings since it last answered one. */
  unanswered: number;
  /** What it said before it ended. */
  failure: AppError | undefined;
}

const ended = (code: number | null, signal: string | null): string => signal ?? `exit code ${String(code)}`;

/**
 * Starts `count` workers, the first alone, so that a wrong setting shows once and what a first start makes is made by
 * one. A worker that cannot start now ends the others, and its error is thrown. Later a worker that ends, for whatever
 * reason, is started again after a growing pause, for ever; one whose event loop stands still, also while it starts, is
 * killed first.
 */
export const startSupervisor = async (options: SupervisorOptions): Promise<Supervisor> => {
  const { count, logger, stopping } = options;
  const pauses = options.pauses ?? PAUSES;
  const pings = options.pings ?? PINGS;
  const members = Array.from({ length: count }, (_, index): Member => ({
    index,
    process: undefined,
    url: undefined,
    begunMs: 0,
    pauseMs: pauses.minMs,
    timer: undefined,
    isHearing: false,
    unanswered: 0,
    failure: undefined,
  }));
  let restarts = 0;
  let isUp = false;
  let isClosing = false;
  let isClean = true;
  let whenEmpty: () => void = () => undefined;

  const listening = (): readonly Member[] => members.filter(({ url }) => url !== undefined);
  const status = (): GroupStatus => ({ wanted: count, running: listening().length, restarts });
  const switchboard = createSwitchboard({
    status,
    workers: () =>
      listening().flatMap(({ index, process }) => (process === undefined ? [] : [{ index, send: process.send }])),
  });

  /** Resolves when the worker listens; rejects when it ends before. */
  const start = (member: Member): Promise<string> =>
    new Promise((resolve, reject) => {
      const process = options.fork();
      member.process = process;
      member.begunMs = performance.now();
      member.failure = undefined;
      member.unanswered = 0;
      member.isHearing = false;
      process.onMessage((message) => {
        if (!isToPrimary(message)) return;
        switch (message.edict) {
          case 'hello':
            // What was said before it could listen is lost.
            member.isHearing = true;
            process.send(isClosing ? { edict: 'stop' } : { edict: 'orders', orders: options.orders(member.index) });
            break;
          case 'listening':
            member.url = message.url;
            logger.info({ worker: member.index, pid: process.pid }, 'a worker listens');
            resolve(message.url);
            break;
          case 'pong':
            member.unanswered = 0;
            break;
          case 'failed':
            member.failure = new AppError(message.code as ErrorCode, message.message);
            break;
          case 'ask':
            void switchboard.ask(message.question).then((found) => {
              process.send({ edict: 'answers', id: message.id, ...found });
            });
            break;
          case 'reply':
            switchboard.onReply(member.index, message.id, message.answer);
            break;
          default:
            message satisfies never;
        }
      });
      process.onExit((code, signal) => {
        member.process = undefined;
        member.url = undefined;
        if (isClosing) {
          if (code !== 0) isClean = false;
        } else if (isUp) restart(member, ended(code, signal));
        reject(member.failure ?? new AppError('internal', `worker ${member.index} ended: ${ended(code, signal)}`));
        if (members.every((each) => each.process === undefined)) whenEmpty();
      });
    });

  const restart = (member: Member, how: string): void => {
    const lasted = performance.now() - member.begunMs;
    if (lasted >= pauses.steadyMs) member.pauseMs = pauses.minMs;
    const { pauseMs } = member;
    member.pauseMs = Math.min(pauseMs * 2, pauses.maxMs);
    restarts += 1;
    logger.error(
      { worker: member.index, ended: how, err: member.failure, restart_ms: pauseMs },
      'a worker ended; it is started again',
    );
    member.timer = setTimeout(() => {
      // Its end is seen where it is started, whenever it comes.
      start(member).catch(() => undefined);
    }, pauseMs);
  };

  /** By number of pings and not by time, so that a machine that slept kills nobody. */
  const pinging = setInterval(() => {
    // Those that are still starting, too: what hangs there would never be missed.
    for (const member of members) {
      if (member.process === undefined || !member.isHearing) continue;
      if (member.unanswered >= pings.missed) {
        logger.error({ worker: member.index, pings: member.unanswered }, 'a worker stands still; it is killed');
        member.process.kill('SIGKILL');
      } else {
        member.unanswered += 1;
        member.process.send({ edict: 'ping' });
      }
    }
  }, pings.everyMs);

  const stopAll = async (): Promise<void> => {
    isClosing = true;
    clearInterval(pinging);
    for (const { timer } of members) clearTimeout(timer);
    const gone = new Promise<void>((resolve) => {
      whenEmpty = resolve;
    });
    const running = members.flatMap(({ process }) => (process === undefined ? [] : [process]));
    if (running.length === 0) return;
    for (const { send } of running) send({ edict: 'stop' });
    const late = setTimeout(() => {
      logger.error({ deadline_ms: options.stopMs ?? STOP_MS }, 'workers did not stop in time; they are killed');
      for (const { process } of members) process?.kill('SIGKILL');
    }, options.stopMs ?? STOP_MS);
    await gone;
    clearTimeout(late);
  };

  const givenUp = new Promise<never>((_, reject) => {
    const onAbort = (): void => reject(stopping.reason as Error);
    if (stopping.aborted) onAbort();
    else stopping.addEventListener('abort', onAbort, { once: true });
  });
  givenUp.catch(() => undefined);

  try {
    const [first, ...others] = members;
    if (first === undefined) throw new AppError('internal', 'a group has one worker at least');
    const url = await Promise.race([start(first), givenUp]);
    await Promise.race([Promise.all(others.map(start)), givenUp]);
    // One may have ended while another started: it is late, not wrong.
    isUp = true;
    for (const member of members) if (member.process === undefined) restart(member, 'at the start');
    return {
      url,
      status,
      ask: switchboard.ask,
      reload() {
        for (const { process } of members) process?.send({ edict: 'reload' });
      },
      async close() {
        await stopAll();
        if (!isClean) throw new AppError('internal', 'a worker did not end cleanly');
      },
    };
  } catch (error) {
    await stopAll();
    throw error;
  }
};
