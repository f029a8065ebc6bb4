import { SYSTEM_TENANT } from '../shared/contracts/tenant.ts';
import type { Checks } from '../shared/runtime/health.ts';
import type { AuditTrail } from './audit-trail/audit-trail.ts';
import type { ActivePolicy } from './policy/active-policy.ts';
import type { PolicySetStatus } from './policy/active-set.ts';
import type { TenantPolicies } from './policy/tenant-policies.ts';

export const isStale = ({ active }: PolicySetStatus): boolean =>
  active !== undefined && (active.stale || (active.expiresMs !== undefined && active.expiresMs <= Date.now()));

export const readinessChecks = (
  policy: ActivePolicy,
  trail: AuditTrail,
  reloadFailure: () => string | undefined,
): Checks => ({
  bundle: () => {
    const sets = policy.status();
    const missing = sets.filter(({ active }) => active === undefined);
    const failed = sets.flatMap(({ tenant, failed: why }) =>
      why === undefined ? [] : [{ ...(tenant === undefined ? {} : { tenant }), code: why.code, message: why.message }],
    );
    const stale = sets.filter(isStale).map(({ tenant }) => tenant ?? 'all');
    const notKept = sets.flatMap(({ notKept: why }) => (why === undefined ? [] : [why]));
    const facts = {
      sets: sets.length,
      ...(failed.length === 0 ? {} : { failed }),
      ...(stale.length === 0 ? {} : { stale }),
      ...(notKept.length === 0 ? {} : { not_kept: notKept }),
    };
    return missing.length === 0
      ? { ok: true, facts }
      : {
          ok: false,
          reason: `no bundle is active for ${missing.map(({ tenant }) => tenant ?? 'all').join(', ')}`,
          facts,
        };
  },
  settings: () => {
    const failure = reloadFailure();
    return failure === undefined ? { ok: true } : { ok: true, facts: { reload_failed: failure } };
  },
  ...trail.checks,
});

/** What a caller may see: their own tenant's set and engine; the system tenant's operators see all. */
export const bundleStatus =
  (
    policy: ActivePolicy,
    policies: TenantPolicies,
    tenants: () => readonly string[],
    unreadable: () => ReadonlyMap<string, string>,
  ) =>
  (tenant: string): unknown => {
    const sets = policy.status();
    const isSystem = tenant === SYSTEM_TENANT;
    const own = sets.filter((set) => set.tenant === tenant);
    const shown = isSystem ? sets : own.length > 0 ? own : sets.filter((set) => set.tenant === undefined);
    const named = isSystem ? tenants() : [tenant];
    return {
      sets: shown,
      engines: {
        ...(isSystem ? policies.status() : {}),
        tenants: Object.fromEntries(
          named.map((name) => {
            const reason = unreadable().get(name);
            return [name, reason === undefined ? policies.factsOf(name) : { state: 'denied', bytes: 0, reason }];
          }),
        ),
      },
    };
  };
