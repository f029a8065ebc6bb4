import { fork, type ChildProcess } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { startSupervisor, type Supervisor, type WorkerProcess } from '../../../services/pdp/workers/supervisor.ts';
import { createLogger } from '../../../services/shared/runtime/logger.ts';
import type { Settings } from '../../../services/shared/settings/schema.ts';
import { until } from '../../system/support/until.ts';
import type { Behaviour } from './worker-child.ts';

const CHILD = fileURLToPath(new URL('worker-child.ts', import.meta.url));
const LIMIT_MS = 60_000;

const children: ChildProcess[] = [];
const supervisors: Supervisor[] = [];
afterEach(async () => {
  for (const supervisor of supervisors.splice(0)) await supervisor.close().catch(() => undefined);
  for (const child of children.splice(0)) child.kill('SIGKILL');
});

const forkChild = (): WorkerProcess => {
  const child = fork(CHILD, { execArgv: ['--import', 'tsx'] });
  children.push(child);
  return {
    pid: child.pid,
    send: (message) => void (child.connected && child.send(message, () => undefined)),
    kill: (signal) => void child.kill(signal),
    onMessage: (listener) => void child.on('message', listener),
    onExit: (listener) => void child.once('exit', listener),
  };
};

/** Behaviours are asked for whenever a worker starts, so they may be changed in between. */
const start = async (
  behaviours: Behaviour[],
  options: Partial<Parameters<typeof startSupervisor>[0]> = {},
): Promise<{ readonly supervisor: Supervisor; readonly lines: Readonly<Record<string, unknown>>[] }> => {
  const lines: Readonly<Record<string, unknown>>[] = [];
  const destination = { write: (line: string) => void lines.push(JSON.parse(line) as Record<string, unknown>) };
  const supervisor = await startSupervisor({
    count: behaviours.length,
    fork: forkChild,
    orders: (index) => ({
      index,
      count: behaviours.length,
      settings: { behaviours: [...behaviours] } as unknown as Settings,
      settingsFile: undefined,
    }),
    logger: createLogger({ service: 'test', destination }),
    stopping: new AbortController().signal,
    pauses: { minMs: 20, maxMs: 80, steadyMs: 60_000 },
    ...options,
  });
  supervisors.push(supervisor);
  return { supervisor, lines };
};
const isAlive = (child: ChildProcess): boolean => child.exitCode === null && child.signalCode === null;

describe('the supervisor of the workers', () => {
  it(
    'starts all, passes questions and reloads on, and ends all',
    async () => {
      const { supervisor } = await start(['serve', 'serve', 'serve']);
      expect(supervisor.url).toBe('http://127.0.0.1:1/0');
      expect(supervisor.status()).toEqual({ wanted: 3, running: 3, restarts: 0 });
      supervisor.reload();
      const asked = await supervisor.ask({ kind: 'metrics' });
      const each = [0, 1, 2].map((index) => ({ index, reloads: 1 }));
      // Each worker asked all the others.
      expect(asked.answers).toEqual([each, each, each]);
      await supervisor.close();
      expect(children.some(isAlive)).toBe(false);
    },
    LIMIT_MS,
  );

  it.each<readonly [string, Behaviour[]]>([
    ['the first', ['refuse', 'serve']],
    ['another one', ['serve', 'refuse']],
  ])(
    'gives up with its error when %s cannot start, and leaves none behind',
    async (_which, behaviours) => {
      await expect(start(behaviours)).rejects.toMatchObject({ code: 'settings_invalid', message: 'no good' });
      expect(children.some(isAlive)).toBe(false);
      // One alone first: what all would refuse is said once.
      expect(children).toHaveLength(behaviours[0] === 'refuse' ? 1 : 2);
    },
    LIMIT_MS,
  );

  it(
    'starts again what ends, after pauses that grow up to a bound, also when it cannot start any more',
    async () => {
      const behaviours: Behaviour[] = ['serve', 'die'];
      const { supervisor, lines } = await start(behaviours);
      await until('it died three times', () => (supervisor.status().restarts >= 3 ? true : undefined));
      behaviours[1] = 'refuse';
      await until('it was refused twice', () => (supervisor.status().restarts >= 6 ? true : undefined));
      behaviours[1] = 'serve';
      await until('it serves', () => (supervisor.status().running === 2 ? true : undefined));
      const pauses = lines.flatMap(({ restart_ms: pause }) => (pause === undefined ? [] : [pause]));
      expect(pauses.slice(0, 5)).toEqual([20, 40, 80, 80, 80]);
    },
    LIMIT_MS,
  );

  it(
    'kills and starts again one that stands still, and says meanwhile that it does not answer',
    async () => {
      const behaviours: Behaviour[] = ['serve', 'stuck'];
      const { supervisor } = await start(behaviours, { pings: { everyMs: 500, missed: 4 } });
      behaviours[1] = 'serve';
      await until('it stands still', async () => {
        const { answers } = await supervisor.ask({ kind: 'checks' });
        return answers[1] === undefined ? true : undefined;
      });
      await until('another one answers', async () => {
        const { answers } = await supervisor.ask({ kind: 'checks' });
        return answers[1] === undefined ? undefined : true;
      });
      expect(supervisor.status()).toEqual({ wanted: 2, running: 2, restarts: 1 });
    },
    LIMIT_MS,
  );

  it(
    'kills and starts again one that stands still before it listens',
    async () => {
      const behaviours: Behaviour[] = ['serve', 'die'];
      const { supervisor } = await start(behaviours, { pings: { everyMs: 500, missed: 4 } });
      behaviours[1] = 'hang';
      await until('two were killed', () => (supervisor.status().restarts >= 3 ? true : undefined));
      behaviours[1] = 'serve';
      await until('it serves', () => (supervisor.status().running === 2 ? true : undefined));
    },
    LIMIT_MS,
  );

  it(
    'kills what does not stop in time, and says that it was not clean',
    async () => {
      const { supervisor } = await start(['serve', 'deaf'], { stopMs: 300 });
      await expect(supervisor.close()).rejects.toMatchObject({ code: 'internal' });
      expect(children.some(isAlive)).toBe(false);
    },
    LIMIT_MS,
  );

  it(
    'gives a start up when it shall stop',
    async () => {
      const stopping = new AbortController();
      const starting = start(['serve', 'serve'], { stopping: stopping.signal });
      stopping.abort(new Error('stopping'));
      await expect(starting).rejects.toThrow('stopping');
      // It was told, and not killed.
      expect(children.map(({ exitCode }) => exitCode)).toEqual([0]);
    },
    LIMIT_MS,
  );
});
