import type { PrepareReload } from '../../shared/runtime/reload.ts';
import type { Settings } from '../../shared/settings/schema.ts';
import { tenantNames } from '../../shared/settings/settings.ts';
import type { ChargeFuel } from '../core/evaluate.ts';

export interface FuelBudgets {
  /** 0, or the seconds until the tenant has fuel again. */
  readonly waitS: (tenant: string) => number;
  readonly charge: ChargeFuel;
  readonly reload: PrepareReload;
}

interface Bucket {
  fuel: number;
  atMs: number;
}

/**
 * An evaluation that ran out of fuel costs several times what it used: its units take longer than those of honest work,
 * its instance is lost, and it gave nothing.
 */
const RUNAWAY_FACTOR = 5;

/**
 * One bucket a tenant, refilled with `fuel_per_second`, holding one second's worth. What an evaluation costs is known
 * only after it, so the last one may leave a debt, which later requests wait for. Each of several workers has its share.
 */
export const createFuelBudgets = (initial: Settings, monotonicMs: () => number, workers = 1): FuelBudgets => {
  let { tenants } = initial;
  const buckets = new Map<string, Bucket>();
  const rateOf = (tenant: string): number =>
    (tenants[tenant]?.fuel_per_second ?? initial.pdp.fuel_per_second) / workers;
  const refilled = (tenant: string, rate: number): Bucket => {
    const nowMs = monotonicMs();
    const bucket = buckets.get(tenant) ?? { fuel: rate, atMs: nowMs };
    bucket.fuel = Math.min(rate, bucket.fuel + ((nowMs - bucket.atMs) / 1_000) * rate);
    bucket.atMs = nowMs;
    buckets.set(tenant, bucket);
    return bucket;
  };
  return {
    waitS(tenant) {
      const rate = rateOf(tenant);
      const { fuel } = refilled(tenant, rate);
      return fuel > 0 ? 0 : Math.max(1, Math.ceil(-fuel / rate));
    },
    charge(tenant, result) {
      const isRunaway = result.outcome === 'fault' && result.code === 'policy_fuel';
      refilled(tenant, rateOf(tenant)).fuel -= result.fuelUsed * (isRunaway ? RUNAWAY_FACTOR : 1);
    },
    reload: (settings) => () => {
      ({ tenants } = settings);
      const known = new Set(tenantNames(settings));
      for (const tenant of buckets.keys()) if (!known.has(tenant)) buckets.delete(tenant);
    },
  };
};
