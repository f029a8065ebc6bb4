import { measureNeighbours, neighbourTable } from '../../scripts/bench/neighbours.ts';

describe('the bench of neighbours', () => {
  it('has a tenant of runaways beside one that goes on being answered, and sees the budget bound it', async () => {
    const results = await measureNeighbours({
      rounds: 1,
      durationMs: 3_000,
      warmUpMs: 1_500,
      offeredPerS: 40,
      connections: 4,
      fuelPerSecond: 10_000_000,
      log: () => undefined,
    });
    expect(results.alone.runawaysPerS).toBe(0);
    const [free, bounded] = [results['neighbour, no budget'], results['neighbour, its budget']];
    expect(free.refusedPerS).toBe(0);
    expect(free.runawaysPerS).toBeGreaterThan(0);
    // Each takes 5,000,000.
    expect(bounded.runawaysPerS).toBeLessThan(6);
    expect(bounded.refusedPerS).toBeGreaterThan(0);
    for (const { answeredPerS, p50Ms, p99Ms } of Object.values(results)) {
      expect(answeredPerS).toBeGreaterThan(0);
      expect(p99Ms).toBeGreaterThanOrEqual(p50Ms);
    }
    expect(neighbourTable(results)).toMatch(/neighbour, its budget +\d/);
  }, 120_000);
});
