import { createActiveSet, type ActiveSet, type ActiveSetOptions, type PolicySetStatus } from './active-set.ts';
import { createBundleSource, type BundleSource, type BundleWatch } from './bundle-source.ts';
import type { BundleStore } from './bundle-store.ts';
import { NEVER_STALE, type StalenessRule } from './freshness.ts';
import type { LoadedArchive, PolicyLoading, PolicySnapshot } from './policy-set.ts';
import type { EvaluatorLimits } from './wasm-evaluator.ts';

export interface ActivePolicyOptions {
  /** The default set. */
  readonly bundles: readonly BundleSource[];
  /** Tenants with a set of their own. */
  readonly tenants?: Readonly<Record<string, readonly BundleSource[]>>;
  readonly pollMs: number;
  /** Default: on this thread, which decides nothing meanwhile. */
  readonly loading?: Partial<Omit<PolicyLoading, 'loaded'>>;
  /** What a set is loaded within, beside that: of its tenant, or (undefined) of all without a set of their own. */
  readonly limitsOf?: (tenant: string | undefined) => EvaluatorLimits;
  /** Where the last good set of a tenant (undefined: of all others) is kept. Without it nothing outlives the process. */
  readonly storeOf?: (tenant: string | undefined) => BundleStore;
  readonly staleness?: StalenessRule;
  /** Wall clock. */
  readonly nowMs: () => number;
  /** Aborted: loading is given up, as at `close`. */
  readonly stopping?: AbortSignal | undefined;
  /** Rejects for a set that must not become active beside what else decides. */
  readonly accept?: ActiveSetOptions['accept'];
  readonly onActivated?: ActiveSetOptions['onActivated'];
  readonly onFailed?: ActiveSetOptions['onFailed'];
}

export interface ActivePolicy {
  /** The set that decides for a tenant now; undefined while it has none. Constant time. */
  readonly current: (tenant: string) => PolicySnapshot | undefined;
  /** The archives of that set. */
  readonly archives: (tenant: string) => readonly LoadedArchive[];
  /** One entry a set, the default set first. */
  readonly status: () => readonly PolicySetStatus[];
  /** Looks at all sources now instead of at the next poll. */
  readonly refresh: () => Promise<void>;
  /** What stood in the way of a set that was refused is gone: judges it again. */
  readonly reconsider: () => void;
  readonly close: () => Promise<void>;
}

/**
 * Loads the sets of all tenants, then keeps looking at their sources every `pollMs`. Resolves when each set was looked
 * at once, whether or not it could be loaded: `current` and `status` tell. A new set is read, compiled and probed beside
 * the active one and takes over by one assignment; a bad one changes nothing but `status`. A set whose source gives
 * nothing at the start is the one that was kept from the last run, judged again as strictly as a new one.
 */
export const startActivePolicy = async (options: ActivePolicyOptions): Promise<ActivePolicy> => {
  const { nowMs, limitsOf, storeOf, staleness = NEVER_STALE, accept, onActivated, onFailed } = options;
  const watches: BundleWatch[] = [];
  const stop = new AbortController();
  const stopping = AbortSignal.any([stop.signal, ...(options.stopping === undefined ? [] : [options.stopping])]);
  const loading = { ...options.loading, loaded: new Map() };
  const createSet = (tenant: string | undefined, sources: readonly BundleSource[]): ActiveSet => {
    const watch = createBundleSource(sources, nowMs);
    watches.push(watch);
    const store = storeOf?.(tenant);
    const told = { accept, onActivated, onFailed };
    const limits = (): EvaluatorLimits => ({ ...options.loading?.limits, ...limitsOf?.(tenant) });
    return createActiveSet({ tenant, sources, watch, store, staleness, loading, limits, stopping, nowMs, ...told });
  };
  const defaultSet = createSet(undefined, options.bundles);
  const tenantSets = new Map(
    Object.entries(options.tenants ?? {}).map(([tenant, sources]) => [tenant, createSet(tenant, sources)]),
  );
  const sets = [defaultSet, ...tenantSets.values()];
  let looking: Promise<void> | undefined;
  const lookAtAll = (): Promise<void> => {
    looking ??= (async () => {
      for (const set of sets) if (!stopping.aborted) await set.refresh();
    })().finally(() => {
      looking = undefined;
    });
    return looking;
  };

  let timer: NodeJS.Timeout | undefined;
  const schedule = (): void => {
    if (stopping.aborted) return;
    timer = setTimeout(() => void lookAtAll().finally(schedule), options.pollMs);
    timer.unref();
  };

  for (const set of sets) await set.recall();
  // Whoever is looking already may have looked before the change.
  const onChange = (): void => void lookAtAll().then(lookAtAll);
  for (const watch of watches) watch.start(onChange);
  await lookAtAll();
  for (const set of sets) await set.restore();
  schedule();

  const setOf = (tenant: string): ActiveSet => tenantSets.get(tenant) ?? defaultSet;

  return {
    current: (tenant) => setOf(tenant).snapshot(),
    archives: (tenant) => setOf(tenant).archives(),
    status: () => sets.map((set) => set.status()),
    refresh: lookAtAll,
    reconsider: () => {
      const again = async (): Promise<void> => {
        for (const set of sets) set.reconsider();
        await lookAtAll();
        for (const set of sets) if (!stopping.aborted) await set.restore();
      };
      // Whoever is looking already may be refused yet for what is gone.
      void lookAtAll().then(again);
    },
    close: async () => {
      stop.abort();
      clearTimeout(timer);
      await Promise.all(watches.map((watch) => watch.close()));
      await looking;
      for (const set of sets) await set.close();
    },
  };
};
