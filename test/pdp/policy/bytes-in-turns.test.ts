import { createHash, randomBytes } from 'node:crypto';
import { joinInTurns, sha256HexInTurns } from '../../../services/pdp/policy/bytes-in-turns.ts';

const MIB = 1024 * 1024;

/** How many turns of the event loop a promise took. */
const turnsOf = async (work: Promise<unknown>): Promise<number> => {
  let turns = 0;
  let isOver = false;
  const count = (): void => {
    turns += 1;
    if (!isOver) setImmediate(count);
  };
  setImmediate(count);
  await work.finally(() => {
    isOver = true;
  });
  return turns;
};

describe('large bytes', () => {
  it.each([[[]], [[0]], [[1, 0, 5]], [[MIB]], [[MIB + 1, 3, 2 * MIB - 4]], [Array.from({ length: 40 }, () => 65_536)]])(
    'are joined as they are, in memory of their own (%#)',
    async (sizes) => {
      const parts = sizes.map((size) => randomBytes(size));
      const joined = await joinInTurns(parts);
      expect(Buffer.from(joined).equals(Buffer.concat(parts))).toBe(true);
      expect(joined.byteLength).toBe(joined.buffer.byteLength);
      expect(parts.every(({ buffer }) => buffer !== joined.buffer)).toBe(true);
    },
  );

  it.each([0, 1, MIB, MIB + 1, 3 * MIB])('have the digest that they have at once: %d bytes', async (size) => {
    const bytes = randomBytes(size);
    const expected = createHash('sha256').update(bytes).digest('hex');
    expect([await sha256HexInTurns(bytes), await sha256HexInTurns(bytes)]).toEqual([expected, expected]);
  });

  it('give others their turns', async () => {
    const bytes = randomBytes(16 * MIB);
    expect(await turnsOf(joinInTurns([bytes]))).toBeGreaterThanOrEqual(14);
    expect(
      await turnsOf(joinInTurns(Array.from({ length: 64 }, () => bytes.subarray(0, MIB / 4)))),
    ).toBeGreaterThanOrEqual(14);
    expect(await turnsOf(sha256HexInTurns(bytes))).toBeGreaterThanOrEqual(14);
  });
});
