import { setImmediate as nextTurn } from 'node:timers/promises';
import { createWorkQueue, TURN_MS, type Task } from '../../../services/pdp/policy/work-queue.ts';

/** A clock that each step of work moves on by a millisecond. */
const createWork = () => {
  let nowMs = 0;
  const order: string[] = [];
  const taskOf = (name: string, steps: number): Task => {
    let left = steps;
    return (mayGoOn) => {
      do {
        order.push(name);
        nowMs += 1;
        left -= 1;
        if (left === 0) return true;
      } while (mayGoOn());
      return false;
    };
  };
  return { order, taskOf, enqueue: createWorkQueue(() => nowMs) };
};

describe('work in turns', () => {
  it('does tasks in a circle, each as long as a turn may take', async () => {
    const { order, taskOf, enqueue } = createWork();
    await Promise.all([enqueue(taskOf('a', TURN_MS * 3)), enqueue(taskOf('b', TURN_MS + 1))]);
    const turn = (name: string): string => name.repeat(TURN_MS);
    expect(order.join('')).toBe(`${turn('a')}${turn('b')}${turn('a')}b${turn('a')}`);
  });

  it('lets others have the event loop between two turns', async () => {
    const { order, taskOf, enqueue } = createWork();
    const done = enqueue(taskOf('a', TURN_MS * 5));
    const seen: number[] = [];
    while (order.length < TURN_MS * 5) {
      seen.push(order.length);
      await nextTurn();
    }
    await done;
    for (const [index, count] of seen.entries()) expect(count - (seen[index - 1] ?? 0)).toBeLessThanOrEqual(TURN_MS);
  });

  it('goes on with the others when one fails', async () => {
    const { taskOf, enqueue } = createWork();
    const failing = enqueue(() => {
      throw new Error('no');
    });
    const fine = enqueue(taskOf('a', TURN_MS * 2));
    await expect(failing).rejects.toThrow('no');
    await fine;
    await enqueue(taskOf('b', 1));
  });
});
