import { mkdirSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { SourceHandler, Taken } from '../../../services/audit/core/ingest-source.ts';
import { createSpoolSource } from '../../../services/audit/spool/spool-source.ts';
import { homePaths } from '../../../services/shared/settings/home.ts';
import { createFolders, openWriter, record } from '../../shared/spool/spool-fixture.ts';
import { silent } from '../ingest/fixtures.ts';

const folders = createFolders();
const closers: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0)) await close();
  folders.removeAll();
});

const until = async (what: () => boolean): Promise<void> => {
  for (const deadline = Date.now() + 20_000; !what(); await sleep(20))
    if (Date.now() > deadline) throw new Error('did not happen');
};

describe('the source of spools', () => {
  it('says how many records wait, over segments, and that it stands still when none is stored', async () => {
    const home = folders.create();
    const directory = path.join(homePaths(home).emitters, '0', 'spool');
    mkdirSync(directory, { recursive: true });
    const writer = openWriter(directory);
    let sequence = 0n;
    const append = async (count: number): Promise<void> => {
      for (let n = 0; n < count; n += 1) {
        sequence += 1n;
        writer.append(record('acme', sequence, 'x'.repeat(100)));
      }
      await writer.whenWritten(sequence - 1n);
    };
    let isOpen = false;
    let wake: () => void = () => undefined;
    const handler: SourceHandler = {
      positions: () => Promise.resolve(new Map()),
      take: async (messages): Promise<Taken> => {
        if (!isOpen) await new Promise<void>((resolve) => (wake = resolve));
        return { nextOffset: (messages.at(-1)?.offset ?? -1n) + 1n, fenced: false };
      },
      reconcile: ({ first }) => Promise.resolve(first),
    };
    const source = createSpoolSource({ home, batch: 10, logger: silent, scanMs: 20, stuckMs: 300 });
    closers.push(
      () => {
        isOpen = true;
        wake();
        return source.close();
      },
      () => writer.close(),
    );
    await append(900);
    await source.run(handler);
    await until(() => source.health().lag === 900);
    // Not far enough behind to be a fault.
    await sleep(400);
    expect(source.health().ok).toBe(true);
    await append(600);
    expect(writer.segments().length).toBeGreaterThan(1);
    await until(() => source.health().lag === 1_500 && !source.health().ok);
    expect(source.health().note).toMatch(/1500 records wait and none is stored/);
    isOpen = true;
    wake();
    await until(() => source.health().lag === 0);
    expect(source.health()).toEqual({ ok: true, lag: 0 });
    await append(3);
    await until(() => source.health().lag === 0);
  }, 60_000);
});
