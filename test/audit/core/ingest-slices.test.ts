import { readMessage, type Reading } from '../../../services/audit/core/ingest-message.ts';
import { createSlicer } from '../../../services/audit/core/ingest-slices.ts';
import { createEmitter, messageOf, type MadeEvent } from './ingest-fixtures.ts';

const readingsOf = (events: readonly Pick<MadeEvent, 'bytes' | 'headers'>[]) =>
  events.map((event, index) => readMessage(messageOf(event, BigInt(index)), undefined));
const slicesOf = (readings: readonly Reading[], maxCount: number): readonly (readonly Reading[])[] => {
  const slicer = createSlicer(maxCount);
  const full = readings.map(slicer.add).filter((slice) => slice !== undefined);
  return [...full, slicer.rest()];
};
const lengths = (slices: readonly (readonly unknown[])[]): readonly number[] => slices.map(({ length }) => length);

describe('a batch of messages', () => {
  it('is cut by count, and keeps its order', () => {
    const emitter = createEmitter();
    const readings = readingsOf(Array.from({ length: 7 }, () => emitter.event('acme')));
    const slices = slicesOf(readings, 3);
    expect(lengths(slices)).toEqual([3, 3, 1]);
    expect(slices.flat()).toEqual(readings);
  });

  it('is cut by bytes, but never within a message', () => {
    const large = { bytes: Buffer.alloc(5 * 1024 * 1024), headers: {} };
    expect(lengths(slicesOf(readingsOf([large, large, { ...large, bytes: Buffer.alloc(9_000_000) }]), 10))).toEqual([
      1, 1, 1,
    ]);
  });

  it('is cut before heartbeats and lost events could become more entries than one transaction takes', () => {
    const emitter = createEmitter(9n);
    const recovered = Array.from({ length: 4_096 }, () => ({ boot: '1', sequence: '1', digest: '0'.repeat(64) }));
    const lost = Array.from({ length: 4_096 }, () => ({ boot: '1', from: '1', to: '1' }));
    const events = Array.from({ length: 10 }, (_, index) =>
      index % 2 === 0
        ? emitter.event('acme', { type: 'edict.heartbeat.v1', data: { recovered } })
        : emitter.event('acme', { type: 'edict.lost.v1', data: { lost } }),
    );
    const readings = readingsOf(events);
    expect(readings.every(({ content }) => content.ok)).toBe(true);
    expect(lengths(slicesOf(readings, 500))).toEqual([4, 4, 2]);
  });

  it('of ordinary events is not cut by what they could become', () => {
    const emitter = createEmitter();
    const [reading] = readingsOf([emitter.event('acme')]);
    expect(
      lengths(
        slicesOf(
          Array.from({ length: 5_000 }, () => reading!),
          5_000,
        ),
      ),
    ).toEqual([5_000]);
  });
});
