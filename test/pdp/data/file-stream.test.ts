import {
  appendFileSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { open as openFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { createDataBook, type DataBook } from '../../../services/pdp/core/data-book.ts';
import { finish } from '../../../services/pdp/core/data-nodes.ts';
import type { DataChange } from '../../../services/pdp/core/pushed-data.ts';
import { startFileDataStream, type RunningDataStream } from '../../../services/pdp/data/file-stream.ts';
import { encodeDataFrame } from '../../../services/pdp/data/frames.ts';
import { createLogger, type Logger } from '../../../services/shared/runtime/logger.ts';

const put = (path: readonly string[], value: unknown): DataChange => ({ op: 'put', path, value });
const logger = createLogger({ service: 'test', level: 'silent' });

describe('the log of pushed data on one machine', () => {
  let directory: string;
  let open: RunningDataStream[] = [];
  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), 'edict-data-'));
  });
  afterEach(async () => {
    for (const stream of open) await stream.close();
    open = [];
    rmSync(directory, { recursive: true, force: true });
  });

  const start = async (
    compactBytes?: number,
    more: Pick<Parameters<typeof createDataBook>[0], 'work'> & { readonly logger?: Logger } = {},
  ): Promise<{ readonly stream: RunningDataStream; readonly book: DataBook }> => {
    const book = createDataBook({
      maxBytes: 100_000,
      ...(more.work === undefined ? {} : { work: more.work }),
      setTimer: (done, ms) => {
        const timer = setTimeout(done, ms);
        return () => clearTimeout(timer);
      },
    });
    const stream = await startFileDataStream({
      directory: join(directory, 'data'),
      book,
      nowMs: Date.now,
      logger: more.logger ?? logger,
      ...(compactBytes === undefined ? {} : { compactBytes }),
    });
    open.push(stream);
    return { stream, book };
  };
  const files = (): readonly string[] =>
    readdirSync(join(directory, 'data', 'acme')).filter((name) => name.endsWith('.log'));
  const logFile = (): string => join(directory, 'data', 'acme', files()[0] ?? '');

  it('numbers what it takes, and has it after a restart', async () => {
    const { stream, book } = await start();
    expect(await stream.push('acme', put(['a'], 1))).toMatchObject({ kind: 'applied', identity: { revision: 0 } });
    expect(await stream.push('acme', put(['b'], { x: 'é😀' }))).toMatchObject({ identity: { revision: 1 } });
    expect(await stream.push('globex', put(['a'], 2))).toMatchObject({ identity: { revision: 0 } });
    expect(await stream.push('acme', { op: 'delete', path: ['nothing'] })).toMatchObject({ kind: 'conflict' });
    expect(book.of('acme').document).toEqual({ a: 1, b: { x: 'é😀' } });
    await stream.close();
    const again = await start();
    expect(again.book.of('acme')).toEqual(book.of('acme'));
    expect(again.book.of('globex')).toEqual(book.of('globex'));
    expect(await again.stream.push('acme', put(['c'], 3))).toMatchObject({ identity: { revision: 2 } });
  });

  it('keeps the order of pushes that come at once', async () => {
    const { stream, book } = await start();
    const pushes = Array.from({ length: 40 }, (_, i) => stream.push('acme', put(['last'], i)));
    const revisions = (await Promise.all(pushes)).map(
      (pushed) => pushed.kind === 'applied' && pushed.identity.revision,
    );
    expect(revisions).toEqual(Array.from({ length: 40 }, (_, i) => i));
    expect(book.of('acme').document).toEqual({ last: 39 });
  });

  it('takes a push back that others had read, and that could not be synced', async () => {
    const [one, two] = [await start(), await start()];
    await one.stream.push('acme', put(['a'], 1));
    const probe = await openFile(join(directory, 'probe'), 'w');
    const handles = Object.getPrototypeOf(probe) as { datasync: () => Promise<void> };
    await probe.close();
    const { datasync } = handles;
    const valueIn = (book: DataBook): unknown => (book.of('acme').document as { readonly a?: unknown }).a;
    handles.datasync = async () => {
      handles.datasync = datasync;
      while (valueIn(two.book) !== 2) await sleep(10);
      throw Object.assign(new Error('the disk failed'), { code: 'EIO' });
    };
    try {
      await expect(one.stream.push('acme', put(['a'], 2))).rejects.toMatchObject({ code: 'data_unavailable' });
    } finally {
      handles.datasync = datasync;
    }
    expect(valueIn(one.book)).toBe(1);
    while (valueIn(two.book) !== 1) await sleep(10);
    await two.stream.push('acme', put(['b'], 1));
    await one.stream.push('acme', put(['c'], 1));
    while (!('c' in two.book.of('acme').document)) await sleep(10);
    expect(one.book.of('acme').document).toEqual({ a: 1, b: 1, c: 1 });
    expect(two.book.of('acme')).toEqual(one.book.of('acme'));
    expect((await start()).book.of('acme')).toEqual(one.book.of('acme'));
  });

  it.each([1, 5, 11, 12, 40])('gives up a tail of %i bytes that a power cut tore', async (kept) => {
    const { stream } = await start();
    await stream.push('acme', put(['a'], 1));
    const whole = readFileSync(logFile());
    await stream.push('acme', put(['a'], 2));
    await stream.close();
    writeFileSync(logFile(), readFileSync(logFile()).subarray(0, whole.length + kept));
    const again = await start();
    expect(again.book.of('acme').document).toEqual({ a: 1 });
    expect(await again.stream.push('acme', put(['a'], 3))).toMatchObject({ identity: { revision: 1 } });
    expect((await start()).book.of('acme').document).toEqual({ a: 3 });
  });

  it('gives up a tail of zeros', async () => {
    const { stream } = await start();
    await stream.push('acme', put(['a'], 1));
    await stream.close();
    appendFileSync(logFile(), Buffer.alloc(5_000));
    expect((await start()).book.of('acme').document).toEqual({ a: 1 });
  });

  it('starts with a log that is damaged before its end: the tenant is not known, and says nothing in public', async () => {
    const { stream } = await start();
    await stream.push('globex', put(['a'], 1));
    for (let i = 0; i < 3; i += 1) await stream.push('acme', put(['a'], `value ${i}`));
    await stream.close();
    const bytes = readFileSync(logFile());
    const at = bytes.indexOf('value 1');
    bytes[at] = 0x77;
    writeFileSync(logFile(), bytes);
    const again = await start();
    expect([again.stream.isKnown('acme'), again.stream.isKnown('globex')]).toEqual([false, true]);
    expect(again.book.of('globex').document).toEqual({ a: 1 });
    await expect(again.stream.push('acme', put(['a'], 2))).rejects.toMatchObject({ code: 'data_corrupt' });
    expect(await again.stream.check()).toEqual({ ok: true, facts: { unreadable: 1 } });
    expect(again.stream.unreadable().get('acme')).toContain('is damaged at byte');
    bytes[at] = 0x76;
    writeFileSync(logFile(), bytes);
    while (!again.stream.isKnown('acme')) await sleep(20);
    expect(again.book.of('acme').document).toEqual({ a: 'value 2' });
  });

  it('denies the tenant, and no other, whose log is damaged while it runs', async () => {
    const { stream } = await start();
    for (const tenant of ['acme', 'globex']) await stream.push(tenant, put(['a'], 1));
    writeFileSync(logFile(), 'EDDFnonsense');
    while (stream.isKnown('acme')) await sleep(20);
    expect(stream.isKnown('globex')).toBe(true);
    await expect(stream.push('acme', put(['a'], 2))).rejects.toMatchObject({ code: 'data_corrupt' });
  });

  it('looks for what is new again only when no look is waiting', async () => {
    const { stream } = await start();
    await stream.push('acme', put(['a'], 1));
    const lines: string[] = [];
    let goOn = (): void => undefined;
    let isHeld = false;
    const held = new Promise<void>((resolve) => {
      goOn = resolve;
    });
    let mayGoOn = true;
    await start(undefined, {
      logger: createLogger({ service: 'test', level: 'error', destination: { write: (line) => lines.push(line) } }),
      work: async (steps) => {
        if (!mayGoOn) {
          isHeld = true;
          await held;
        }
        return finish(steps);
      },
    });
    mayGoOn = false;
    await stream.push('acme', put(['a'], 2));
    while (!isHeld) await sleep(10);
    await sleep(2_000);
    // Each look fails from now on, and says so.
    renameSync(join(directory, 'data'), join(directory, 'moved'));
    writeFileSync(join(directory, 'data'), '');
    goOn();
    await sleep(100);
    const looks = lines.filter((line) => line.includes('cannot be looked for')).length;
    expect(looks).toBeGreaterThan(0);
    // The one that waited, and what came due since.
    expect(looks).toBeLessThanOrEqual(3);
  });

  it('does not read a snapshot of what it has already', async () => {
    const { stream, book } = await start();
    await stream.push('acme', put(['a'], 1));
    // What another process would begin its next file with, but that it cannot be read.
    const frame = encodeDataFrame(JSON.stringify({ v: 1, next: 1, snapshot: {} }));
    writeFileSync(join(directory, 'data', 'acme', '0000000000000001.log'), frame);
    expect(await stream.push('acme', put(['b'], 2))).toMatchObject({ identity: { revision: 1 } });
    expect(book.of('acme').document).toEqual({ a: 1, b: 2 });
    expect((await start()).stream.isKnown('acme')).toBe(false);
  });

  it('stays small: a snapshot takes the place of what led to it', async () => {
    const { stream, book } = await start(4_000);
    for (let i = 0; i < 300; i += 1) await stream.push('acme', put([`k${i % 5}`], `value ${i} ${'x'.repeat(50)}`));
    expect(files()).toHaveLength(1);
    expect(files()[0]).not.toBe('0000000000000000.log');
    // 10 kB of it are ids of records, in the snapshot; all that was pushed is 45 kB.
    expect(statSync(logFile()).size).toBeLessThan(24_000);
    const again = await start(4_000);
    expect(again.book.of('acme')).toEqual(book.of('acme'));
    expect(await again.stream.push('acme', put(['k0'], 'z'))).toMatchObject({ identity: { revision: 300 } });
  });

  it('is one stream for all processes of the machine', async () => {
    const [one, two] = [await start(2_000), await start(2_000)];
    const pushes: Promise<unknown>[] = [];
    for (let i = 0; i < 60; i += 1) {
      const { stream } = i % 2 === 0 ? one : two;
      pushes.push(stream.push('acme', { op: 'put', path: [`n${i % 7}`], value: `${i} ${'y'.repeat(30)}` }));
    }
    const revisions = (await Promise.all(pushes)).map(
      (pushed) => (pushed as { identity: { revision: number } }).identity.revision,
    );
    expect(revisions.toSorted((a, b) => a - b)).toEqual(Array.from({ length: 60 }, (_, i) => i));
    const last = one.book.of('acme').identity?.revision === 59 ? one : two;
    const other = last === one ? two : one;
    await other.book.waitFor('acme', 59, 5_000);
    expect(other.book.of('acme')).toEqual(last.book.of('acme'));
    expect((await start()).book.of('acme')).toEqual(last.book.of('acme'));
  });
});
