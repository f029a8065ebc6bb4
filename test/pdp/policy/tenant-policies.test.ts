import type { DecidingPolicy } from '../../../services/pdp/core/decide.ts';
import { applyChange, NOTHING_PUSHED, type PushedData } from '../../../services/pdp/core/pushed-data.ts';
import { loadPolicySet, type PolicySnapshot } from '../../../services/pdp/policy/policy-set.ts';
import {
  createTenantPolicies,
  type TenantPolicies,
  type TenantPoliciesOptions,
} from '../../../services/pdp/policy/tenant-policies.ts';
import { createWorkQueue } from '../../../services/pdp/policy/work-queue.ts';
import { inputFor, makeBundle } from './make-bundles.ts';

/** Says which push it saw. */
const REGO = `package edict

# METADATA
# entrypoint: true
decide := {"version": 1, "allow": true, "reasons": [{"code": code}], "obligations": [], "advice": [], "legs": {"subject": true}}

default code := "none"

code := concat("", ["n", format_int(data.users.n, 10)])
`;

const push = (data: PushedData, n: number): PushedData =>
  applyChange(data, { op: 'put', path: ['users', 'n'], value: n }, n, 10_000);
const said = (policy: DecidingPolicy | undefined): string | undefined => {
  const result = policy?.evaluate(JSON.stringify(inputFor()), 1_767_225_600_000);
  return result?.outcome === 'answer' ? result.value.reasons[0]?.code : result?.code;
};

describe('what decides for a tenant', () => {
  const sets: PolicySnapshot[] = [];
  let snapshot: PolicySnapshot | undefined;
  let data: PushedData;
  let policies: TenantPolicies;
  beforeAll(async () => {
    for (const serial of [1, 2]) {
      const bytes = await makeBundle({ rego: REGO, serial });
      const file = { source: 'a', path: 'a', bytes, signing: undefined, etag: undefined };
      const { snapshot: loaded } = await loadPolicySet([file]);
      sets.push({ ...loaded, freshness: () => ({ state: 'fresh', untilMs: undefined }) });
    }
  });
  beforeEach(() => {
    [snapshot] = sets;
    data = NOTHING_PUSHED;
    policies = createTenantPolicies(options());
  });
  const options = (): TenantPoliciesOptions => ({
    snapshotOf: () => snapshot,
    dataOf: (tenant) => (tenant === 'acme' ? data : NOTHING_PUSHED),
    limits: { maxEngines: 16, maxBytes: 1024 ** 3 },
    waitMs: 1_000,
    monotonicMs: () => 0,
    inTurns: createWorkQueue(() => 0),
    onFailed: () => undefined,
  });

  it('is the set without a data revision while nothing was pushed, and for those who pushed nothing', () => {
    expect(policies.current('acme')).toMatchObject({ setDigest: snapshot?.setDigest, data: undefined });
    data = push(data, 1);
    expect(said(policies.current('acme'))).toBe('n1');
    expect(policies.current('acme')?.data).toEqual(data.identity);
    expect(policies.current('globex')).toMatchObject({ setDigest: snapshot?.setDigest, data: undefined });
    expect(said(policies.current('globex'))).toBe('none');
  });

  it('is one object as long as neither set nor data changes', () => {
    data = push(data, 1);
    const first = policies.current('acme');
    expect(policies.current('acme')).toBe(first);
    data = push(data, 2);
    expect(policies.current('acme')).not.toBe(first);
  });

  it('is made anew with the limits of its tenant when those change', () => {
    const limits = { memoryMaxBytes: 64 * 1024 * 1024, resultMaxBytes: 1024 * 1024 };
    let own = { ...limits, fuel: 1_000_000 };
    const limited = createTenantPolicies({ ...options(), limitsOf: () => own });
    data = push(data, 1);
    expect(said(limited.current('acme'))).toBe('n1');
    own = { ...limits, fuel: 10 };
    expect(said(limited.current('acme'))).toBe('policy_fuel');
    own = { ...limits, fuel: 1_000_000 };
    expect(said(limited.current('acme'))).toBe('n1');
  });

  it('gives nothing to who goes on with a set while the tenant is denied', () => {
    data = push(data, 1);
    const held = policies.current('acme') as DecidingPolicy;
    snapshot = undefined;
    expect(policies.current('acme')).toBeUndefined();
    expect(policies.renewed('acme', held)).toBeUndefined();
  });

  it('names, for who goes on with an older set, the data that the engines of that set have', () => {
    data = push(data, 1);
    const held = policies.current('acme') as DecidingPolicy;
    expect(policies.renewed('acme', held)).toBe(held);
    data = push(data, 2);
    policies.current('acme');
    [, snapshot] = sets;
    data = push(data, 3);
    expect(said(policies.current('acme'))).toBe('n3');
    const renewed = policies.renewed('acme', held);
    if (renewed === undefined) throw new Error('the tenant is denied');
    expect(renewed.bundles).toEqual(held.bundles);
    expect(said(renewed)).toBe('n2');
    expect(renewed.data?.revision).toBe(2);
    expect(policies.renewed('acme', sets[0] as DecidingPolicy)).toBe(sets[0]);
  });
});
