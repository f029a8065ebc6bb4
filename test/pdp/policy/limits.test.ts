import { createTenantLimits, limitsInForce } from '../../../services/pdp/policy/limits.ts';
import type { Settings } from '../../../services/shared/settings/schema.ts';
import { loadSettings } from '../../../services/shared/settings/settings.ts';

const base = loadSettings({ environment: {} }).settings;
const withTenants = (tenants: Settings['tenants']): Settings => ({ ...base, tenants });
const MIB = 1024 * 1024;
const COMMON = {
  fuel: 1_000_000,
  memoryMaxBytes: 64 * MIB,
  resultMaxBytes: MIB,
  input: { maxBytes: 256 * 1024, maxDepth: 64, maxMembers: 10_000 },
};

describe('limits', () => {
  it('are a tenant’s own where it has some, be they less or more, else those of all', () => {
    const limits = createTenantLimits(
      withTenants({ acme: { fuel: 5_000_000, policy_memory: '16MiB', input: { depth: 8 } }, globex: {} }),
    );
    expect(limits.of('acme')).toEqual({
      ...COMMON,
      fuel: 5_000_000,
      memoryMaxBytes: 16 * MIB,
      input: { ...COMMON.input, maxDepth: 8 },
    });
    for (const tenant of ['globex', 'edict', undefined]) expect(limits.of(tenant)).toEqual(COMMON);
  });

  it('are one object until the settings say otherwise', () => {
    const limits = createTenantLimits(withTenants({ acme: { fuel: 5_000 }, globex: { fuel: 6_000 } }));
    const before = ['acme', 'globex', undefined].map(limits.of);
    limits.reload(withTenants({ acme: { fuel: 5_000, spool_quota: '1MiB' }, globex: { fuel: 7_000 } }))();
    expect(limits.of('acme')).toBe(before[0]);
    expect(limits.of('globex')).toMatchObject({ fuel: 7_000 });
    expect(limits.of(undefined)).toBe(before[2]);
    limits.reload(withTenants({}))();
    expect(limits.of('acme')).toBe(before[2]);
  });

  it('of a set are the least of what the tenant has and its bundles ask for', () => {
    const asked = {
      mesh: { fuel: 2_000_000, policy_memory: '16MiB', input: { max: '1KiB', members: 500 } },
      hr: { policy_result: '64KiB', input: { max: '2KiB', depth: 9 } },
    };
    expect(limitsInForce(COMMON, ['mesh', 'hr', 'plain'], asked)).toEqual({
      input: { maxBytes: 1_024, maxDepth: 9, maxMembers: 500 },
      bundles: {
        mesh: { fuel: 1_000_000, memoryMaxBytes: 16 * MIB, resultMaxBytes: MIB },
        hr: { fuel: 1_000_000, memoryMaxBytes: 64 * MIB, resultMaxBytes: 64 * 1024 },
        plain: { fuel: 1_000_000, memoryMaxBytes: 64 * MIB, resultMaxBytes: MIB },
      },
    });
  });
});
