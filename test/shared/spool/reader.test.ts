import { appendFileSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { readCursor, saveCursor } from '../../../services/shared/spool/cursor.ts';
import { openSpoolReader } from '../../../services/shared/spool/reader.ts';
import { createFolders, EMITTER, openWriter, readAll, record } from './spool-fixture.ts';

const folders = createFolders();
afterEach(() => folders.removeAll());
const many = { maxRecords: 1000, maxBytes: 1_000_000 };

describe('a reader', () => {
  it('follows a writer record by record', async () => {
    const directory = folders.create();
    const writer = openWriter(directory);
    const reader = openSpoolReader({ directory, emitter: EMITTER, from: 0n });
    expect(await reader.read(many)).toEqual({ kind: 'waiting' });
    const seen: bigint[] = [];
    for (let sequence = 1n; sequence <= 200n; sequence += 1n) {
      const number = writer.append(record('acme', sequence, 'x'.repeat(800)));
      await writer.whenWritten(number);
      const batch = await reader.read(many);
      if (batch.kind === 'records') seen.push(...batch.records.map((item) => item.sequence));
    }
    expect(seen).toEqual(Array.from({ length: 200 }, (_, i) => BigInt(i + 1)));
    reader.close();
    await writer.close();
  });

  it('wakes up when the writer writes', async () => {
    const directory = folders.create();
    const writer = openWriter(directory);
    const reader = openSpoolReader({ directory, emitter: EMITTER, from: 0n });
    const seen = (async () => {
      for (;;) {
        const batch = await reader.read(many);
        if (batch.kind === 'records') return batch.records.length;
        await reader.changed();
      }
    })();
    writer.append(record('acme', 1n, 'a'));
    expect(await seen).toBe(1);
    reader.close();
    await writer.close();
  });

  it('keeps to the limits of a batch, but gives at least one record', async () => {
    const directory = folders.create();
    const writer = openWriter(directory);
    for (let sequence = 1n; sequence <= 10n; sequence += 1n) writer.append(record('acme', sequence, 'x'.repeat(100)));
    await writer.close();
    const reader = openSpoolReader({ directory, emitter: EMITTER, from: 0n });
    const sizes: number[] = [];
    for (const limit of [
      { maxRecords: 3, maxBytes: 1e6 },
      { maxRecords: 100, maxBytes: 250 },
      { maxRecords: 100, maxBytes: 1 },
    ]) {
      const batch = await reader.read(limit);
      sizes.push(batch.kind === 'records' ? batch.records.length : -1);
    }
    expect(sizes).toEqual([3, 2, 1]);
    reader.close();
  });

  it('waits at a record that is not whole yet and reads it when it is', async () => {
    const directory = folders.create();
    const writer = openWriter(directory);
    for (let sequence = 1n; sequence <= 2n; sequence += 1n) writer.append(record('acme', sequence, 'event'));
    await writer.close();
    const file = path.join(directory, readdirSync(directory)[0] ?? '');
    const whole = readFileSync(file);
    writeFileSync(file, whole.subarray(0, whole.length - 5));
    const reader = openSpoolReader({ directory, emitter: EMITTER, from: 0n });
    expect(await reader.read(many)).toMatchObject({ kind: 'records' });
    expect(await reader.read(many)).toEqual({ kind: 'waiting' });
    appendFileSync(file, whole.subarray(whole.length - 5));
    expect(await reader.read(many)).toMatchObject({ kind: 'records', records: [{ number: 1n }] });
    reader.close();
  });

  it('names damage in a closed segment, what is deleted, and a cursor that is not of this spool', async () => {
    const directory = folders.create();
    const writer = openWriter(directory);
    for (let sequence = 1n; sequence <= 300n; sequence += 1n) writer.append(record('acme', sequence, 'x'.repeat(900)));
    await writer.close();
    const files = readdirSync(directory).filter((name) => name.endsWith('.seg'));
    const second = path.join(directory, files[1] ?? '');
    const bytes = readFileSync(second);
    bytes[30_000] = (bytes[30_000] ?? 0) ^ 1;
    writeFileSync(second, bytes);
    const reader = openSpoolReader({ directory, emitter: EMITTER, from: 0n });
    let batch = await reader.read(many);
    while (batch.kind === 'records') batch = await reader.read(many);
    expect(batch).toMatchObject({ kind: 'corrupt', file: files[1], resumeAt: BigInt((files[2] ?? '').slice(0, 20)) });
    if (batch.kind !== 'corrupt') throw new Error('unreachable');
    expect(reader.next()).toBe(batch.at);
    reader.seek(batch.resumeAt);
    expect(await reader.read(many)).toMatchObject({ kind: 'records' });
    rmSync(path.join(directory, files[0] ?? ''));
    reader.seek(0n);
    expect(await reader.read(many)).toEqual({ kind: 'gone', first: BigInt((files[1] ?? '').slice(0, 20)) });
    reader.seek(301n);
    expect(await reader.read(many)).toMatchObject({ kind: 'foreign' });
    reader.seek(300n);
    expect(await reader.read(many)).toEqual({ kind: 'waiting' });
    reader.close();
    const other = openSpoolReader({ directory, emitter: 'ff'.repeat(16), from: 300n });
    expect(await other.read(many)).toMatchObject({ kind: 'foreign' });
    other.close();
  });

  it('waits for a spool that does not exist yet', async () => {
    const directory = path.join(folders.create(), 'later');
    expect(await readAll(directory)).toEqual([]);
  });
});

describe('a cursor', () => {
  it('is what was saved last, and refuses what is none', () => {
    const file = path.join(folders.create(), 'cursor');
    expect(readCursor(file)).toBeUndefined();
    saveCursor(file, { emitter: EMITTER, next: 5n });
    saveCursor(file, { emitter: EMITTER, next: 12n });
    expect(readCursor(file)).toEqual({ emitter: EMITTER, next: 12n });
    writeFileSync(file, '{"next":-1}');
    expect(() => readCursor(file)).toThrow(expect.objectContaining({ code: 'spool_corrupt' }));
  });
});
