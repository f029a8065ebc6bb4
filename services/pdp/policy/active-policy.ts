import type { BundleIdentity } from '../../shared/contracts/decision.ts';
import { AppError, errorMessage, isAppError } from '../../shared/contracts/errors.ts';
import { createBundleSource, type LookAtBundles, type SourceState } from './bundle-source.ts';
import type { EvaluatorLimits } from './wasm-evaluator.ts';
import { loadPolicySet, type LoadedArchive, type LoadedSet, type PolicySnapshot } from './policy-set.ts';

/** A set has taken over. Called in the tick of the swap, before any request can use the set. */
export interface PolicyActivation {
  /** The tenant with a set of its own; undefined for the set of all others. */
  readonly tenant: string | undefined;
  readonly snapshot: PolicySnapshot;
  /** What it replaced. */
  readonly previous: PolicySnapshot | undefined;
  readonly archives: readonly LoadedArchive[];
}

/** A set was refused; what was active goes on deciding. */
export interface PolicyFailure {
  readonly tenant: string | undefined;
  readonly code: string;
  readonly message: string;
}

export interface PolicySetStatus {
  /** Undefined for the set of all tenants without one of their own. */
  readonly tenant: string | undefined;
  readonly sources: readonly string[];
  readonly active:
    { readonly bundles: readonly BundleIdentity[]; readonly setDigest: string; readonly sinceMs: number } | undefined;
  /** Seen and being loaded, or seen broken once and looked at again (a file may be half-written). */
  readonly pending: { readonly sinceMs: number; readonly message: string | undefined } | undefined;
  /** Why what lies there now is not active. */
  readonly failed: { readonly code: string; readonly message: string; readonly atMs: number } | undefined;
  readonly activations: number;
  readonly failures: number;
}

export interface ActivePolicyOptions {
  /** Files or folders of the default set. */
  readonly bundles: readonly string[];
  /** Tenants with a set of their own. */
  readonly tenants?: Readonly<Record<string, readonly string[]>>;
  readonly pollMs: number;
  /** Of one evaluator. */
  readonly limits?: EvaluatorLimits;
  /** Wall clock, for status only. */
  readonly nowMs: () => number;
  /** Throws for a set that must not become active beside what else decides. */
  readonly accept?: (tenant: string | undefined, snapshot: PolicySnapshot) => void;
  readonly onActivated?: (activation: PolicyActivation) => void;
  readonly onFailed?: (failure: PolicyFailure) => void;
}

export interface ActivePolicy {
  /** The set that decides for a tenant now; undefined while it has none. Constant time. */
  readonly current: (tenant: string) => PolicySnapshot | undefined;
  /** One entry a set, the default set first. */
  readonly status: () => readonly PolicySetStatus[];
  /** Looks at all sources now instead of at the next poll. */
  readonly refresh: () => Promise<void>;
  readonly close: () => Promise<void>;
}

interface SetState {
  readonly tenant: string | undefined;
  readonly sources: readonly string[];
  readonly look: LookAtBundles;
  /** Highest serial that was ever active here, by bundle name. */
  readonly serials: Map<string, number>;
  snapshot: PolicySnapshot | undefined;
  active: PolicySetStatus['active'];
  pending: PolicySetStatus['pending'];
  failed: PolicySetStatus['failed'];
  /** What was broken at the last look: broken again means broken. */
  suspect: { readonly code: string; readonly message: string } | undefined;
  activations: number;
  failures: number;
}

const createSet = (tenant: string | undefined, sources: readonly string[]): SetState => ({
  tenant,
  sources,
  look: createBundleSource(sources),
  serials: new Map(),
  snapshot: undefined,
  active: undefined,
  pending: undefined,
  failed: undefined,
  suspect: undefined,
  activations: 0,
  failures: 0,
});

const refuseOlder = (set: SetState, archives: readonly LoadedArchive[]): void => {
  for (const { name, serial, path } of archives) {
    const highest = set.serials.get(name);
    if (highest !== undefined && serial < highest) {
      const message = `${path}: serial ${serial} of ${name} is below ${highest}, which was active; a serial never decreases`;
      throw new AppError('bundle_invalid', message);
    }
  }
};

/**
 * Loads the sets of all tenants, then keeps looking at their sources every `pollMs`. Resolves when each set was looked
 * at once, whether or not it could be loaded: `current` and `status` tell. A new set is read, compiled and probed beside
 * the active one and takes over by one assignment; a bad one changes nothing but `status`.
 */
export const startActivePolicy = async (options: ActivePolicyOptions): Promise<ActivePolicy> => {
  const defaultSet = createSet(undefined, options.bundles);
  const tenantSets = new Map(
    Object.entries(options.tenants ?? {}).map(([tenant, sources]) => [tenant, createSet(tenant, sources)]),
  );
  const sets = [defaultSet, ...tenantSets.values()];
  let closed = false;

  const activate = (set: SetState, { snapshot, archives }: LoadedSet): void => {
    const previous = set.snapshot;
    if (previous?.setDigest === snapshot.setDigest) return;
    set.snapshot = snapshot;
    set.active = { bundles: snapshot.bundles, setDigest: snapshot.setDigest, sinceMs: options.nowMs() };
    set.activations += 1;
    for (const { name, serial } of archives) set.serials.set(name, serial);
    options.onActivated?.({ tenant: set.tenant, snapshot, previous, archives });
  };

  const fail = (set: SetState, { code, message }: { readonly code: string; readonly message: string }): void => {
    set.pending = undefined;
    set.suspect = undefined;
    // What is missing is reported at each look, and counted once.
    if (set.failed?.message === message) return;
    set.failed = { code, message, atMs: options.nowMs() };
    set.failures += 1;
    options.onFailed?.({ tenant: set.tenant, code, message });
  };

  const describe = (cause: unknown) => ({
    code: isAppError(cause) ? cause.code : 'internal',
    message: errorMessage(cause),
  });

  const suspect = (set: SetState, found: { readonly code: string; readonly message: string }): void => {
    set.suspect = found;
    set.pending = { sinceMs: options.nowMs(), message: found.message };
  };

  const load = async (set: SetState, state: SourceState): Promise<void> => {
    set.pending = { sinceMs: options.nowMs(), message: undefined };
    const loaded = await loadPolicySet(state.files, options.limits);
    refuseOlder(set, loaded.archives);
    if (closed) return;
    options.accept?.(set.tenant, loaded.snapshot);
    activate(set, loaded);
    set.pending = undefined;
    set.suspect = undefined;
    set.failed = undefined;
  };

  const lookAt = async (set: SetState): Promise<void> => {
    let state: SourceState | undefined;
    try {
      state = await set.look();
    } catch (cause) {
      const found = describe(cause);
      const known = set.suspect?.message === found.message || set.failed?.message === found.message;
      return known ? fail(set, found) : suspect(set, found);
    }
    // A file that is still as broken as it was at the last look is not being written.
    if (state === undefined) return set.suspect === undefined ? undefined : fail(set, set.suspect);
    try {
      await load(set, state);
    } catch (cause) {
      suspect(set, describe(cause));
    }
  };

  let looking: Promise<void> | undefined;
  const lookAtAll = (): Promise<void> => {
    looking ??= (async () => {
      for (const set of sets) if (!closed) await lookAt(set);
    })().finally(() => {
      looking = undefined;
    });
    return looking;
  };

  let timer: NodeJS.Timeout | undefined;
  const schedule = (): void => {
    if (closed) return;
    timer = setTimeout(() => void lookAtAll().finally(schedule), options.pollMs);
    timer.unref();
  };

  await lookAtAll();
  schedule();

  return {
    current: (tenant) => (tenantSets.get(tenant) ?? defaultSet).snapshot,
    status: () =>
      sets.map(({ tenant, sources, active, pending, failed, activations, failures }) => ({
        tenant,
        sources,
        active,
        pending,
        failed,
        activations,
        failures,
      })),
    refresh: lookAtAll,
    close: async () => {
      closed = true;
      clearTimeout(timer);
      await looking;
    },
  };
};
