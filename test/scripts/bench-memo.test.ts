import { measureMemo } from '../../scripts/bench/memo.ts';

describe('the bench of remembered answers', () => {
  it('measures each policy evaluated and remembered', async () => {
    const results = await measureMemo({ rounds: 1, turnMs: 1, log: () => undefined });
    expect(results.map(({ name }) => name)).toEqual(['roles and attributes', 'demo bundle']);
    for (const { reads, ...figures } of results) {
      expect(reads).not.toContain('');
      for (const us of [figures.evaluatedUs, figures.hitUs, figures.missUs]) expect(us).toBeGreaterThan(0);
      // Not by how much: that depends on the machine and its load.
      expect(figures.hitUs).toBeLessThan(figures.evaluatedUs);
    }
  });
});
