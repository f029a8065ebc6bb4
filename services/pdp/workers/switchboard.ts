import type { GroupAnswers, GroupStatus, Question, ToWorker } from './messages.ts';

/** A worker that can be asked. */
export interface Asked {
  readonly index: number;
  readonly send: (message: ToWorker) => void;
}

export interface Switchboard {
  /** Asks every worker that listens; resolves when all have answered, or after `timeoutMs` with what came. */
  readonly ask: (question: Question) => Promise<GroupAnswers>;
  readonly onReply: (index: number, id: number, answer: unknown) => void;
}

const TIMEOUT_MS = 1_000;
const MAX_OPEN = 256;

/** Passes questions of one worker on to all, in the primary. Of more than 256 open ones the next finds nobody. */
export const createSwitchboard = (options: {
  readonly workers: () => readonly Asked[];
  readonly status: () => GroupStatus;
  readonly timeoutMs?: number;
}): Switchboard => {
  const open = new Map<number, (index: number, answer: unknown) => void>();
  let lastId = 0;
  return {
    ask: (question) =>
      new Promise((resolve) => {
        const answers: unknown[] = Array.from({ length: options.status().wanted });
        const asked = open.size < MAX_OPEN ? options.workers() : [];
        const waiting = new Set(asked.map(({ index }) => index));
        lastId += 1;
        const id = lastId;
        const finish = (): void => {
          clearTimeout(timer);
          open.delete(id);
          resolve({ status: options.status(), answers });
        };
        const timer = setTimeout(finish, options.timeoutMs ?? TIMEOUT_MS);
        open.set(id, (index, answer) => {
          if (!waiting.delete(index)) return;
          answers[index] = answer;
          if (waiting.size === 0) finish();
        });
        if (waiting.size === 0) finish();
        for (const { send } of asked) send({ edict: 'question', id, question });
      }),
    onReply: (index, id, answer) => open.get(id)?.(index, answer),
  };
};
