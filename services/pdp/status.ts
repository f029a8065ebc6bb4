import { SYSTEM_TENANT } from '../shared/contracts/tenant.ts';
import type { Checks } from '../shared/runtime/health.ts';
import type { AuditTrail } from './audit-trail/audit-trail.ts';
import type { ActivePolicy } from './policy/active-policy.ts';
import type { PolicySetStatus } from './policy/active-set.ts';
import { limitsInForce, type PolicyLimits } from './policy/limits.ts';
import type { TenantPolicies } from './policy/tenant-policies.ts';

/** Of an active set: it expired, or its sources did not confirm it for longer than `pdp.max_staleness`. */
export const isStale = ({ active }: PolicySetStatus): boolean => active?.stale === true || active?.expired === true;

/** Counts, and names no tenant, no path and no reason: anybody may ask. */
export const readinessChecks = (
  policy: ActivePolicy,
  trail: AuditTrail,
  reloadFailure: () => string | undefined,
): Checks => ({
  bundle: () => {
    const sets = policy.status();
    const missing = sets.filter(({ active }) => active === undefined).length;
    const denying = sets.filter(({ active }) => active?.denies === true).length;
    const counts = {
      failed: sets.filter(({ failed }) => failed !== undefined).length,
      stale: sets.filter(({ active }) => active?.stale === true).length,
      expired: sets.filter(({ active }) => active?.expired === true).length,
      denying,
      not_kept: sets.filter(({ notKept }) => notKept !== undefined).length,
    };
    const facts = { sets: sets.length, ...Object.fromEntries(Object.entries(counts).filter(([, count]) => count > 0)) };
    if (missing > 0) {
      const reason = `no bundle is active for ${missing} of ${sets.length} sets: GET /v1/bundles names them`;
      return { ok: false, reason, facts };
    }
    // While another set decides, its tenants are not sent elsewhere for one that expired.
    if (denying < sets.length) return { ok: true, facts };
    return { ok: false, reason: 'every set denies, expired or stale: GET /v1/bundles says since when', facts };
  },
  settings: () => (reloadFailure() === undefined ? { ok: true } : { ok: true, facts: { reload_failed: true } }),
  ...trail.checks,
});

const timeOf = (ms: number | undefined): string | undefined =>
  ms === undefined ? undefined : new Date(ms).toISOString();

/** As `GET /v1/bundles` shows it: times in RFC 3339. */
const shownSet = ({ remotes, active, pending, failed, ...set }: PolicySetStatus): unknown => {
  const { sinceMs, confirmedMs, expiresMs, ...shown } = active ?? {};
  return {
    ...set,
    remotes: remotes.map(({ confirmedMs: ms, ...remote }) => ({ ...remote, confirmed: timeOf(ms) })),
    ...(active === undefined
      ? {}
      : { active: { ...shown, since: timeOf(sinceMs), confirmed: timeOf(confirmedMs), expires: timeOf(expiresMs) } }),
    ...(pending === undefined ? {} : { pending: { message: pending.message, since: timeOf(pending.sinceMs) } }),
    ...(failed === undefined ? {} : { failed: { ...failed, atMs: undefined, at: timeOf(failed.atMs) } }),
  };
};

export interface BundleStatusOptions {
  readonly policy: ActivePolicy;
  readonly policies: TenantPolicies;
  readonly tenants: () => readonly string[];
  readonly limitsOf: (tenant: string) => PolicyLimits;
  /** Tenants whose pushed data cannot be read, and why. */
  readonly unreadable: () => ReadonlyMap<string, string>;
}

/** What a caller may see: their own tenant's set and engine; the system tenant's operators see all. */
export const createBundleStatus = (options: BundleStatusOptions): ((tenant: string) => unknown) => {
  const { policy, policies, tenants, limitsOf, unreadable } = options;
  const factsOf = (tenant: string): unknown => {
    const reason = unreadable().get(tenant);
    const snapshot = policy.current(tenant);
    const names = snapshot?.bundles.map(({ name }) => name) ?? [];
    return {
      ...(reason === undefined ? policies.factsOf(tenant) : { state: 'denied', bytes: 0, reason }),
      limits: limitsInForce(limitsOf(tenant), names, snapshot?.asked ?? {}),
    };
  };
  return (tenant) => {
    const sets = policy.status();
    const isSystem = tenant === SYSTEM_TENANT;
    const own = sets.filter((set) => set.tenant === tenant);
    const shown = isSystem ? sets : own.length > 0 ? own : sets.filter((set) => set.tenant === undefined);
    const named = isSystem ? tenants() : [tenant];
    return {
      sets: shown.map(shownSet),
      engines: {
        ...(isSystem ? policies.status() : {}),
        tenants: Object.fromEntries(named.map((name) => [name, factsOf(name)])),
      },
    };
  };
};
