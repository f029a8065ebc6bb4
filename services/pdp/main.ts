import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { isDeepStrictEqual } from 'node:util';
import { BUNDLE_MEDIA_TYPE } from '../shared/contracts/artifact.ts';
import { AppError } from '../shared/contracts/errors.ts';
import type { PolicyUsed } from '../shared/contracts/events.ts';
import { SYSTEM_TENANT } from '../shared/contracts/tenant.ts';
import { newUuidV7 } from '../shared/contracts/uuid.ts';
import { readiness, type Checks } from '../shared/runtime/health.ts';
import { listen, parseListen } from '../shared/runtime/http-server.ts';
import { createLifecycle, type Handle } from '../shared/runtime/lifecycle.ts';
import { createLogger, type Logger } from '../shared/runtime/logger.ts';
import { Counter, createRegistry, registerCounts, registerGauges, type Registry } from '../shared/runtime/metrics.ts';
import { watchSettings, type PrepareReload } from '../shared/runtime/reload.ts';
import type { Settings } from '../shared/settings/schema.ts';
import { homePaths } from '../shared/settings/home.ts';
import { loadSettings, tenantNames, type LoadedSettings } from '../shared/settings/settings.ts';
import { durationMs, sizeBytes } from '../shared/settings/units.ts';
import { startAuditTrail, type AuditTrail } from './audit-trail/audit-trail.ts';
import { createFuelBudgets } from './callers/fuel-budget.ts';
import { createKnownCallers } from './callers/known-callers.ts';
import { createMaskKeys } from './callers/mask-keys.ts';
import { createRateLimits } from './callers/rate-limit.ts';
import { createDecide, type DecidingPolicy } from './core/decide.ts';
import { compileMask } from './core/mask.ts';
import { createMemo, type Memo } from './core/memo.ts';
import { createPdpHttp } from './http/app.ts';
import { startActivePolicy, type ActivePolicy } from './policy/active-policy.ts';
import type { PolicySetStatus } from './policy/active-set.ts';
import type { PolicySnapshot } from './policy/policy-set.ts';
import { createBundleStore } from './policy/bundle-store.ts';
import type { BundleSource } from './policy/bundle-source.ts';
import { createMemoryPool } from './policy/engine/memory-pool.ts';
import type { StalenessRule } from './policy/freshness.ts';
import type { LoadedArchive } from './policy/policy-set.ts';
import { bundleSources, checkBundleKeys } from './policy/source-settings.ts';
import { createTenantPolicies, type TenantPolicies } from './policy/tenant-policies.ts';
import { startPrimary } from './primary.ts';
import { startPushedData } from './pushed-data.ts';
import { groupBundles, groupChecks, groupMetrics } from './workers/group-view.ts';
import type { WorkerLink } from './workers/worker-link.ts';

export interface Pdp extends Handle {
  /** Where it listens, with the port that was really taken. */
  readonly url: string;
  close(): Promise<void>;
}

export interface PdpOptions {
  readonly logger: Logger;
  readonly registry?: Registry;
  /** Reads the settings again; without it and `settingsFile` they are never reloaded. */
  readonly load?: () => Settings;
  readonly settingsFile?: string | undefined;
  /** Present in one of several processes: what is said of the decision point is said of all. */
  readonly worker?: { readonly index: number; readonly count: number; readonly link: WorkerLink };
}

/** Stands in start events. */
const SOFTWARE = 'edict/0.1.0';
const DEMO_BUNDLE = join('bundles', 'mesh.tar.gz');
const MAX_PARENTS = 5;

/** The demo bundle lies at the root of the package, above both the sources and what is built from them. */
const demoBundle = (): string => {
  let folder = dirname(fileURLToPath(import.meta.url));
  for (let n = 0; n < MAX_PARENTS; n += 1, folder = dirname(folder))
    if (existsSync(join(folder, DEMO_BUNDLE))) return join(folder, DEMO_BUNDLE);
  throw new AppError('settings_invalid', '/pdp/bundles: none are set, and the demo bundle is missing');
};

const monotonicMs = (): number => performance.now();
const usedPolicy = ({ bundles, setDigest, data }: DecidingPolicy): PolicyUsed => ({
  bundles,
  ...(data === undefined ? {} : { data }),
  set: setDigest,
});

const tenantBundles = ({ tenants, pdp }: Settings): Readonly<Record<string, readonly BundleSource[]>> =>
  Object.fromEntries(
    Object.entries(tenants).flatMap(([tenant, { bundles }]) =>
      bundles === undefined ? [] : [[tenant, bundleSources(bundles, pdp.bundle_keys)]],
    ),
  );

/** The demo bundle is part of this program: nobody signed it, and keys of the settings do not concern it. */
const defaultBundles = ({ pdp }: Settings): readonly BundleSource[] =>
  pdp.bundles.length > 0 ? bundleSources(pdp.bundles, pdp.bundle_keys) : [{ path: demoBundle() }];

/** The tenants whose decisions a set makes; `undefined` is the set of all that have none of their own. */
const tenantsOf = (settings: Settings, set: string | undefined): readonly string[] =>
  set === undefined
    ? [...tenantNames(settings), SYSTEM_TENANT].filter((tenant) => settings.tenants[tenant]?.bundles === undefined)
    : [set];

/** What is fixed at the start, although it stands below `tenants`. */
const fixedOf = ({ tenants }: Settings): unknown =>
  Object.fromEntries(
    Object.entries(tenants).flatMap(([tenant, { bundles, spool_quota: quota }]) =>
      bundles === undefined && quota === undefined ? [] : [[tenant, [bundles, quota]]],
    ),
  );

const refuseFixed =
  (initial: Settings): PrepareReload =>
  (next) => {
    if (!isDeepStrictEqual(fixedOf(next), fixedOf(initial)))
      throw new AppError('settings_invalid', '/tenants: a change of bundles or spool_quota needs a restart');
    return () => undefined;
  };

const registerTrailGauges = (registry: Registry, trail: AuditTrail): void => {
  const { status } = trail;
  registerGauges(registry, {
    edict_spool_used_bytes: {
      help: 'Bytes of the spool’s segments.',
      read: () => status().emitter.spool?.usedBytes ?? 0,
    },
    edict_spool_free_bytes: {
      help: 'Room for decisions before covered segments are given up.',
      read: () => status().emitter.spool?.freeBytes ?? 0,
    },
    edict_spool_unsynced_bytes: {
      help: 'Written, and not synced to disk yet.',
      read: () => status().emitter.spool?.unsyncedBytes ?? 0,
    },
    edict_spool_segments_given_up: {
      help: 'Covered segments that went before spool.keep because room was needed.',
      read: () => status().emitter.spool?.givenUp ?? 0,
    },
    edict_emitter_failed_boots: { help: 'Boots that ended early.', read: () => status().emitter.failedBoots },
    edict_relay_lag_records: {
      help: 'Records that the broker did not confirm yet; 0 without Kafka.',
      read: () => status().lagRecords ?? 0,
    },
    edict_artifacts_waiting: {
      help: 'Bundles, and nodes of pushed data, that are not sent to their end, by tenant and digest.',
      read: () => status().emitter.artifacts.waiting,
    },
    edict_artifacts_without_room: {
      help: 'Of those, the ones for which spool or quota have no room to spare.',
      read: () => status().emitter.artifacts.withoutRoom,
    },
    edict_lost_events: { help: 'Events that name numbers which nothing can bring.', read: () => status().lostEvents },
  });
};

const startMemo = ({ pdp }: Settings, registry: Registry): Memo | undefined => {
  if (!pdp.memo.enabled) return undefined;
  const { max_entries: maxEntries, max_bytes: maxBytes } = pdp.memo;
  const memo = createMemo({ maxEntries, maxBytes: sizeBytes(maxBytes) });
  registerGauges(registry, {
    edict_memo_entries: { help: 'Answers that are remembered.', read: () => memo.stats().entries },
    edict_memo_bytes: { help: 'What they take, roughly.', read: () => memo.stats().bytes },
  });
  registerCounts(registry, {
    edict_memo_hits_total: { help: 'Requests that were answered from the memo.', read: () => memo.stats().hits },
    edict_memo_misses_total: {
      help: 'Requests that could have been, and were evaluated.',
      read: () => memo.stats().misses,
    },
  });
  return memo;
};

const stalenessOf = ({ pdp }: Settings): StalenessRule => ({
  maxMs: pdp.max_staleness === undefined ? undefined : durationMs(pdp.max_staleness),
  whenStale: pdp.when_stale,
});

const isStale = ({ active }: PolicySetStatus): boolean =>
  active !== undefined && (active.stale || (active.expiresMs !== undefined && active.expiresMs <= Date.now()));

const readinessChecks = (policy: ActivePolicy, trail: AuditTrail, reloadFailure: () => string | undefined): Checks => ({
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
const bundleStatus =
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

const registerEngineGauges = (registry: Registry, { status }: TenantPolicies): void =>
  registerGauges(registry, {
    edict_engines_live: { help: 'Policy engines that have memory.', read: () => status().live },
    edict_engines_bytes: { help: 'Memory of all live engines, reserved.', read: () => status().bytes },
    edict_engines_made: { help: 'Engines that got memory since the start.', read: () => status().made },
    edict_engines_evicted: {
      help: 'Engines that gave up their memory for others since the start.',
      read: () => status().evicted,
    },
  });

/**
 * Starts the decision point: audit trail, policies, listener, in this order, and closes them in reverse. Throws
 * `settings_invalid` and whatever a part cannot start with; nothing is left running then.
 */
export const startPdp = async (settings: Settings, options: PdpOptions): Promise<Pdp> => {
  const { logger } = options;
  const registry = options.registry ?? createRegistry({ service: 'pdp', worker: options.worker?.index });
  const parts: Handle[] = [];
  const close = async (): Promise<void> => {
    for (let part = parts.pop(); part !== undefined; part = parts.pop()) await part.close();
  };
  try {
    return await openPdp(settings, { ...options, logger, registry }, parts, close);
  } catch (error) {
    await close();
    throw error;
  }
};

const openPdp = async (
  settings: Settings,
  options: PdpOptions & { readonly registry: Registry },
  parts: Handle[],
  close: () => Promise<void>,
): Promise<Pdp> => {
  const { logger, registry, worker } = options;
  const address = parseListen(settings.pdp.listen);
  const limits = createRateLimits(monotonicMs, worker?.count);
  const callers = createKnownCallers(settings, limits.keep);
  const fuel = createFuelBudgets(settings, monotonicMs, worker?.count);
  const maskKeys = createMaskKeys(settings);
  let current = settings;

  const trail = await startAuditTrail({ settings, maskKey: maskKeys.of, logger, software: SOFTWARE });
  parts.push(trail);
  registerTrailGauges(registry, trail);

  const pushed = await startPushedData({ settings, logger });
  parts.push(pushed);

  const loads = new Counter({
    name: 'edict_bundle_loads_total',
    help: 'Sets of bundles that became active or were refused.',
    labelNames: ['result'],
    registers: [registry],
  });
  await checkBundleKeys(settings.pdp.bundle_keys);
  const { engines } = settings.pdp;
  const policies = createTenantPolicies({
    snapshotOf: (tenant) => policy.current(tenant),
    dataOf: pushed.dataOf,
    limits: { maxEngines: engines.max, maxBytes: sizeBytes(engines.memory_max) },
    waitMs: durationMs(engines.wait),
    monotonicMs,
    onFailed: (tenant, reason) => logger.error({ tenant, reason }, 'no engine for the tenant: it is denied'),
  });
  registerEngineGauges(registry, policies);
  /** What the active sets were made of, by the tenant that has its own. */
  const activeArchives = new Map<string | undefined, readonly LoadedArchive[]>();
  const bytesAgain = (digest: string) => (): Uint8Array | undefined => {
    for (const archives of activeArchives.values())
      for (const { digest: found, whole } of archives) if (found === digest) return whole;
    return undefined;
  };
  /** What was last recorded as active, by tenant. */
  const announced = new Map<string, PolicyUsed>();
  /**
   * Records what decides for a tenant from now on, once, and sends its bundles and its pushed data to the ledger. What is
   * not known to be all data decides nothing.
   */
  const announce = (tenant: string, snapshot: PolicySnapshot | undefined, archives: readonly LoadedArchive[]): void => {
    if (snapshot === undefined || !pushed.isKnown(tenant)) return;
    const used = usedPolicy({ ...snapshot, data: pushed.dataOf(tenant).identity });
    if (isDeepStrictEqual(announced.get(tenant), used)) return;
    announced.set(tenant, used);
    trail.recordActivation(tenant, used);
    for (const { digest, whole: bytes } of archives)
      trail.sendArtifact(tenant, { digest, mediaType: BUNDLE_MEDIA_TYPE, bytes }, bytesAgain(digest));
    if (used.data !== undefined) trail.sendState(tenant, used.data.digest, pushed.newArtifacts(tenant));
  };
  const policy = await startActivePolicy({
    bundles: defaultBundles(settings),
    tenants: tenantBundles(settings),
    pollMs: durationMs(settings.pdp.bundle_poll),
    limits: {
      memoryMaxBytes: sizeBytes(settings.pdp.policy_memory),
      fuel: settings.pdp.fuel,
      withReads: settings.pdp.memo.enabled,
      pool: createMemoryPool(),
    },
    storeOf: (tenant) => createBundleStore(homePaths(settings.home).bundles(tenant)),
    staleness: stalenessOf(settings),
    nowMs: Date.now,
    accept: (set, { roots }) => pushed.claim(tenantsOf(current, set), roots),
    onActivated: ({ tenant, snapshot, previous, archives, restored }) => {
      policies.activated(snapshot, previous);
      activeArchives.set(tenant, archives);
      loads.inc({ result: 'active' });
      const { bundles, setDigest: set } = snapshot;
      const files = archives.map(({ path }) => path);
      if (restored)
        logger.warn({ tenant, set, bundles, files }, 'bundles active that were kept: their source is silent');
      else logger.info({ tenant, set, bundles, files }, 'bundles active');
      for (const name of tenantsOf(current, tenant)) announce(name, snapshot, archives);
    },
    onFailed: (failure) => {
      loads.inc({ result: 'failed' });
      logger.error(failure, 'bundles refused: what was active goes on deciding');
    },
  });
  parts.push(policy);
  registerGauges(registry, {
    edict_bundle_stale_sets: {
      help: 'Active sets that expired, or that their source did not confirm for longer than pdp.max_staleness.',
      read: () => policy.status().filter(isStale).length,
    },
  });
  const policyFor = (tenant: string, held?: DecidingPolicy): DecidingPolicy | undefined => {
    if (!pushed.isKnown(tenant)) return undefined;
    const now = policies.current(tenant);
    return held === undefined || now?.setDigest === held.setDigest ? now : policies.renewed(tenant, held);
  };
  const announceAll = (): void => {
    for (const tenant of [...tenantNames(current), SYSTEM_TENANT])
      announce(tenant, policy.current(tenant), policy.archives(tenant));
  };
  pushed.follow({
    changed(tenant) {
      if (policies.named(tenant) !== undefined) announce(tenant, policy.current(tenant), policy.archives(tenant));
    },
    known: announceAll,
  });
  // What became known, or changed, while the sets were being loaded.
  announceAll();

  const reloadTenants: PrepareReload = (next) => () => {
    current = next;
    announceAll();
  };
  const { load, settingsFile } = options;
  const reload =
    load === undefined
      ? undefined
      : watchSettings({
          initial: settings,
          load,
          parts: [callers.reload, fuel.reload, maskKeys.reload, trail.reload, refuseFixed(settings), reloadTenants],
          files: ({ tenants }) => [
            ...(settingsFile === undefined ? [] : [settingsFile]),
            ...trail.keyFiles,
            ...Object.values(tenants).flatMap(({ mask_key_file: file }) => (file === undefined ? [] : [file])),
          ],
          logger,
          registry,
        });
  if (reload !== undefined) parts.push(reload);
  // The settings are the primary's: the files may have changed while this process started.
  if (worker !== undefined) reload?.reload();

  const checks = {
    ...readinessChecks(policy, trail, () => reload?.failure()),
    data: () => pushed.check(policies.failures().size),
  };
  const bundlesOf = bundleStatus(policy, policies, () => [...tenantNames(current), SYSTEM_TENANT], pushed.unreadable);
  const link = worker?.link;
  link?.onReload(() => void reload?.reload());
  link?.answerWith((question) => {
    switch (question.kind) {
      case 'checks':
        return readiness(checks);
      case 'metrics':
        return registry.getMetricsAsJSON();
      case 'bundles':
        return bundlesOf(question.tenant);
      default:
        return question satisfies never;
    }
  });

  const memo = startMemo(settings, registry);
  const http = createPdpHttp({
    decide: createDecide({
      record: trail.record,
      chargeFuel: fuel.charge,
      nowMs: Date.now,
      monotonicMs,
      newId: newUuidV7,
      mask: settings.pdp.mask.length === 0 ? undefined : compileMask(settings.pdp.mask),
      maskKey: maskKeys.of,
      durability: settings.pdp.durability,
      memo,
    }),
    policyFor,
    readyFor: policies.ready,
    whyNot: policies.whyNot,
    waitForData: pushed.waitFor,
    data: {
      push: (tenant, change) => pushed.push(tenant, change, policy.current(tenant)?.roots),
      dataOf: pushed.dataOf,
    },
    bundleStatus: ({ tenant }) =>
      link === undefined ? bundlesOf(tenant) : groupBundles(bundlesOf(tenant), tenant, link.ask),
    countRefusal: trail.countRefusal,
    identify: callers.identify,
    isOpen: callers.isOpen,
    takeQuota: limits.take,
    charge: limits.charge,
    fuelWaitS: fuel.waitS,
    checks: link === undefined ? checks : groupChecks(checks, link.ask),
    registry,
    metricsText: link === undefined ? undefined : () => groupMetrics(link.ask),
    logger,
    monotonicMs,
    listenHost: address.host,
    allowedHosts: settings.pdp.allowed_hosts,
    maxInFlight: settings.pdp.max_in_flight,
    maxConnections: settings.pdp.max_connections,
    bodyTimeoutMs: durationMs(settings.pdp.body_timeout),
  });
  parts.push(http);
  const server = await listen(http.server, address);
  parts.push(server);
  logger.info(
    { url: server.url, open: callers.isOpen(), durability: settings.pdp.durability },
    'decision point listens',
  );
  return { url: server.url, close };
};

/** More than a worker takes to stop, and less than what starts this program waits. */
const GROUP_STOP_MS = 35_000;

/** `edict serve pdp`: runs until a signal; resolves when it listens. */
export const servePdp = async (loaded: LoadedSettings): Promise<{ readonly url: string }> => {
  const { settings, file } = loaded;
  const logger = createLogger({ service: 'pdp', level: settings.log.level });
  logger.info({ file, settings }, 'settings');
  const load = (): Settings => loadSettings({ file, services: ['pdp'] }).settings;
  if (settings.pdp.workers === 1)
    return createLifecycle({ logger }).start('pdp', () => startPdp(settings, { logger, load, settingsFile: file }));
  const lifecycle = createLifecycle({ logger, deadlineMs: GROUP_STOP_MS });
  return lifecycle.start('workers', (stopping) =>
    startPrimary(settings, { logger, load, settingsFile: file, refuseFixed: refuseFixed(settings), stopping }),
  );
};
