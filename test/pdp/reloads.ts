import { mkdtemp, rename, rm, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { createBundleLoader } from '../../services/pdp/bundle-loader.ts';
import { NOTHING_PUSHED } from '../../services/pdp/core/pushed-data.ts';
import { startActivePolicy } from '../../services/pdp/policy/active-policy.ts';
import { createMemoryPool } from '../../services/pdp/policy/engine/memory-pool.ts';
import { createTenantPolicies, type TenantPolicies } from '../../services/pdp/policy/tenant-policies.ts';
import { createWorkQueue } from '../../services/pdp/policy/work-queue.ts';
import { answering, inputFor, makeBundle } from './policy/make-bundles.ts';

const MIB = 1024 * 1024;
const TENANTS = ['a', 'b', 'c'];
/** Sizes are taken at so many points, of which the first tenth is the warm-up. */
const POINTS = 20;

export interface ReloadsSeen {
  /** What decided after each reload was not the bundle that was put there. */
  readonly wrong: readonly string[];
  /** Resident memory of this process over time, after the warm-up, bytes. */
  readonly residentBytes: readonly number[];
  readonly engines: ReturnType<TenantPolicies['status']>;
}

/** Replaces a bundle again and again, each time another of two, and lets three tenants decide after each. */
export const reloadMany = async (times: number): Promise<ReloadsSeen> => {
  const folder = await mkdtemp(path.join(os.tmpdir(), 'edict-reloads-'));
  const file = path.join(folder, 'bundle.tar.gz');
  const rows = Array.from({ length: 5_000 }, (_, i) => ({ id: i, name: `row ${i}` }));
  const codes = ['one', 'two'];
  const archives = await Promise.all(
    codes.map((code) => makeBundle({ rego: answering(code), data: { mesh: { rows } } })),
  );
  const put = async (index: number): Promise<void> => {
    await writeFile(`${file}.new`, archives[index] ?? '');
    await rename(`${file}.new`, file);
  };
  const monotonicMs = (): number => performance.now();
  const inTurns = createWorkQueue(monotonicMs);
  const loader = createBundleLoader({ timeoutMs: 60_000 });
  const policies = createTenantPolicies({
    snapshotOf: (tenant) => policy.current(tenant),
    dataOf: () => NOTHING_PUSHED,
    limits: { maxEngines: 16, maxBytes: 1_024 * MIB },
    waitMs: 10_000,
    monotonicMs,
    inTurns,
    onFailed: (tenant, reason) => wrong.push(`${tenant}: ${reason}`),
  });
  const wrong: string[] = [];
  await put(0);
  const policy = await startActivePolicy({
    bundles: [{ path: file }],
    pollMs: 3_600_000,
    nowMs: Date.now,
    loading: { limits: { memoryMaxBytes: 64 * MIB, pool: createMemoryPool() }, load: loader.load, inTurns },
    onActivated: ({ snapshot, previous }) => policies.activated(snapshot, previous),
    onFailed: ({ message }) => wrong.push(message),
  });
  const input = JSON.stringify(inputFor());
  const residentBytes: number[] = [];
  try {
    for (let time = 1; time <= times; time += 1) {
      const index = time % 2;
      await put(index);
      await policy.refresh();
      for (const tenant of TENANTS) {
        if (policies.current(tenant) === undefined) await policies.ready(tenant);
        const result = policies.current(tenant)?.evaluate(input, Date.now());
        const code = result?.outcome === 'answer' ? result.value.reasons[0]?.code : result?.code;
        if (code !== codes[index]) wrong.push(`${time}: ${tenant} got ${String(code)}`);
      }
      if (time % Math.ceil(times / POINTS) === 0) residentBytes.push(process.memoryUsage.rss());
    }
    return { wrong, residentBytes: residentBytes.slice(POINTS / 10), engines: policies.status() };
  } finally {
    await policy.close();
    await loader.close();
    await rm(folder, { recursive: true, force: true });
  }
};
