import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, readdirSync } from 'node:fs';
import path from 'node:path';
import { acquireLock } from '../../../services/shared/spool/lock.ts';
import { repositoryRoot } from '../../support/prepared-parts.ts';
import { createFolders } from './spool-fixture.ts';

const folders = createFolders();
const children: ChildProcess[] = [];
afterEach(async () => {
  await Promise.all(children.splice(0).map(killed));
  folders.removeAll();
});

const killed = async (child: ChildProcess): Promise<void> => {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exit = once(child, 'exit');
  child.kill('SIGKILL');
  await exit;
};

const contender = async (folder: string): Promise<{ readonly child: ChildProcess; readonly answer: string }> => {
  const child = spawn(process.execPath, ['--import', 'tsx', 'test/shared/spool/lock-child.ts', folder], {
    cwd: repositoryRoot,
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  children.push(child);
  const [answer] = (await once(child.stdout, 'data')) as [Buffer];
  return { child, answer: answer.toString().trim() };
};

describe('a lock', () => {
  it('is held by one of many processes that want it, also when the one before was killed', async () => {
    const folder = folders.create();
    for (let round = 0; round < 2; round += 1) {
      const all = await Promise.all(Array.from({ length: 4 }, () => contender(folder)));
      expect(all.filter(({ answer }) => answer === 'held')).toHaveLength(1);
      await Promise.all(all.map(async ({ child }) => killed(child)));
    }
  });

  it('stays with a process that is stopped', async () => {
    const folder = folders.create();
    const { child, answer } = await contender(folder);
    expect(answer).toBe('held');
    child.kill('SIGSTOP');
    expect(await acquireLock(folder)).toBeUndefined();
    child.kill('SIGCONT');
  });

  it('is given up by release, taken over again and again, and leaves one file', async () => {
    const folder = folders.create();
    for (let round = 0; round < 5; round += 1) {
      const lock = await acquireLock(folder);
      expect(lock).toBeDefined();
      expect(await acquireLock(folder)).toBeUndefined();
      await lock?.release();
    }
    expect(readdirSync(folder)).toHaveLength(1);
  });

  it('is one among many takers in one process', async () => {
    const folder = folders.create();
    const locks = await Promise.all(Array.from({ length: 20 }, () => acquireLock(folder)));
    expect(locks.filter((lock) => lock !== undefined)).toHaveLength(1);
    for (const lock of locks) await lock?.release();
  });

  it('works where the path is longer than a socket address', async () => {
    const folder = path.join(folders.create(), 'x'.repeat(120));
    mkdirSync(folder);
    const lock = await acquireLock(folder);
    expect(lock).toBeDefined();
    expect(await acquireLock(folder)).toBeUndefined();
    await lock?.release();
  });
});
