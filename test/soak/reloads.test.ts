import { reloadMany } from '../pdp/reloads.ts';

const MIB = 1024 * 1024;

describe('a decision point whose bundles are replaced for ever', () => {
  it('has no more memory after 10,000 reloads than after 1,000, and always decides by the newest', async () => {
    const { wrong, residentBytes, engines } = await reloadMany(10_000);
    process.stdout.write(`resident MiB: ${residentBytes.map((bytes) => Math.round(bytes / MIB)).join(' ')}\n`);
    expect(wrong).toEqual([]);
    expect(engines.live).toBe(3);
    const [first = 0, ...later] = residentBytes;
    const half = later.slice(later.length / 2);
    // Garbage that is not collected yet counts, so no single value is right.
    expect(Math.min(...half)).toBeLessThan(first + 32 * MIB);
    expect(Math.max(...half)).toBeLessThan(first + 128 * MIB);
  }, 3_600_000);
});
