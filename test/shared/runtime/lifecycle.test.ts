import { EventEmitter } from 'node:events';
import { createLifecycle } from '../../../services/shared/runtime/lifecycle.ts';
import { createLogger } from '../../../services/shared/runtime/logger.ts';

const setUp = (deadlineMs = 5_000) => {
  const events = new EventEmitter();
  const exits: number[] = [];
  const closed: string[] = [];
  const lifecycle = createLifecycle({
    logger: createLogger({ service: 'test', level: 'silent' }),
    deadlineMs,
    events,
    exit: (code) => exits.push(code),
  });
  const part = (name: string) => () => ({ close: () => void closed.push(name) });
  return { events, exits, closed, lifecycle, part };
};
const settled = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

describe('lifecycle', () => {
  it('closes in reverse order, once, on the first signal and exits with 0', async () => {
    const { events, exits, closed, lifecycle, part } = setUp();
    await lifecycle.start('a', part('a'));
    await lifecycle.start('b', part('b'));
    events.emit('SIGTERM', 'SIGTERM');
    await lifecycle.stop('again');
    expect(await lifecycle.stopped).toBe(true);
    await settled();
    expect(closed).toEqual(['b', 'a']);
    expect(exits).toEqual([0]);
    expect(events.eventNames()).toEqual([]);
  });

  it('closes what was opened when a later part cannot start', async () => {
    const { closed, lifecycle, part } = setUp();
    await lifecycle.start('a', part('a'));
    await expect(lifecycle.start('b', () => Promise.reject(new Error('no')))).rejects.toThrow('no');
    expect(closed).toEqual(['a']);
    await expect(lifecycle.start('c', part('c'))).rejects.toMatchObject({ code: 'internal' });
  });

  it('closes a part that was still opening when the signal came', async () => {
    const { events, closed, lifecycle, part } = setUp();
    let open: () => void = () => undefined;
    const gate = new Promise<void>((resolve) => (open = resolve));
    const starting = lifecycle.start('slow', async () => {
      await gate;
      return part('slow')();
    });
    await settled();
    events.emit('SIGINT', 'SIGINT');
    open();
    await expect(starting).rejects.toMatchObject({ code: 'internal' });
    expect(await lifecycle.stopped).toBe(true);
    expect(closed).toEqual(['slow']);
  });

  it('aborts what is opening when the signal comes; that is a clean stop', async () => {
    const { events, exits, closed, lifecycle, part } = setUp();
    await lifecycle.start('a', part('a'));
    const starting = lifecycle.start(
      'waits for something',
      (stopping) =>
        new Promise<{ close: () => void }>((_resolve, reject) => {
          stopping.addEventListener('abort', () => reject(stopping.reason as Error));
        }),
    );
    const exitsWhenToldSo = starting.catch(() => [...exits]);
    await settled();
    events.emit('SIGTERM', 'SIGTERM');
    expect(await lifecycle.stopped).toBe(true);
    expect(closed).toEqual(['a']);
    // The process is gone before anybody can report the start as a failure.
    expect(await exitsWhenToldSo).toEqual([0]);
    expect(exits).toEqual([0]);
  });

  it('gives up at the deadline and exits with 1', async () => {
    const { events, exits, lifecycle } = setUp(10);
    await lifecycle.start('stuck', () => ({ close: () => new Promise<void>(() => undefined) }));
    events.emit('SIGTERM', 'SIGTERM');
    expect(await lifecycle.stopped).toBe(false);
    await settled();
    expect(exits).toEqual([1]);
  });

  it('goes on closing after a part that fails to close, and says so with the exit code', async () => {
    const { events, exits, closed, lifecycle, part } = setUp();
    await lifecycle.start('a', part('a'));
    await lifecycle.start('broken', () => ({ close: () => Promise.reject(new Error('no')) }));
    events.emit('SIGTERM', 'SIGTERM');
    expect(await lifecycle.stopped).toBe(false);
    await settled();
    expect(closed).toEqual(['a']);
    expect(exits).toEqual([1]);
  });

  it('exits at once on the second signal', async () => {
    const { events, exits, lifecycle } = setUp();
    let release: () => void = () => undefined;
    await lifecycle.start('slow', () => ({ close: () => new Promise<void>((resolve) => (release = resolve)) }));
    events.emit('SIGINT', 'SIGINT');
    await settled();
    events.emit('SIGINT', 'SIGINT');
    expect(exits).toEqual([1]);
    release();
    await lifecycle.stopped;
  });

  it.each(['uncaughtException', 'unhandledRejection'])('exits with 1 on %s', (event) => {
    const { events, exits } = setUp();
    events.emit(event, new Error('boom'));
    expect(exits).toEqual([1]);
  });
});
