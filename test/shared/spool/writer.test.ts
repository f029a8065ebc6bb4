import {
  closeSync,
  openSync,
  readFileSync,
  readdirSync,
  statSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import path from 'node:path';
import fc from 'fast-check';
import { realSpoolFs, type SpoolFs } from '../../../services/shared/spool/files.ts';
import { decodeFrame, encodeFrame, frameBytesOf, SEGMENT_HEADER_BYTES } from '../../../services/shared/spool/format.ts';
import { createFolders, limits, openWriter, readAll, record } from './spool-fixture.ts';

const folders = createFolders();
afterEach(() => folders.removeAll());

const texts = (records: readonly { readonly event: Buffer }[]): readonly string[] =>
  records.map(({ event }) => event.toString());

const segmentsIn = (directory: string): readonly string[] =>
  readdirSync(directory)
    .filter((name) => name.endsWith('.seg'))
    .map((name) => path.join(directory, name));

const writeEvents = async (directory: string, events: readonly string[]): Promise<void> => {
  const writer = openWriter(directory);
  events.forEach((event, index) => writer.append(record('acme', BigInt(index + 1), event)));
  await writer.close();
};

const flipBit = (file: string, position: number): void => {
  const bytes = readFileSync(file);
  bytes[position] = (bytes[position] ?? 0) ^ 0x10;
  writeFileSync(file, bytes);
};

describe('a frame', () => {
  it('gives back what was put into it', () => {
    fc.assert(
      fc.property(
        fc.stringMatching(/^[a-z0-9][a-z0-9-]{0,62}$/),
        fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
        fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
        fc.boolean(),
        fc.string({ minLength: 1, unit: 'grapheme' }),
        (tenant, boot, sequence, reserve, event) => {
          const eventBytes = Buffer.byteLength(event);
          const bytes = Buffer.alloc(frameBytesOf(tenant, eventBytes));
          encodeFrame(bytes, 0, { tenant, boot, sequence, reserve, syncedPosition: 7 }, event, eventBytes);
          expect(decodeFrame(bytes, 0)).toEqual({
            kind: 'frame',
            tenant,
            boot,
            sequence,
            reserve,
            syncedPosition: 7,
            event: Buffer.from(event),
            frameBytes: bytes.length,
          });
        },
      ),
    );
  });

  it('is refused when any one bit of it is wrong', () => {
    const bytes = Buffer.alloc(frameBytesOf('acme', 5));
    encodeFrame(bytes, 0, { tenant: 'acme', boot: 1n, sequence: 2n, reserve: false, syncedPosition: 3 }, 'hello', 5);
    for (let bit = 0; bit < bytes.length * 8; bit += 1) {
      const damaged = Buffer.from(bytes);
      damaged[bit >> 3] = (damaged[bit >> 3] ?? 0) ^ (1 << (bit & 7));
      expect(decodeFrame(damaged, 0).kind).not.toBe('frame');
    }
  });

  it('is not seen in a stretch of zeros', () => {
    expect(decodeFrame(Buffer.alloc(64), 0).kind).toBe('bad');
  });
});

describe('a spool', () => {
  it('numbers records from 0 and goes on after it was closed', async () => {
    const directory = folders.create();
    await writeEvents(directory, ['a', 'b']);
    const writer = openWriter(directory);
    expect(writer.append(record('acme', 3n, 'c'))).toBe(2n);
    await writer.close();
    const records = await readAll(directory);
    expect(records.map(({ number, sequence }) => [number, sequence])).toEqual([
      [0n, 1n],
      [1n, 2n],
      [2n, 3n],
    ]);
    expect(texts(records)).toEqual(['a', 'b', 'c']);
  });

  it('makes a written record readable before it is synced, and says when it is', async () => {
    const directory = folders.create();
    const writer = openWriter(directory);
    const number = writer.append(record('acme', 1n, 'a'));
    await writer.whenWritten(number);
    expect(texts(await readAll(directory))).toEqual(['a']);
    await writer.whenSynced(number);
    await writer.close();
  });

  it('begins new segments and reads across them, with and without their indexes', async () => {
    const directory = folders.create();
    const events = Array.from({ length: 300 }, (_, i) => `${i}-${'x'.repeat(900)}`);
    await writeEvents(directory, events);
    expect(segmentsIn(directory).length).toBeGreaterThan(3);
    expect(texts(await readAll(directory))).toEqual(events);
    expect(texts(await readAll(directory, 150n))).toEqual(events.slice(150));
    for (const name of readdirSync(directory))
      if (name.endsWith('.idx')) writeFileSync(path.join(directory, name), '{"torn');
    const writer = openWriter(directory);
    expect(writer.next()).toBe(300n);
    const streams = writer.segments().flatMap(({ streams: all }) => [...all.values()]);
    expect(streams.at(-1)?.last).toBe(300n);
    await writer.close();
  });

  it('loses only the torn record, wherever the tail was cut', async () => {
    const directory = folders.create();
    await writeEvents(directory, ['first', 'second', 'third']);
    const [file = ''] = segmentsIn(directory);
    const whole = readFileSync(file);
    const size = frameBytesOf('acme', 5);
    for (let cut = SEGMENT_HEADER_BYTES; cut < whole.length; cut += 1) {
      writeFileSync(file, whole.subarray(0, cut));
      const writer = openWriter(directory);
      const kept = cut < SEGMENT_HEADER_BYTES + size ? 0 : cut < SEGMENT_HEADER_BYTES + 2 * size + 1 ? 1 : 2;
      expect(writer.next()).toBe(BigInt(kept));
      writer.append(record('acme', BigInt(kept + 1), 'again'));
      await writer.close();
      expect(texts(await readAll(directory))).toEqual([...['first', 'second'].slice(0, kept), 'again']);
    }
  });

  it('takes a tail of zeros for torn', async () => {
    const directory = folders.create();
    await writeEvents(directory, ['a']);
    const [file = ''] = segmentsIn(directory);
    truncateSync(file, statSync(file).size + 100_000);
    const writer = openWriter(directory);
    expect(writer.next()).toBe(1n);
    await writer.close();
  });

  it('refuses to go on when a record that was durable is damaged', async () => {
    const directory = folders.create();
    const writer = openWriter(directory);
    await writer.whenSynced(writer.append(record('acme', 1n, 'first')));
    await writer.whenSynced(writer.append(record('acme', 2n, 'second')));
    writer.append(record('acme', 3n, 'third'));
    await writer.close();
    const [file = ''] = segmentsIn(directory);
    flipBit(file, SEGMENT_HEADER_BYTES + frameBytesOf('acme', 5) - 1);
    expect(() => openWriter(directory)).toThrow(expect.objectContaining({ code: 'spool_corrupt' }));
  });

  it('cuts off whole records behind a torn one when the disk never had them for sure', async () => {
    const directory = folders.create();
    const writer = openWriter(directory);
    await writer.whenSynced(writer.append(record('acme', 1n, 'first')));
    writer.append(record('acme', 2n, 'second'));
    writer.append(record('acme', 3n, 'third'));
    await writer.close();
    const [file = ''] = segmentsIn(directory);
    flipBit(file, SEGMENT_HEADER_BYTES + frameBytesOf('acme', 5) + 20);
    const reopened = openWriter(directory);
    expect(reopened.next()).toBe(1n);
    await reopened.close();
  });

  it('refuses damage in an older segment, a missing segment, and a foreign one', async () => {
    const events = Array.from({ length: 300 }, (_, i) => `${i}-${'x'.repeat(900)}`);
    const corrupt = expect.objectContaining({ code: 'spool_corrupt' });
    const damaged = folders.create();
    await writeEvents(damaged, events);
    const files = segmentsIn(damaged);
    flipBit(files[1] ?? '', 30_000);
    for (const name of readdirSync(damaged)) if (name.endsWith('.idx')) truncateSync(path.join(damaged, name), 3);
    expect(() => openWriter(damaged)).toThrow(corrupt);
    const foreign = folders.create();
    await writeEvents(foreign, ['a']);
    expect(() => openWriter(foreign, { emitter: 'ff'.repeat(16) })).toThrow(corrupt);
  });

  it('goes on where a short write stopped', async () => {
    const directory = folders.create();
    const fs: SpoolFs = {
      ...realSpoolFs,
      write: (fd, bytes, offset, length, position) => writeSync(fd, bytes, offset, Math.min(length, 7), position),
    };
    const writer = openWriter(directory, { fs });
    writer.append(record('acme', 1n, 'a long enough event'));
    await writer.close();
    expect(texts(await readAll(directory))).toEqual(['a long enough event']);
  });

  it.each(['write', 'sync'] as const)(
    'is dead after a failed %s; a new writer goes on with what was whole',
    async (what) => {
      const directory = folders.create();
      let broken = false;
      let failures = 0;
      const fs: SpoolFs = {
        ...realSpoolFs,
        write: (fd, bytes, offset, length, position) => {
          if (!broken || what !== 'write') return realSpoolFs.write(fd, bytes, offset, length, position);
          if (length > 10) return writeSync(fd, bytes, offset, 10, position);
          throw Object.assign(new Error('no space'), { code: 'ENOSPC' });
        },
        sync: (fd, done) =>
          broken && what === 'sync' ? done(new Error('input/output error')) : realSpoolFs.sync(fd, done),
      };
      const writer = openWriter(directory, { fs, onFailure: () => (failures += 1) });
      await writer.whenSynced(writer.append(record('acme', 1n, 'kept')));
      broken = true;
      const number = writer.append(record('acme', 2n, '12'));
      await expect(writer.whenSynced(number)).rejects.toMatchObject({ code: 'spool_failed' });
      expect(() => writer.append(record('acme', 3n, 'never'))).toThrow(
        expect.objectContaining({ code: 'spool_failed' }),
      );
      await expect(writer.close()).rejects.toMatchObject({ code: 'spool_failed' });
      expect(failures).toBe(1);
      const again = openWriter(directory, { rewriteTail: true });
      again.append(record('acme', 1n, 'new boot', { boot: 2n }));
      await again.close();
      // A failed sync leaves the record readable; a failed write tore it.
      expect(texts(await readAll(directory))).toEqual(
        what === 'sync' ? ['kept', '12', 'new boot'] : ['kept', 'new boot'],
      );
    },
  );

  it('denies a tenant beyond its quota and nobody else', async () => {
    const writer = openWriter(folders.create(), {
      limits: limits({ quotaBytes: (t) => (t === 'small' ? 4096 : 1e9) }),
    });
    const event = 'x'.repeat(1000);
    let taken = 0n;
    const fill = (): void => {
      for (;;) {
        writer.append(record('small', taken + 1n, event));
        taken += 1n;
      }
    };
    expect(fill).toThrow(expect.objectContaining({ code: 'spool_full', details: { scope: 'tenant' } }));
    expect(taken).toBe(3n);
    expect(writer.append(record('large', 1n, event))).toBe(3n);
    expect(writer.append(record('small', 4n, event, { reserve: true }))).toBe(4n);
    writer.applyCoverage((_boot, tenant, last) => tenant === 'small' && last <= 4n, 1e9);
    expect(writer.append(record('small', 5n, event))).toBe(5n);
    await writer.close();
  });

  it('keeps the reserve for those who may use it, and never drops what is not covered', async () => {
    const directory = folders.create();
    const writer = openWriter(directory, { limits: limits({ maxBytes: 200_000, reserveBytes: 50_000 }) });
    const event = 'x'.repeat(1000);
    const fill = (reserve: boolean, from: bigint): bigint => {
      let sequence = from;
      try {
        for (;;) {
          writer.append(record('acme', sequence, event, { reserve }));
          sequence += 1n;
        }
      } catch (error) {
        expect(error).toMatchObject({ code: 'spool_full', details: { scope: 'spool' } });
      }
      return sequence;
    };
    const ordinary = fill(false, 1n);
    const all = fill(true, ordinary);
    expect(Number(ordinary)).toBeGreaterThan(130);
    expect(Number(all - ordinary)).toBeGreaterThan(40);
    expect(writer.status().usedBytes).toBeLessThanOrEqual(200_000);
    await writer.close();
    expect(await readAll(directory)).toHaveLength(Number(all - 1n));
  });

  it('gives up covered segments when room is needed, oldest first, counted; also the one being written', async () => {
    const directory = folders.create();
    for (const segmentBytes of [20_000, 1_000_000]) {
      const writer = openWriter(path.join(directory, String(segmentBytes)), {
        limits: limits({ segmentBytes, maxBytes: 100_000, reserveBytes: 10_000 }),
      });
      const event = 'x'.repeat(1000);
      let ackedTo = 0n;
      for (let sequence = 1n; sequence <= 500n; sequence += 1n) {
        writer.append(record('acme', sequence, event));
        ackedTo = sequence;
        writer.applyCoverage((_boot, _tenant, last) => last <= ackedTo, 1e9);
      }
      expect(writer.status().givenUp).toBeGreaterThan(0);
      expect(writer.status().usedBytes).toBeLessThanOrEqual(100_000);
      expect(writer.next()).toBe(500n);
      await writer.close();
    }
  });

  it('deletes covered segments that are older than the time to keep them, and stops at the first uncovered', async () => {
    const directory = folders.create();
    let nowMs = 1_000_000;
    const writer = openWriter(directory, { nowMs: () => nowMs, limits: limits({ segmentBytes: 10_000 }) });
    const event = 'x'.repeat(1000);
    for (let sequence = 1n; sequence <= 50n; sequence += 1n) writer.append(record('acme', sequence, event));
    const before = writer.segments().length;
    writer.applyCoverage(() => true, 60_000);
    expect(writer.segments().length).toBe(before);
    nowMs += 61_000;
    writer.applyCoverage((_boot, _tenant, last) => last <= 20n, 60_000);
    const left = writer.segments();
    expect(left.length).toBeLessThan(before);
    expect(left[0]?.base).toBeGreaterThan(0n);
    expect(left[0]?.base).toBeLessThanOrEqual(20n);
    await writer.close();
    const reopened = openWriter(directory);
    expect(reopened.next()).toBe(50n);
    await reopened.close();
  });

  it('leaves no descriptor behind', async () => {
    const directory = folders.create();
    const probe = openSync(directory, 'r');
    closeSync(probe);
    await writeEvents(
      directory,
      Array.from({ length: 300 }, () => 'x'.repeat(900)),
    );
    const after = openSync(directory, 'r');
    closeSync(after);
    expect(after).toBe(probe);
  });

  it('leaves no descriptor behind when segments end faster than the disk syncs', async () => {
    const directory = folders.create();
    const probe = openSync(directory, 'r');
    closeSync(probe);
    let letSync: () => void = () => undefined;
    const started = new Promise<void>((resolve) => {
      letSync = resolve;
    });
    const slow: SpoolFs = {
      ...realSpoolFs,
      sync: (fd, done) => {
        letSync();
        setTimeout(() => realSpoolFs.sync(fd, done), 100);
      },
    };
    const writer = openWriter(directory, { fs: slow });
    writer.append(record('acme', 1n, 'first'));
    await started;
    for (let n = 2n; n <= 200n; n += 1n) writer.append(record('acme', n, 'x'.repeat(900)));
    expect(writer.status().segments).toBeGreaterThan(2);
    await writer.close();
    const after = openSync(directory, 'r');
    closeSync(after);
    expect(after).toBe(probe);
  });
});
