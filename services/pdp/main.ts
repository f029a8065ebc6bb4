import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { isDeepStrictEqual } from 'node:util';
import { AppError } from '../shared/contracts/errors.ts';
import { SYSTEM_TENANT } from '../shared/contracts/tenant.ts';
import { newUuidV7 } from '../shared/contracts/uuid.ts';
import { readiness } from '../shared/runtime/health.ts';
import { listen, parseListen } from '../shared/runtime/http-server.ts';
import { createLifecycle, type Handle } from '../shared/runtime/lifecycle.ts';
import { createLogger, type Logger } from '../shared/runtime/logger.ts';
import { createRegistry, type Registry } from '../shared/runtime/metrics.ts';
import { watchSettings, type PrepareReload } from '../shared/runtime/reload.ts';
import type { Settings } from '../shared/settings/schema.ts';
import { homePaths } from '../shared/settings/home.ts';
import { loadSettings, tenantNames, type LoadedSettings } from '../shared/settings/settings.ts';
import { durationMs, sizeBytes } from '../shared/settings/units.ts';
import { createAnnouncements } from './announcements.ts';
import { startAuditTrail } from './audit-trail/audit-trail.ts';
import { createBundleLoader } from './bundle-loader.ts';
import { createFuelBudgets } from './callers/fuel-budget.ts';
import { createKnownCallers } from './callers/known-callers.ts';
import { createMaskKeys } from './callers/mask-keys.ts';
import { createRateLimits } from './callers/rate-limit.ts';
import { createDecide, type DecidingPolicy } from './core/decide.ts';
import { compileMask } from './core/mask.ts';
import { createMemo, type Memo } from './core/memo.ts';
import { createPdpHttp } from './http/app.ts';
import {
  createLoadCounter,
  registerEngineGauges,
  registerMemoMetrics,
  registerStaleGauge,
  registerTrailGauges,
} from './metrics.ts';
import { startActivePolicy } from './policy/active-policy.ts';
import { createBundleStore } from './policy/bundle-store.ts';
import type { BundleSource } from './policy/bundle-source.ts';
import { createMemoryPool } from './policy/engine/memory-pool.ts';
import type { StalenessRule } from './policy/freshness.ts';
import type { LoadBundle } from './policy/load-bundle.ts';
import { bundleSources, checkBundleKeys } from './policy/source-settings.ts';
import { createTenantPolicies } from './policy/tenant-policies.ts';
import { createTenantLimits, inputLimitsFor } from './policy/limits.ts';
import { createWorkQueue } from './policy/work-queue.ts';
import { startPrimary } from './primary.ts';
import { startPushedData } from './pushed-data.ts';
import { createBundleStatus, readinessChecks, reusedSerials } from './status.ts';
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
  /** Aborted while it starts: bundles that are being loaded are given up. */
  readonly stopping?: AbortSignal;
  /** Default: on a thread of its own. */
  readonly loadBundle?: LoadBundle;
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

const startMemo = ({ pdp }: Settings, registry: Registry): Memo | undefined => {
  if (!pdp.memo.enabled) return undefined;
  const { max_entries: maxEntries, max_bytes: maxBytes } = pdp.memo;
  const memo = createMemo({ maxEntries, maxBytes: sizeBytes(maxBytes) });
  registerMemoMetrics(registry, memo);
  return memo;
};

const stalenessOf = ({ pdp }: Settings): StalenessRule => ({
  maxMs: pdp.max_staleness === undefined ? undefined : durationMs(pdp.max_staleness),
  whenStale: pdp.when_stale,
});

const startLoader = ({ pdp }: Settings, parts: Handle[]): LoadBundle => {
  const loader = createBundleLoader({ timeoutMs: durationMs(pdp.bundle_load_max) });
  parts.push(loader);
  return loader.load;
};

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
  const tenantLimits = createTenantLimits(settings);
  const fuel = createFuelBudgets(settings, monotonicMs, worker?.count);
  const maskKeys = createMaskKeys(settings);
  let current = settings;

  const trail = await startAuditTrail({ settings, maskKey: maskKeys.of, logger, software: SOFTWARE });
  parts.push(trail);
  registerTrailGauges(registry, trail);

  const pushed = await startPushedData({ settings, logger });
  parts.push(pushed);

  const countLoad = createLoadCounter(registry);
  await checkBundleKeys(settings.pdp.bundle_keys);
  const { engines } = settings.pdp;
  const inTurns = createWorkQueue(monotonicMs);
  const policies = createTenantPolicies({
    snapshotOf: (tenant) => policy.current(tenant),
    dataOf: pushed.dataOf,
    limitsOf: tenantLimits.of,
    limits: { maxEngines: engines.max, maxBytes: sizeBytes(engines.memory_max) },
    waitMs: durationMs(engines.wait),
    monotonicMs,
    inTurns,
    onFailed: (tenant, reason) => logger.error({ tenant, reason }, 'no engine for the tenant: it is denied'),
  });
  registerEngineGauges(registry, policies);
  const { hold, announce } = createAnnouncements(trail, pushed);
  const { loadBundle = startLoader(settings, parts), stopping } = options;
  const policy = await startActivePolicy({
    bundles: defaultBundles(settings),
    tenants: tenantBundles(settings),
    pollMs: durationMs(settings.pdp.bundle_poll),
    loading: {
      limits: { withReads: settings.pdp.memo.enabled, pool: createMemoryPool() },
      load: loadBundle,
      inTurns,
    },
    limitsOf: tenantLimits.of,
    stopping,
    storeOf: (tenant) => createBundleStore(homePaths(settings.home).bundles(tenant)),
    staleness: stalenessOf(settings),
    nowMs: Date.now,
    accept: (set, { roots }) => pushed.claim(tenantsOf(current, set), roots),
    onActivated: ({ tenant, snapshot, previous, archives, restored }) => {
      policies.activated(snapshot, previous);
      hold(tenant, archives);
      countLoad('active');
      const { bundles, setDigest: set } = snapshot;
      const files = archives.map(({ path }) => path);
      if (restored)
        logger.warn({ tenant, set, bundles, files }, 'bundles active that were kept: their source is silent');
      else logger.info({ tenant, set, bundles, files }, 'bundles active');
      const reused = reusedSerials(previous?.bundles ?? [], bundles);
      if (reused.length > 0)
        logger.warn(
          { tenant, set, reused },
          'a serial stands for another bundle than before: only digests tell them apart',
        );
      for (const name of tenantsOf(current, tenant)) announce(name, snapshot, archives);
    },
    onFailed: ({ hasActive, ...failure }) => {
      countLoad('failed');
      const then = hasActive ? 'what was active goes on deciding' : 'none is active, so requests get 503';
      logger.error(failure, `bundles refused: ${then}`);
    },
  });
  parts.push(policy);
  registerStaleGauge(registry, policy);
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
      if (pushed.isCleared(tenant)) policy.reconsider();
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
  /** A set that was refused for a limit may be within it now. */
  const reloadLimits: PrepareReload = (next) => {
    const apply = tenantLimits.reload(next);
    return () => {
      apply();
      policy.reconsider();
    };
  };
  const reload =
    load === undefined
      ? undefined
      : watchSettings({
          initial: settings,
          load,
          parts: [
            callers.reload,
            reloadLimits,
            fuel.reload,
            maskKeys.reload,
            trail.reload,
            refuseFixed(settings),
            reloadTenants,
          ],
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
  const bundlesOf = createBundleStatus({
    policy,
    policies,
    tenants: () => [...tenantNames(current), SYSTEM_TENANT],
    limitsOf: tenantLimits.of,
    unreadable: pushed.unreadable,
  });
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
    inputLimits: (tenant) => inputLimitsFor(tenantLimits.of(tenant).input, policy.current(tenant)?.asked),
    waitForData: pushed.waitFor,
    data: {
      push: (tenant, change) => pushed.push(tenant, change, policy.current(tenant)?.roots),
      dataOf: pushed.dataOf,
      isKnown: pushed.isKnown,
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
    return createLifecycle({ logger }).start('pdp', (stopping) =>
      startPdp(settings, { logger, load, settingsFile: file, stopping }),
    );
  const lifecycle = createLifecycle({ logger, deadlineMs: GROUP_STOP_MS });
  return lifecycle.start('workers', (stopping) =>
    startPrimary(settings, { logger, load, settingsFile: file, refuseFixed: refuseFixed(settings), stopping }),
  );
};
