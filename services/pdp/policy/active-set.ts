import type { BundleIdentity } from '../../shared/contracts/decision.ts';
import { AppError, errorMessage, isAppError } from '../../shared/contracts/errors.ts';
import type { FreshnessState } from '../core/freshness.ts';
import type { VerifiedSignature } from './bundle-signature.ts';
import { sourceName, type BundleSource, type BundleWatch, type Look, type SourceFile } from './bundle-source.ts';
import type { BundleStore, FoundSet } from './bundle-store.ts';
import type { RemoteStatus } from './http-source.ts';
import { freshnessOf, staleSince, type SetAge, type StalenessRule } from './freshness.ts';
import {
  loadPolicySet,
  type LoadedArchive,
  type MemoFacts,
  type PolicyLoading,
  type PolicySnapshot,
} from './policy-set.ts';
import type { EvaluatorLimits } from './wasm-evaluator.ts';

/** A set has taken over. Called in the tick of the swap, before any request can use the set. */
export interface PolicyActivation {
  /** The tenant with a set of its own; undefined for the set of all others. */
  readonly tenant: string | undefined;
  readonly snapshot: PolicySnapshot;
  /** What it replaced. */
  readonly previous: PolicySnapshot | undefined;
  readonly archives: readonly LoadedArchive[];
  /** True: what was kept from an earlier run, because the source gave nothing that can be used. */
  readonly restored: boolean;
}

/** A set was refused; what was active, if anything was, goes on deciding. */
export interface PolicyFailure {
  readonly tenant: string | undefined;
  readonly code: string;
  readonly message: string;
  /** False: the tenant has none that decides. */
  readonly hasActive: boolean;
}

interface Problem {
  readonly code: string;
  readonly message: string;
  /** Where the reason is a list of built-ins that are not supplied: `{builtin, rules, places}` each. */
  readonly missing?: unknown;
}

export interface PolicySetStatus {
  /** Undefined for the set of all tenants without one of their own. */
  readonly tenant: string | undefined;
  readonly sources: readonly string[];
  /** Those of them that are servers. */
  readonly remotes: readonly RemoteStatus[];
  readonly active:
    | {
        readonly bundles: readonly BundleIdentity[];
        readonly setDigest: string;
        readonly sinceMs: number;
        /** By bundle name: who signed it. Bundles of which no signature was asked are left out. */
        readonly signatures: Readonly<Record<string, VerifiedSignature>>;
        /** When the sources last had exactly this set. */
        readonly confirmedMs: number;
        /** Longer ago than `pdp.max_staleness`. */
        readonly stale: boolean;
        /** When the first of its bundles expires; undefined when none does. */
        readonly expiresMs: number | undefined;
        readonly expired: boolean;
        /** True: each allow becomes a deny, as the set expired, or is stale under `pdp.when_stale: deny`. */
        readonly denies: boolean;
        /** True: kept from an earlier run. */
        readonly restored: boolean;
        readonly memo: MemoFacts;
      }
    | undefined;
  /** Seen and being loaded, or seen broken once and looked at again (a file may be half-written). */
  readonly pending: { readonly sinceMs: number; readonly message: string | undefined } | undefined;
  /** Why what lies there now is not active. */
  readonly failed: (Problem & { readonly atMs: number }) | undefined;
  /** Why the active set could not be kept for the next start; undefined when it was. */
  readonly notKept: string | undefined;
  readonly activations: number;
  readonly failures: number;
}

export interface ActiveSetOptions {
  readonly tenant: string | undefined;
  readonly sources: readonly BundleSource[];
  readonly watch: BundleWatch;
  /** Undefined: nothing is kept. */
  readonly store: BundleStore | undefined;
  readonly staleness: StalenessRule;
  /** The same for all sets, so that they share what was loaded. */
  readonly loading: Partial<PolicyLoading>;
  /** Of its tenant now; they replace those of `loading`. */
  readonly limits: () => EvaluatorLimits;
  /** Aborted: loading is given up, and nothing is activated any more. */
  readonly stopping: AbortSignal;
  /** Wall clock. */
  readonly nowMs: () => number;
  /**
   * Rejects for a set that must not become active beside what else decides; its tenant comes first. What it resolves to
   * is called when the set is active, or will not be.
   */
  readonly accept:
    ((tenant: string | undefined, set: Pick<PolicySnapshot, 'roots'>) => Promise<() => void>) | undefined;
  readonly onActivated: ((activation: PolicyActivation) => void) | undefined;
  readonly onFailed: ((failure: PolicyFailure) => void) | undefined;
}

export interface ActiveSet {
  readonly snapshot: () => PolicySnapshot | undefined;
  /** What the snapshot was made of. */
  readonly archives: () => readonly LoadedArchive[];
  readonly status: () => PolicySetStatus;
  /** Reads what was kept: serials that may not go back, and the last good set. Never rejects. */
  readonly recall: () => Promise<void>;
  /** Looks at the sources and takes over what changed. Never rejects. */
  readonly refresh: () => Promise<void>;
  /** What was refused may be good by now: the next look judges it again. */
  readonly reconsider: () => void;
  /** Takes what was kept, when nothing is active. Never rejects. */
  readonly restore: () => Promise<void>;
  /** Writes down what was confirmed last. Comes after `stopping`. */
  readonly close: () => Promise<void>;
}

interface Active {
  readonly snapshot: PolicySnapshot;
  readonly archives: readonly LoadedArchive[];
  readonly sinceMs: number;
  readonly restored: boolean;
}

/** How old the written time of confirmation may become. */
const KEEP_CONFIRMED_MS = 60_000;

const describe = (cause: unknown): Problem => {
  if (!isAppError(cause)) return { code: 'internal', message: errorMessage(cause) };
  const { code, message, details } = cause;
  return { code, message, ...('missing' in details ? { missing: details['missing'] } : {}) };
};

const signaturesOf = (archives: readonly LoadedArchive[]): Readonly<Record<string, VerifiedSignature>> =>
  Object.fromEntries(
    archives.flatMap(({ name, signature }) => (signature === undefined ? [] : [[name, signature] as const])),
  );

const expiryOf = (archives: readonly LoadedArchive[]): SetAge['expiry'] => {
  let first: SetAge['expiry'];
  for (const { name, expiresMs } of archives)
    if (expiresMs !== undefined && (first === undefined || expiresMs < first.atMs)) first = { name, atMs: expiresMs };
  return first;
};

const sameTexts = (a: readonly string[], b: readonly string[]): boolean =>
  a.length === b.length && a.every((text, index) => text === b[index]);

/** One tenant's set of bundles (or that of all others): what decides, what comes next, what was wrong. */
export const createActiveSet = (options: ActiveSetOptions): ActiveSet => {
  const { tenant, watch, store, staleness, nowMs } = options;
  const sources = options.sources.map(sourceName);
  /** Highest serial that was ever active in a process that keeps its sets where this one does, by bundle name. */
  const serials = new Map<string, number>();
  let active: Active | undefined;
  let age: SetAge = { confirmedMs: 0, expiry: undefined };
  let pending: PolicySetStatus['pending'];
  let failed: PolicySetStatus['failed'];
  /** What was broken at the last look: broken again means broken. */
  let suspected: Problem | undefined;
  let kept: FoundSet | undefined;
  let keptMs = 0;
  let notKept: string | undefined;
  let activations = 0;
  let failures = 0;

  const freshness = (atMs: number): FreshnessState => freshnessOf(age, staleness, atMs);

  const noteSerials = (found: ReadonlyMap<string, number>): void => {
    for (const [name, serial] of found) serials.set(name, Math.max(serial, serials.get(name) ?? 0));
  };

  /** Throws `bundle_invalid` when what was kept before cannot be read; any other failure is `notKept` only. */
  const keep = async (archives: readonly LoadedArchive[], confirmedMs: number): Promise<void> => {
    if (store === undefined) return;
    try {
      noteSerials(await store.write({ sources, serials, confirmedMs, archives }));
      keptMs = confirmedMs;
      notKept = undefined;
    } catch (cause) {
      // A full disk must not keep a new rule from taking over; readiness shows it.
      notKept = errorMessage(cause);
      // What the store remembers of serials is damaged: activating now would let an older one in.
      if (isAppError(cause) && cause.code === 'bundle_invalid') throw cause;
    }
  };

  /** Of what is active already, so that nothing is refused. */
  const keepTime = async (archives: readonly LoadedArchive[], confirmedMs: number): Promise<void> => {
    await keep(archives, confirmedMs).catch(() => {
      // `notKept` says why.
    });
  };

  const refuseOlder = (archives: readonly LoadedArchive[]): void => {
    for (const { name, serial, path } of archives) {
      const highest = serials.get(name);
      if (highest === undefined || serial >= highest) continue;
      const message = `${path}: serial ${serial} of ${name} is below ${highest}, which was active; a serial never decreases`;
      throw new AppError('bundle_invalid', message);
    }
  };

  const refuseExpired = (archives: readonly LoadedArchive[]): void => {
    const expiry = expiryOf(archives);
    if (expiry === undefined || nowMs() < expiry.atMs) return;
    throw new AppError('bundle_invalid', `${expiry.name} expired at ${new Date(expiry.atMs).toISOString()}`);
  };

  const activate = (loaded: Omit<Active, 'sinceMs'>, confirmedMs: number): void => {
    const { archives, restored } = loaded;
    const previous = active?.snapshot;
    age = { confirmedMs, expiry: expiryOf(archives) };
    if (active !== undefined && previous?.setDigest === loaded.snapshot.setDigest) {
      // The signature is no part of the digest: it may be another one.
      active = { ...active, archives, restored };
      return;
    }
    active = { ...loaded, sinceMs: nowMs() };
    activations += 1;
    options.onActivated?.({ tenant, snapshot: loaded.snapshot, previous, archives, restored });
  };

  const load = async (files: readonly SourceFile[], confirmedMs: number, restored: boolean): Promise<void> => {
    const loaded = await loadPolicySet(files, { ...options.loading, limits: options.limits() }, options.stopping);
    refuseOlder(loaded.archives);
    refuseExpired(loaded.archives);
    const settled = await options.accept?.(tenant, loaded.snapshot);
    try {
      if (options.stopping.aborted) return;
      noteSerials(new Map(loaded.archives.map(({ name, serial }) => [name, serial])));
      // Kept first: what decided once is never forgotten.
      if (!restored) await keep(loaded.archives, confirmedMs);
      // Another worker may have activated a newer one since this one looked.
      refuseOlder(loaded.archives);
      const snapshot: PolicySnapshot = Object.freeze({ ...loaded.snapshot, freshness });
      activate({ snapshot, archives: loaded.archives, restored }, confirmedMs);
    } finally {
      settled?.();
    }
  };

  const fail = (problem: Problem): void => {
    const { code, message } = problem;
    pending = undefined;
    suspected = undefined;
    // What is missing is reported at each look, and counted once.
    if (failed?.message === message) return;
    failed = { ...problem, atMs: nowMs() };
    failures += 1;
    options.onFailed?.({ tenant, code, message, hasActive: active !== undefined });
  };

  const suspect = (found: Problem): void => {
    suspected = found;
    pending = { sinceMs: nowMs(), message: found.message };
  };

  const confirm = async (confirmedMs: number): Promise<void> => {
    if (active === undefined || failed !== undefined) return;
    age = { ...age, confirmedMs };
    if (staleness.maxMs !== undefined && confirmedMs - keptMs >= KEEP_CONFIRMED_MS)
      await keepTime(active.archives, confirmedMs);
  };

  const refresh = async (): Promise<void> => {
    let found: Look;
    try {
      found = await watch.look();
    } catch (cause) {
      const problem = describe(cause);
      const known = suspected?.message === problem.message || failed?.message === problem.message;
      return known ? fail(problem) : suspect(problem);
    }
    const { files, confirmedMs } = found;
    if (confirmedMs === undefined) return;
    if (files === undefined) {
      // A file that is still as broken as it was at the last look is not being written.
      return suspected === undefined ? await confirm(confirmedMs) : fail(suspected);
    }
    try {
      pending = { sinceMs: nowMs(), message: undefined };
      await load(files, confirmedMs, false);
      [pending, suspected, failed] = [undefined, undefined, undefined];
    } catch (cause) {
      suspect(describe(cause));
      watch.resync();
    }
  };

  const restore = async (): Promise<void> => {
    if (active !== undefined || kept === undefined) return;
    // Other sources than those of the settings have no say, also when they were good once.
    if (!sameTexts(kept.sources, sources)) return;
    try {
      const files = (await kept.archives()).map((archive): SourceFile => {
        const source = options.sources.find((each) => sourceName(each) === archive.source);
        if (source === undefined) throw new AppError('bundle_invalid', `${archive.source} is no source any more`);
        return { ...archive, signing: source.signing };
      });
      if (files.length > 0) await load(files, kept.confirmedMs, true);
    } catch (cause) {
      notKept = `what was kept cannot be used: ${errorMessage(cause)}`;
    }
  };

  const recall = async (): Promise<void> => {
    try {
      kept = await store?.read();
      noteSerials(kept?.serials ?? new Map<string, number>());
      // What is here already need not be sent again.
      if (watch.remotes().length > 0) watch.seed((await kept?.archives()) ?? []);
    } catch (cause) {
      notKept = errorMessage(cause);
    }
  };

  const statusOf = ({ snapshot, archives, sinceMs, restored }: Active, atMs: number): PolicySetStatus['active'] => {
    const fresh = freshness(atMs);
    return {
      bundles: snapshot.bundles,
      setDigest: snapshot.setDigest,
      sinceMs,
      signatures: signaturesOf(archives),
      confirmedMs: age.confirmedMs,
      stale: staleSince(age, staleness, atMs) !== undefined,
      expiresMs: age.expiry?.atMs,
      expired: age.expiry !== undefined && age.expiry.atMs <= atMs,
      denies: fresh.state === 'stale' && fresh.denies,
      restored,
      memo: snapshot.memo,
    };
  };

  return {
    snapshot: () => active?.snapshot,
    archives: () => active?.archives ?? [],
    status: () => ({
      tenant,
      sources,
      remotes: watch.remotes(),
      active: active === undefined ? undefined : statusOf(active, nowMs()),
      pending,
      failed,
      notKept,
      activations,
      failures,
    }),
    recall,
    refresh,
    reconsider: () => {
      if (failed !== undefined || suspected !== undefined) watch.forget();
    },
    restore,
    close: async () => {
      const isKeptTime = staleness.maxMs === undefined || age.confirmedMs <= keptMs;
      if (active !== undefined && !active.restored && !isKeptTime) await keepTime(active.archives, age.confirmedMs);
    },
  };
};
