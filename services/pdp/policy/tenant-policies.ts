import { errorMessage } from '../../shared/contracts/errors.ts';
import type { DecidingPolicy } from '../core/decide.ts';
import {
  dataInsideRoots,
  isSharedWithRoots,
  NOTHING_PUSHED,
  patchesBetween,
  type PushedData,
} from '../core/pushed-data.ts';
import type { PolicySnapshot } from './policy-set.ts';
import type { ForkedEvaluator } from './wasm-evaluator.ts';

export interface TenantPoliciesOptions {
  /** The set of bundles that decides for a tenant now. */
  readonly snapshotOf: (tenant: string) => PolicySnapshot | undefined;
  /** What was pushed for a tenant up to now. */
  readonly dataOf: (tenant: string) => PushedData;
  /** A tenant's set cannot be used with the tenant's data: it is denied until one of both changes. */
  readonly onFailed: (tenant: string, reason: string) => void;
}

export interface TenantPolicies {
  /**
   * What decides for a tenant now, bundles and pushed data; undefined when it has no set, or when its set cannot be
   * used with its data. Brings the tenant's engines to the newest data first, so an earlier answer must not be used
   * for another evaluation once something was awaited.
   */
  readonly current: (tenant: string) => DecidingPolicy | undefined;
  /** The set of `held`, which may not be the current one any more, with the data that its engines have by now. */
  readonly renewed: (held: DecidingPolicy) => DecidingPolicy;
  /** Tenants that are denied, and why. */
  readonly failures: () => ReadonlyMap<string, string>;
}

interface Entry {
  readonly snapshot: PolicySnapshot;
  readonly data: PushedData;
  readonly fork: ForkedEvaluator | undefined;
  readonly policy: DecidingPolicy | undefined;
}

const patched = (snapshot: PolicySnapshot, data: PushedData, known: Entry | undefined): ForkedEvaluator => {
  const { roots } = snapshot;
  const inside = dataInsideRoots(data, roots);
  if (inside !== undefined) throw new Error(`pushed data stands at ${inside || '/'}, which a bundle owns`);
  const whole = () => patchesBetween({}, data.document, roots);
  const usable =
    known?.snapshot === snapshot && !isSharedWithRoots(known.data, roots) && !isSharedWithRoots(data, roots);
  if (usable && known?.fork !== undefined) {
    known.fork.patchData(patchesBetween(known.data.document, data.document, roots), whole);
    return known.fork;
  }
  const fork = snapshot.fork();
  fork.patchData(whole(), whole);
  return fork;
};

/** Gives tenants with pushed data engines of their own; all others share those of their set. */
export const createTenantPolicies = (options: TenantPoliciesOptions): TenantPolicies => {
  const entries = new Map<string, Entry>();
  const failures = new Map<string, string>();
  /** By what evaluates: an engine is changed in place, so of its policies only the last says what it has. */
  const newest = new WeakMap<DecidingPolicy['evaluate'], DecidingPolicy>();

  const renew = (tenant: string, snapshot: PolicySnapshot, data: PushedData): DecidingPolicy | undefined => {
    try {
      const fork = patched(snapshot, data, entries.get(tenant));
      const { engine, entrypoint, bundles, setDigest, freshness, reads } = snapshot;
      const policy = {
        evaluate: fork.evaluate,
        engine,
        entrypoint,
        bundles,
        setDigest,
        freshness,
        data: data.identity,
        reads,
      };
      entries.set(tenant, { snapshot, data, fork, policy });
      newest.set(fork.evaluate, policy);
      failures.delete(tenant);
      return policy;
    } catch (cause) {
      const reason = errorMessage(cause);
      entries.set(tenant, { snapshot, data, fork: undefined, policy: undefined });
      failures.set(tenant, reason);
      options.onFailed(tenant, reason);
      return undefined;
    }
  };

  return {
    current(tenant) {
      const snapshot = options.snapshotOf(tenant);
      if (snapshot === undefined) return undefined;
      const data = options.dataOf(tenant);
      if (data === NOTHING_PUSHED) return snapshot;
      const known = entries.get(tenant);
      return known?.snapshot === snapshot && known.data === data ? known.policy : renew(tenant, snapshot, data);
    },
    renewed: (held) => newest.get(held.evaluate) ?? held,
    failures: () => failures,
  };
};
