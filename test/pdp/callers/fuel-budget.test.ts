import { createFuelBudgets } from '../../../services/pdp/callers/fuel-budget.ts';
import type { EvaluationResult } from '../../../services/pdp/core/evaluate.ts';
import type { Settings } from '../../../services/shared/settings/schema.ts';
import { loadSettings } from '../../../services/shared/settings/settings.ts';

const base = loadSettings({ environment: {} }).settings;
const settings = (perSecond: number, tenants: Settings['tenants'] = {}): Settings => ({
  ...base,
  pdp: { ...base.pdp, fuel_per_second: perSecond },
  tenants,
});
const fault = (code: 'policy_fuel' | 'policy_error', fuelUsed: number): EvaluationResult => ({
  outcome: 'fault',
  code,
  message: 'm',
  fuelUsed,
  fuelLimit: fuelUsed,
});

const setUp = (initial: Settings) => {
  const clock = { ms: 0 };
  return { clock, budgets: createFuelBudgets(initial, () => clock.ms) };
};

describe('a fuel budget', () => {
  it('lets a second’s worth through at once, then as much as comes back', () => {
    const { clock, budgets } = setUp(settings(10_000));
    for (let n = 0; n < 10; n += 1) {
      expect(budgets.waitS('acme')).toBe(0);
      budgets.charge('acme', fault('policy_error', 1_000));
    }
    expect(budgets.waitS('acme')).toBe(1);
    clock.ms = 100;
    expect(budgets.waitS('acme')).toBe(0);
    clock.ms = 60_000;
    budgets.charge('acme', fault('policy_error', 9_999));
    expect(budgets.waitS('acme')).toBe(0);
    budgets.charge('acme', fault('policy_error', 1));
    expect(budgets.waitS('acme')).toBe(1);
  });

  it('says how long a debt takes, and a runaway owes five times what it used', () => {
    const { clock, budgets } = setUp(settings(1_000_000));
    budgets.charge('acme', fault('policy_fuel', 1_000_000));
    expect(budgets.waitS('acme')).toBe(4);
    clock.ms = 3_900;
    expect(budgets.waitS('acme')).toBe(1);
    clock.ms = 4_001;
    expect(budgets.waitS('acme')).toBe(0);
  });

  it('is each tenant’s own, as the settings say, also when they are read again', () => {
    const { budgets } = setUp(settings(1_000, { large: { fuel_per_second: 1_000_000 } }));
    for (const tenant of ['small', 'large']) budgets.charge(tenant, fault('policy_error', 5_000));
    expect(budgets.waitS('small')).toBe(4);
    expect(budgets.waitS('large')).toBe(0);
    budgets.reload(settings(1_000, { small: { fuel_per_second: 2_000 }, large: { fuel_per_second: 2_000 } }))();
    expect(budgets.waitS('small')).toBe(2);
    budgets.charge('large', fault('policy_error', 10_000));
    expect(budgets.waitS('large')).toBeGreaterThan(3);
    budgets.reload(settings(1_000, { large: {} }))();
    expect(budgets.waitS('small')).toBe(0);
  });
});
