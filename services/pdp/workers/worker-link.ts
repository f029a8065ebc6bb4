import type { GroupAnswers, Orders, Question, ToPrimary } from './messages.ts';
import { isToWorker } from './messages.ts';

/** What a worker says when the others want to know. */
export type Answer = (question: Question) => unknown;

/** A worker's end of the channel to its primary. */
export interface WorkerLink {
  /** Resolves with what this worker is to be. */
  readonly orders: () => Promise<Orders>;
  /** Asks all workers, this one included. Without an answer of the primary nobody has answered. */
  readonly ask: (question: Question) => Promise<GroupAnswers>;
  readonly answerWith: (answer: Answer) => void;
  readonly onReload: (listener: () => void) => void;
  readonly onStop: (listener: () => void) => void;
  /** Resolves when the message is on its way. */
  readonly say: (message: ToPrimary) => Promise<void>;
}

/** The part of `process` that matters here. */
export interface Channel {
  on(event: 'message', listener: (message: unknown) => void): unknown;
  send?: ((message: unknown, callback: (error: Error | null) => void) => unknown) | undefined;
}

/** Longer than the primary waits for the others. */
const TIMEOUT_MS = 1_500;

export const createWorkerLink = (channel: Channel, timeoutMs: number = TIMEOUT_MS): WorkerLink => {
  const open = new Map<number, (found: GroupAnswers) => void>();
  let lastId = 0;
  let answer: Answer = () => undefined;
  let reload: () => void = () => undefined;
  let stop: () => void = () => undefined;
  let setOrders: (orders: Orders) => void = () => undefined;
  const ordered = new Promise<Orders>((resolve) => {
    setOrders = resolve;
  });

  const say: WorkerLink['say'] = (message) =>
    new Promise((resolve) => {
      // A channel that is closed means that the primary is gone; this process ends by it.
      if (channel.send === undefined) resolve();
      else channel.send(message, () => resolve());
    });

  const reply = async (id: number, question: Question): Promise<void> => {
    let found: unknown;
    try {
      found = await answer(question);
    } catch {
      // As if it was not there: whoever asks takes that for a fault.
    }
    await say({ edict: 'reply', id, answer: found });
  };

  channel.on('message', (message) => {
    if (!isToWorker(message)) return;
    switch (message.edict) {
      case 'orders':
        setOrders(message.orders);
        break;
      case 'question':
        void reply(message.id, message.question);
        break;
      case 'answers':
        open.get(message.id)?.(message);
        break;
      case 'ping':
        void say({ edict: 'pong' });
        break;
      case 'reload':
        reload();
        break;
      case 'stop':
        stop();
        break;
      default:
        message satisfies never;
    }
  });

  return {
    async orders() {
      await say({ edict: 'hello' });
      return await ordered;
    },
    ask: (question) =>
      new Promise((resolve) => {
        lastId += 1;
        const id = lastId;
        const finish = (found: GroupAnswers): void => {
          clearTimeout(timer);
          open.delete(id);
          resolve({ status: found.status, answers: found.answers });
        };
        const nobody = { status: { wanted: 0, running: 0, restarts: 0 }, answers: [] };
        const timer = setTimeout(() => finish(nobody), timeoutMs);
        open.set(id, finish);
        void say({ edict: 'ask', id, question });
      }),
    answerWith(next) {
      answer = next;
    },
    onReload(listener) {
      reload = listener;
    },
    onStop(listener) {
      stop = listener;
    },
    say,
  };
};
