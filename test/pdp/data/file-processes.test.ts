import { spawn, type ChildProcess } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { createDataBook, type DataBook } from '../../../services/pdp/core/data-book.ts';
import type { DataIdentity } from '../../../services/pdp/core/pushed-data.ts';
import { startFileDataStream, type RunningDataStream } from '../../../services/pdp/data/file-stream.ts';
import { createLogger } from '../../../services/shared/runtime/logger.ts';
import { acquireLock } from '../../../services/shared/spool/lock.ts';

interface Told extends DataIdentity {
  readonly key: string;
  readonly value: number;
}

interface Pusher {
  /** What it said was pushed. */
  readonly told: readonly Told[];
  readonly done: Promise<void>;
  readonly exited: Promise<void>;
  readonly kill9: () => Promise<void>;
}

describe('the log of pushed data, shared by processes', () => {
  let folder: string;
  let directory: string;
  const children = new Set<ChildProcess>();
  const open: RunningDataStream[] = [];
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'edict-data-'));
    directory = join(folder, 'data');
  });
  afterEach(async () => {
    for (const child of children) child.kill('SIGKILL');
    for (const stream of open.splice(0)) await stream.close();
    rmSync(folder, { recursive: true, force: true });
  });

  const pusher = (name: string, count: number): Pusher => {
    const child = spawn(
      process.execPath,
      ['--import', 'tsx', 'test/pdp/data/pusher-child.ts', directory, name, String(count)],
      { stdio: ['ignore', 'pipe', 'inherit'] },
    );
    children.add(child);
    const told: Told[] = [];
    const exited = new Promise<void>((resolve) => {
      child.once('close', () => {
        children.delete(child);
        resolve();
      });
    });
    const done = new Promise<void>((resolve) => {
      createInterface({ input: child.stdout }).on('line', (line) => {
        if (line === 'done') resolve();
        // The last line of a process that was killed may be half a line.
        else if (line.endsWith('}')) told.push(JSON.parse(line) as Told);
      });
    });
    return {
      told,
      done,
      exited,
      kill9: async () => {
        child.kill('SIGKILL');
        await exited;
      },
    };
  };

  /** A process that only follows: what it saw, and whether it was ever without knowledge. */
  const follow = async (lockWaitMs = 10_000) => {
    const seen = new Map<number, string>();
    let unknown = 0;
    const book: DataBook = createDataBook({
      maxBytes: 100_000,
      onChanged: (_tenant, { identity }) => {
        if (identity !== undefined) seen.set(identity.revision, identity.digest);
      },
      setTimer: (done, ms) => {
        const timer = setTimeout(done, ms);
        return () => clearTimeout(timer);
      },
    });
    const stream = await startFileDataStream({
      directory,
      book,
      nowMs: Date.now,
      logger: createLogger({ service: 'test', level: 'silent' }),
      compactBytes: 3_000,
      lockWaitMs,
    });
    open.push(stream);
    const looking = setInterval(() => {
      if (!stream.isKnown('acme')) unknown += 1;
    }, 1);
    looking.unref();
    return { book, stream, seen, unknown: () => unknown };
  };

  it('is one order for all of them, also when some are killed while they push', async () => {
    const follower = await follow();
    const steady = [pusher('one', 100), pusher('two', 100)];
    const killed: Pusher[] = [];
    for (let n = 0; n < 4; n += 1) {
      const victim = pusher(`victim${n}`, 100_000);
      killed.push(victim);
      while (victim.told.length < 10) await sleep(5);
      await victim.kill9();
    }
    await Promise.all(steady.map(({ done }) => done));
    const told = [...steady, ...killed].flatMap((each) => each.told).toSorted((a, b) => a.revision - b.revision);
    expect(steady.map((each) => each.told.length)).toEqual([100, 100]);
    expect(new Set(told.map(({ revision }) => revision)).size).toBe(told.length);
    await follower.book.waitFor('acme', told.at(-1)?.revision ?? 0, 5_000);
    for (const { revision, digest } of told)
      if (follower.seen.has(revision)) expect(follower.seen.get(revision)).toBe(digest);
    // What a process was killed upon may have been stored, and not been answered: one push each.
    const last = follower.book.of('acme').identity?.revision ?? -1;
    expect(last + 1 - told.length).toBeGreaterThanOrEqual(0);
    expect(last + 1 - told.length).toBeLessThanOrEqual(killed.length);
    for (const { told: own } of [...steady, ...killed]) {
      const { key = '', value = -1 } = own.at(-1) ?? {};
      const stored = (follower.book.of('acme').document as Readonly<Record<string, unknown>>)[key];
      expect([value, value + 1]).toContain(stored);
    }
    expect(follower.unknown()).toBe(0);
    const again = await follow();
    expect(again.book.of('acme')).toEqual(follower.book.of('acme'));
    expect(await again.stream.push('acme', { op: 'put', path: ['last'], value: 1 })).toMatchObject({
      identity: { revision: last + 1 },
    });
    expect(readdirSync(join(directory, 'acme')).filter((name) => name.endsWith('.tmp'))).toEqual([]);
  }, 120_000);

  it('is seen by the others at once', async () => {
    const [one, two] = [await follow(), await follow()];
    await one.stream.push('acme', { op: 'put', path: ['n'], value: -1 });
    await two.book.waitFor('acme', 0, 5_000);
    const delays: number[] = [];
    for (let n = 0; n < 20; n += 1) {
      const pushed = await one.stream.push('acme', { op: 'put', path: ['n'], value: n });
      const startedMs = performance.now();
      await two.book.waitFor('acme', pushed.kind === 'applied' ? pushed.identity.revision : 0, 5_000);
      delays.push(performance.now() - startedMs);
    }
    // The poll alone takes 100 ms on average.
    expect(delays.toSorted((a, b) => a - b)[10]).toBeLessThan(50);
  }, 20_000);

  it('lets others push soon while one pushes all the time', async () => {
    const [busy, other] = [pusher('busy', 100_000), await follow()];
    while (busy.told.length < 10) await sleep(5);
    const between: number[] = [];
    for (let n = 0; n < 20; n += 1) {
      await sleep(20);
      const before = busy.told.length;
      await other.stream.push('acme', { op: 'put', path: ['other'], value: n });
      between.push(busy.told.length - before);
    }
    await busy.kill9();
    expect(between.toSorted((a, b) => a - b)[15]).toBeLessThanOrEqual(5);
  }, 30_000);

  it('waits a bounded time for a lock that another process does not give up', async () => {
    const { stream } = await follow(500);
    mkdirSync(join(directory, 'acme'), { recursive: true });
    const held = await acquireLock(join(directory, 'acme'));
    const startedMs = performance.now();
    const push = stream.push('acme', { op: 'put', path: ['n'], value: 1 });
    await expect(push).rejects.toMatchObject({ code: 'data_unavailable' });
    const tookMs = performance.now() - startedMs;
    expect(tookMs).toBeGreaterThanOrEqual(500);
    expect(tookMs).toBeLessThan(8_000);
    await held?.release();
    expect(await stream.push('acme', { op: 'put', path: ['n'], value: 1 })).toMatchObject({ kind: 'applied' });
  }, 20_000);
});
