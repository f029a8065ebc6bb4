import { setTimeout as sleep } from 'node:timers/promises';
import { errorMessage } from '../../shared/contracts/errors.ts';
import type { DecidingPolicy } from '../core/decide.ts';
import { createEngineShelf, type Place, type ShelfStatus } from '../core/engine-shelf.ts';
import {
  dataInsideRoots,
  isSharedWithRoots,
  NOTHING_PUSHED,
  patchesBetween,
  type DataIdentity,
  type PushedData,
} from '../core/pushed-data.ts';
import type { EngineLimits } from './engine/host.ts';
import type { PolicySnapshot } from './policy-set.ts';
import { createTenantEngine, type TenantEngine, type TroubleCode } from './tenant-engine.ts';
import type { InTurns } from './work-queue.ts';

export interface TenantPoliciesOptions {
  /** The set of bundles that decides for a tenant now. */
  readonly snapshotOf: (tenant: string) => PolicySnapshot | undefined;
  /** What was pushed for a tenant up to now. */
  readonly dataOf: (tenant: string) => PushedData;
  /** What a tenant's evaluations may take: one object as long as that does not change. Default: as it was loaded. */
  readonly limitsOf?: (tenant: string) => EngineLimits;
  /** Live engines, and what they may have together. */
  readonly limits: { readonly maxEngines: number; readonly maxBytes: number };
  /** How long a request waits for its engine. */
  readonly waitMs: number;
  readonly monotonicMs: () => number;
  /** Where engines are made. */
  readonly inTurns: InTurns;
  /** A tenant's set cannot be used: it is denied until its set or its data changes, or there is memory again. */
  readonly onFailed: (tenant: string, reason: string) => void;
}

export interface EngineFacts {
  /** `idle`: it is made at the next request. */
  readonly state: 'idle' | 'making' | 'live' | 'denied';
  readonly bytes: number;
  readonly data?: DataIdentity | undefined;
  /** Of `denied`. */
  readonly reason?: string;
}

export interface TenantPolicies {
  /**
   * What decides for a tenant now, bundles and pushed data; undefined when it has no set, when its set cannot be used
   * with its data, and while its engine is being made. Brings the tenant's engines to the newest data first, so an
   * earlier answer must not be used for another evaluation once something was awaited.
   */
  readonly current: (tenant: string) => DecidingPolicy | undefined;
  /** Where `current` gives nothing because an engine is being made: resolves when it is, or when that takes too long. */
  readonly ready: (tenant: string) => Promise<void> | undefined;
  /** Why `current` gave nothing. */
  readonly whyNot: (tenant: string) => TroubleCode;
  /**
   * The set of `held`, which may not be the current one any more, with the data that its engines have by now. Undefined
   * when the tenant is denied: what was begun does not go on where nothing new is let in.
   */
  readonly renewed: (tenant: string, held: DecidingPolicy) => DecidingPolicy | undefined;
  /** What will decide for a tenant, without making an engine for it. */
  readonly named: (tenant: string) => DecidingPolicy | undefined;
  /** A set takes over from another. */
  readonly activated: (snapshot: PolicySnapshot, previous: PolicySnapshot | undefined) => void;
  /** Tenants that are denied, and why. */
  readonly failures: () => ReadonlyMap<string, string>;
  readonly factsOf: (tenant: string) => EngineFacts;
  readonly status: () => ShelfStatus;
}

/** What a tenant's engines are made of. */
interface Wanted {
  readonly snapshot: PolicySnapshot;
  readonly data: PushedData;
  readonly limits: EngineLimits | undefined;
}

interface Entry extends Wanted {
  readonly engine: TenantEngine | undefined;
  readonly policy: DecidingPolicy | undefined;
  /** Why there is no engine. */
  readonly problem?: string;
}

/** Of one tenant; more are turned away, so that one tenant's engine takes no others' places. */
const MAX_WAITING = 64;

/** Gives each tenant engines of its own, at its first request, and takes back those that were not used for longest. */
export const createTenantPolicies = (options: TenantPoliciesOptions): TenantPolicies => {
  const { monotonicMs, inTurns } = options;
  const shelf = createEngineShelf(options.limits);
  const entries = new Map<string, Entry>();
  /** By what evaluates: an engine is changed in place, so of its policies only the last says what it has. */
  const newest = new WeakMap<DecidingPolicy['evaluate'], DecidingPolicy>();
  const waiting = new Map<string, number>();
  const places = new Map<PolicySnapshot['unclaimed'], Place>();

  const claim = ({ unclaimed }: PolicySnapshot): void => {
    places.get(unclaimed)?.drop();
    places.delete(unclaimed);
  };

  const newEngine = (tenant: string, snapshot: PolicySnapshot, limits: EngineLimits | undefined): TenantEngine =>
    createTenantEngine({
      snapshot,
      limits,
      shelf,
      claim: () => claim(snapshot),
      inTurns,
      monotonicMs,
      onTrouble: ({ reason }) => options.onFailed(tenant, reason),
    });

  /** The tenant's engines, which will have the data at the next evaluation. */
  const engineWith = (tenant: string, { snapshot, data, limits }: Wanted): TenantEngine => {
    const { roots } = snapshot;
    const inside = dataInsideRoots(data, roots);
    if (inside !== undefined) throw new Error(`pushed data stands at ${inside || '/'}, which a bundle owns`);
    const known = entries.get(tenant);
    const whole = () => patchesBetween({}, data.document, roots);
    const isUsable =
      known?.snapshot === snapshot &&
      known.limits === limits &&
      !isSharedWithRoots(known.data, roots) &&
      !isSharedWithRoots(data, roots);
    if (isUsable && known.engine !== undefined && known.engine.trouble() === undefined) {
      known.engine.changeData(patchesBetween(known.data.document, data.document, roots), whole);
      return known.engine;
    }
    const engine = newEngine(tenant, snapshot, limits);
    if (data !== NOTHING_PUSHED) engine.changeData(whole(), whole);
    return engine;
  };

  const renew = (tenant: string, wanted: Wanted): Entry => {
    const { snapshot, data } = wanted;
    const before = entries.get(tenant)?.engine;
    let entry: Entry;
    try {
      const engine = engineWith(tenant, wanted);
      const { engine: name, entrypoint, bundles, setDigest, freshness, reads } = snapshot;
      const { evaluate } = engine;
      const policy = { evaluate, engine: name, entrypoint, bundles, setDigest, freshness, reads, data: data.identity };
      entry = { ...wanted, engine, policy };
      newest.set(evaluate, policy);
    } catch (cause) {
      const problem = errorMessage(cause);
      entry = { ...wanted, engine: undefined, policy: undefined, problem };
      options.onFailed(tenant, problem);
    }
    if (before !== entry.engine) before?.retire();
    entries.set(tenant, entry);
    return entry;
  };

  const entryOf = (tenant: string): Entry | undefined => {
    const snapshot = options.snapshotOf(tenant);
    if (snapshot === undefined) return undefined;
    const data = options.dataOf(tenant);
    const limits = options.limitsOf?.(tenant);
    const known = entries.get(tenant);
    const isNewest = known?.snapshot === snapshot && known.data === data && known.limits === limits;
    return isNewest ? known : renew(tenant, { snapshot, data, limits });
  };

  const makingOf = (tenant: string): Promise<void> | undefined => entries.get(tenant)?.engine?.making();

  /** Why a tenant is denied; undefined while that is only for now. */
  const reasonOf = ({ engine, problem }: Entry): string | undefined => {
    const trouble = engine?.trouble();
    return problem ?? (trouble?.code === 'engine_busy' ? undefined : trouble?.reason);
  };

  const isDenied = (tenant: string): boolean => {
    const entry = entryOf(tenant);
    return entry === undefined || reasonOf(entry) !== undefined;
  };

  const wait = async (tenant: string): Promise<void> => {
    const waiters = waiting.get(tenant) ?? 0;
    waiting.set(tenant, waiters + 1);
    const stop = new AbortController();
    const timeout = sleep(options.waitMs, true, { signal: stop.signal }).catch(() => true);
    try {
      // Another set may take over meanwhile, whose engine is another one.
      for (let making = makingOf(tenant); making !== undefined; making = makingOf(tenant)) {
        if (await Promise.race([making, timeout])) return;
        entryOf(tenant)?.engine?.bring();
      }
    } finally {
      stop.abort();
      const left = (waiting.get(tenant) ?? 1) - 1;
      if (left === 0) waiting.delete(tenant);
      else waiting.set(tenant, left);
    }
  };

  return {
    current(tenant) {
      const entry = entryOf(tenant);
      return entry?.engine?.bring() === true ? entry.policy : undefined;
    },
    ready: (tenant) =>
      makingOf(tenant) === undefined || (waiting.get(tenant) ?? 0) >= MAX_WAITING ? undefined : wait(tenant),
    whyNot: (tenant) =>
      makingOf(tenant) === undefined
        ? (entries.get(tenant)?.engine?.trouble()?.code ?? 'policy_unavailable')
        : 'engine_busy',
    renewed: (tenant, held) => (isDenied(tenant) ? undefined : (newest.get(held.evaluate) ?? held)),
    named: (tenant) => entryOf(tenant)?.policy,
    activated(snapshot, previous) {
      if (previous !== undefined) {
        claim(previous);
        previous.unclaimed.release();
      }
      for (const [tenant, entry] of entries) {
        if (entry.snapshot !== previous) continue;
        entry.engine?.retire();
        entries.delete(tenant);
      }
      const { unclaimed } = snapshot;
      const bytes = unclaimed.bytes();
      if (bytes === 0 || places.get(unclaimed)?.isLive() === true) return;
      const place = shelf.admitBeside(bytes, unclaimed.release);
      if (place === undefined) unclaimed.release();
      else places.set(unclaimed, place);
    },
    failures() {
      const found = new Map<string, string>();
      for (const [tenant, entry] of entries) {
        const reason = reasonOf(entry);
        if (reason !== undefined) found.set(tenant, reason);
      }
      return found;
    },
    factsOf(tenant) {
      const entry = entries.get(tenant);
      const { engine } = entry ?? {};
      const data = options.dataOf(tenant).identity;
      const named = data === undefined ? {} : { data };
      const bytes = engine?.bytes() ?? 0;
      const reason = entry?.problem ?? engine?.trouble()?.reason;
      if (engine?.making() !== undefined) return { state: 'making', bytes, ...named };
      if (engine?.isLive() === true) return { state: 'live', bytes, ...named };
      return reason === undefined ? { state: 'idle', bytes, ...named } : { state: 'denied', reason, bytes, ...named };
    },
    status: shelf.status,
  };
};
