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
    if (batch.kind !== 'corrupt') throw new Error('unreachable');
    expect(batch).toMatchObject({ file: files[1], resumeAt: batch.at + 1n });
    expect(reader.next()).toBe(batch.at);
    reader.seek(batch.resumeAt);
    expect(await reader.read({ ...many, maxRecords: 1 })).toMatchObject({
      kind: 'records',
      records: [{ number: batch.at + 1n }],
    });
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

/** One segment with the events `event 1` to `event 40`, each written when the disk had the one before. */
const damagedSpool = async (damage: (bytes: Buffer, starts: readonly number[]) => Buffer) => {
  const directory = folders.create();
  const writer = openWriter(directory);
  const starts: number[] = [];
  for (let sequence = 1n; sequence <= 40n; sequence += 1n) {
    starts.push(writer.status().usedBytes);
    await writer.whenSynced(writer.append(record('acme', sequence, `event ${sequence}`)));
  }
  await writer.close();
  const file = path.join(directory, readdirSync(directory)[0] ?? '');
  writeFileSync(file, damage(readFileSync(file), starts));
  return directory;
};

/** What a reader gives that goes on behind damage as it is told; the places as `[at, resumeAt]`. */
const readPast = async (directory: string, from: bigint, isFinal: boolean) => {
  const reader = openSpoolReader({ directory, emitter: EMITTER, from, isFinal });
  const [sequences, places, numbers]: [number[], [number, number][], number[]] = [[], [], []];
  for (;;) {
    const batch = await reader.read({ maxRecords: 7, maxBytes: 1_000_000 });
    if (batch.kind === 'records') {
      sequences.push(...batch.records.map((item) => Number(item.sequence)));
      numbers.push(...batch.records.map((item) => Number(item.number)));
    } else if (batch.kind === 'corrupt') {
      places.push([Number(batch.at), Number(batch.resumeAt)]);
      reader.seek(batch.resumeAt);
    } else {
      reader.close();
      return { end: batch.kind, sequences, places, numbers };
    }
  }
};
const span = (from: number, to: number): readonly number[] => Array.from({ length: to - from + 1 }, (_, i) => from + i);
const flip = (bytes: Buffer, at: number): Buffer => {
  bytes[at] = (bytes[at] ?? 0) ^ 0x41;
  return bytes;
};

describe('damage in the newest segment', () => {
  it.each([
    ['a byte of an event', 38],
    ['a checksum', 5],
    ['a length that becomes too large', 0],
    ['a length that becomes another', 3],
  ])('%s hides that record only', async (_what, offset) => {
    const directory = await damagedSpool((bytes, starts) => flip(bytes, (starts[22] ?? 0) + offset));
    for (const isFinal of [false, true]) {
      const { end, sequences, places } = await readPast(directory, 0n, isFinal);
      expect(end).toBe('waiting');
      expect(sequences).toEqual([...span(1, 22), ...span(24, 40)]);
      expect(places).toEqual([[22, 23]]);
    }
    // Whoever comes again finds the same numbers.
    expect(await readPast(directory, 30n, false)).toMatchObject({ places: [], sequences: span(31, 40) });
  });

  it('of several places is told place by place, and each counts as one record', async () => {
    const directory = await damagedSpool((bytes, starts) =>
      flip(bytes.fill(0, starts[10], (starts[13] ?? 0) + 5), (starts[30] ?? 0) + 38),
    );
    const { sequences, places, numbers } = await readPast(directory, 0n, true);
    expect(sequences).toEqual([...span(1, 10), ...span(15, 30), ...span(32, 40)]);
    expect(places).toEqual([
      [10, 11],
      [27, 28],
    ]);
    expect(numbers).toEqual([...span(0, 9), ...span(11, 26), ...span(28, 36)]);
  });

  it('at its very end may be a record that is being written, but not in a spool that was moved aside', async () => {
    const directory = await damagedSpool((bytes) => bytes.subarray(0, bytes.length - 3));
    expect(await readPast(directory, 0n, false)).toMatchObject({ sequences: span(1, 39), places: [], end: 'waiting' });
    expect(await readPast(directory, 0n, true)).toMatchObject({
      sequences: span(1, 39),
      places: [[39, 40]],
      end: 'waiting',
    });
  });

  it('of its header hides no record', async () => {
    const directory = await damagedSpool((bytes) => flip(bytes, 20));
    expect(await readPast(directory, 0n, false)).toMatchObject({ sequences: span(1, 40), places: [] });
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
