import { measureWorkers, reportWorkers, type WorkersResults } from '../../scripts/bench/workers.ts';

describe('the bench of the workers', () => {
  it('measures one and two workers, with the CPU of all their processes', async () => {
    const { figures, driver } = await measureWorkers({
      rounds: 1,
      durationMs: 1_000,
      warmUpMs: 500,
      connections: 8,
      counts: [1, 2],
      driver: 'own',
      log: () => undefined,
    });
    expect(driver).toBe('own load generator');
    expect(figures.map(({ workers }) => workers)).toEqual([1, 2]);
    expect(figures[0]).toMatchObject({ scaling: 1, scalingByCpu: 1 });
    for (const figure of figures) {
      expect(figure.requestsPerS).toBeGreaterThan(0);
      // Less than any decision takes: of two workers the primary's own CPU would be next to nothing.
      expect(figure.cpuUsPerRequest).toBeGreaterThan(20);
    }
  }, 120_000);

  const figure = { requestsPerS: 9_000, p50Ms: 1, p99Ms: 2, cpuUsPerRequest: 100, coresUsed: 0.9 };
  const results = (cores: number): WorkersResults => ({
    driver: 'wrk',
    cores,
    figures: [
      { ...figure, workers: 1, scaling: 1, scalingByCpu: 1 },
      { ...figure, workers: 2, scaling: 1.75, scalingByCpu: 1.9 },
    ],
  });

  it('prints what is wanted beside what was reached', () => {
    expect(reportWorkers(results(4))).toContain('two workers to one: wanted >= 1.7 ×, reached 1.75 ×');
  });

  it('says plainly when other programs took the CPU', () => {
    const busy = results(4);
    expect(reportWorkers(busy)).not.toContain('other programs');
    const figures = busy.figures.map((each) => ({ ...each, coresUsed: 0.6 }));
    expect(reportWorkers({ ...busy, figures })).toContain('got 0.60 of a core: other programs');
  });

  it('says plainly when the load generator has no core of its own', () => {
    expect(reportWorkers(results(2))).toContain('2 cores are not enough for 2 workers and the load generator');
    expect(reportWorkers(results(3))).toContain('3 cores: enough');
  });
});
