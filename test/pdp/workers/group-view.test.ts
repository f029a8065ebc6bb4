import { groupBundles, groupChecks, groupMetrics, type AskGroup } from '../../../services/pdp/workers/group-view.ts';
import { readiness, type Checks } from '../../../services/shared/runtime/health.ts';
import { Counter, createRegistry } from '../../../services/shared/runtime/metrics.ts';

const STATUS = { wanted: 2, running: 2, restarts: 3 };
const answering =
  (...answers: readonly unknown[]): AskGroup =>
  () =>
    Promise.resolve({ status: STATUS, answers });

describe('the readiness of a group', () => {
  const own: Checks = { spool: () => ({ ok: true }), bundle: () => ({ ok: true }) };
  const good: Checks = { ...own, spool: () => ({ ok: true, facts: { slot: '0' } }) };
  const full: Checks = { ...own, spool: () => ({ ok: false, reason: 'full', facts: { slot: '1' } }) };

  it('is there when all are ready, with the facts of each', async () => {
    const all = answering(await readiness(good), await readiness(good));
    expect(await readiness(groupChecks(own, all))).toMatchObject({
      ready: true,
      checks: {
        workers: { ok: true, facts: STATUS },
        spool: { ok: true, facts: { worker_0: { slot: '0' }, worker_1: { slot: '0' } } },
      },
    });
  });

  it('fails when one fails, and names it', async () => {
    const all = answering(await readiness(good), await readiness(full));
    expect(await readiness(groupChecks(own, all))).toMatchObject({
      failing: ['spool'],
      checks: { spool: { reason: 'worker 1: full', facts: { worker_1: { slot: '1' } } }, bundle: { ok: true } },
    });
  });

  it('fails when one does not answer, and when the primary does not', async () => {
    const one = answering(undefined, await readiness(good));
    expect(await readiness(groupChecks(own, one))).toMatchObject({
      failing: ['workers'],
      checks: { workers: { reason: 'no answer of worker 0' } },
    });
    const none: AskGroup = () => Promise.resolve({ status: { wanted: 0, running: 0, restarts: 0 }, answers: [] });
    expect((await readiness(groupChecks(own, none))).failing).toEqual(['workers']);
  });

  it('asks once for many who want to know at the same time, and again a moment later', async () => {
    let [asked, nowMs] = [0, 0];
    const answer = await readiness(good);
    const checks = groupChecks(
      own,
      () => {
        asked += 1;
        return Promise.resolve({ status: STATUS, answers: [answer, answer] });
      },
      () => nowMs,
    );
    await Promise.all([readiness(checks), readiness(checks)]);
    expect(asked).toBe(1);
    nowMs = 201;
    await readiness(checks);
    expect(asked).toBe(2);
  });
});

describe('the metrics of a group', () => {
  it('are those of each worker, each with its label, and what the primary counts', async () => {
    const registries = [0, 1].map((worker) => {
      const registry = createRegistry({ service: 'pdp', worker });
      new Counter({ name: 'edict_test_total', help: 'T.', labelNames: ['tenant'], registers: [registry] }).inc(
        { tenant: 'acme' },
        worker + 5,
      );
      return registry;
    });
    const text = await groupMetrics(
      answering(...(await Promise.all(registries.map((each) => each.getMetricsAsJSON())))),
    );
    expect(text).toContain('edict_test_total{tenant="acme",service="pdp",worker="0"} 5\n');
    expect(text).toContain('edict_test_total{tenant="acme",service="pdp",worker="1"} 6\n');
    expect(text.match(/^# TYPE edict_test_total counter$/gm)).toHaveLength(1);
    // What prom-client would leave out of a sum.
    expect(text.match(/^process_start_time_seconds\{/gm)).toHaveLength(2);
    expect(text).toContain('edict_workers{service="pdp"} 2\n');
    expect(text).toContain('edict_worker_restarts{service="pdp"} 3\n');
  });

  it('leave out a worker that does not answer', async () => {
    const registry = createRegistry({ service: 'pdp', worker: 1, processMetrics: false });
    new Counter({ name: 'edict_test_total', help: 'T.', registers: [registry] }).inc();
    const text = await groupMetrics(answering(undefined, await registry.getMetricsAsJSON()));
    expect(text).toContain('edict_test_total{service="pdp",worker="1"} 1\n');
  });
});

describe('the bundles of a group', () => {
  const set = (digest: string, confirmedMs: number) => ({ sets: [{ active: { setDigest: digest, confirmedMs } }] });

  it('agree when the same sets are active, whenever they were seen', async () => {
    expect(await groupBundles(set('a', 1), 'acme', answering(set('a', 1), set('a', 2)))).toEqual({
      ...set('a', 1),
      workers: { agree: true },
    });
  });

  it('are told one by one when they differ, or when one does not answer', async () => {
    expect(await groupBundles(set('a', 1), 'acme', answering(set('a', 1), set('b', 1)))).toMatchObject({
      workers: { agree: false, each: [[{ active: 'a' }], [{ active: 'b' }]] },
    });
    expect(await groupBundles(set('a', 1), 'acme', answering(set('a', 1), undefined))).toMatchObject({
      workers: { agree: false, each: [[{ active: 'a' }], null] },
    });
  });
});
