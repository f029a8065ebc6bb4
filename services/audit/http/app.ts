import { randomUUID } from 'node:crypto';
import express, { type Express, type RequestHandler } from 'express';
import { AppError } from '../../shared/contracts/errors.ts';
import { isObject } from '../../shared/contracts/json.ts';
import { SYSTEM_TENANT } from '../../shared/contracts/tenant.ts';
import { isUuidV7, newUuidV7 } from '../../shared/contracts/uuid.ts';
import { healthHandlers, type Checks } from '../../shared/runtime/health.ts';
import { Counter, Histogram, type Registry } from '../../shared/runtime/metrics.ts';
import { problemHandler, unknownRoute } from '../../shared/runtime/problem.ts';
import type { Erasures } from '../core/erasure.ts';
import type { MetaReader } from '../core/meta-log.ts';
import type { Retention } from '../core/retention.ts';
import type { EmitterState, LedgerReader } from '../core/query-reader.ts';
import { timeMsOf } from '../core/query.ts';
import { isSealedPlace, MAX_PLACE_BYTES, type SealedPlace } from '../core/verify-place.ts';
import type { Window } from '../core/verify-window.ts';
import type { RememberedLeaf, VerifyTenant } from '../core/verify-tenant.ts';
import type { TileReader } from '../../shared/tlog/tiles.ts';
import { showEntry } from '../core/query-show.ts';
import {
  auditorOf,
  authorize,
  checkHost,
  namedByPath,
  onlyJson,
  parametersOf,
  sendProblem,
  type AuditAccess,
} from './access.ts';
import { artifactHandler } from './artifacts.ts';
import { decisionsHandler } from './decisions.ts';
import { erasureRoutes } from './erasures.ts';
import { exportHandler, type ExportDeps } from './export.ts';
import { checkpointHandler, metaLog, tenantLog, tileHandler } from './log.ts';
import { knownSizeIn, proofOf, witnessedHandler, witnessedOf } from './proofs.ts';
import { retentionHandlers } from './retention.ts';
import { createVerificationRuns, type VerificationRuns } from './verification-runs.ts';

export interface AuditAppDeps extends ExportDeps {
  readonly reader: LedgerReader;
  readonly tiles: TileReader;
  readonly meta: MetaReader;
  readonly verify: VerifyTenant;
  /** Asked anew for each request, so that callers can be changed while the service runs; see `auditAccess`. */
  readonly access: () => AuditAccess;
  /** Closes an emitter that never comes back. Rejects with `not_found`. */
  readonly retire?: (
    emitter: string,
    by: string,
  ) => Promise<{ readonly emitter: string; readonly tenants: readonly string[]; readonly streams: number }>;
  /** Absent in a service that erases nothing. */
  readonly erasures?: Erasures;
  /** Absent in a service that drops nothing. */
  readonly retention?: Retention;
  readonly checks: Checks;
  readonly registry: Registry;
  /** The host of `audit.listen`. */
  readonly listenHost: string;
  readonly allowedHosts: readonly string[];
  readonly now?: () => number;
}

export interface AuditApp {
  readonly app: Express;
  /** Waits for verifications that are running. */
  close(): Promise<void>;
}

const ROUTES = {
  '/health/live': ['GET'],
  '/health/ready': ['GET'],
  '/metrics': ['GET'],
  '/v1/decisions': ['GET'],
  '/v1/export': ['GET'],
  '/v1/verify': ['GET', 'POST'],
  '/v1/emitters': ['GET'],
  '/v1/witnessed': ['GET'],
} as const;

/** Requests that read the ledger at the same time; above it 503. */
const MAX_IN_FLIGHT = 64;
const MAX_PLACES = 1_000;
/** Of a request for a verification: some places of the longest kind, JSON in JSON, or many short ones. */
const MAX_VERIFY_BODY = 8 * MAX_PLACE_BYTES;
const MAX_REMEMBERED = 100;

const isoOrNull = (ms: number | null): string | null => (ms === null ? null : new Date(ms).toISOString());

const shownEmitter = (state: EmitterState): Readonly<Record<string, unknown>> => ({
  emitter: state.emitter,
  attested: state.attested,
  retired: state.retired,
  first_seen: isoOrNull(state.firstSeenMs),
  last_seen: isoOrNull(state.lastSeenMs),
  boots: state.boots.map((boot) => ({
    boot: boot.boot,
    highest: boot.highest,
    complete_to: boot.completeTo,
    covered_to: boot.coveredTo,
    holes: boot.holes,
    state: boot.state,
    last_event: isoOrNull(boot.lastEventMs),
    last_ingest: isoOrNull(boot.lastIngestMs),
  })),
});

/** Refuses parameters that a route does not have, naming the first. */
const onlyParameters = (url: string, ...allowed: readonly string[]): void => {
  for (const name of parametersOf(url).keys())
    if (name !== 'tenant' && !allowed.includes(name))
      throw new AppError('request_invalid', `${name.slice(0, 64)}: unknown parameter`);
};

const VERIFY_MEMBERS: ReadonlySet<string> = new Set(['known', 'between', 'places']);

/** `{known: [{origin, size, leaf}]}`: what the auditor wrote down of earlier reports. */
const rememberedIn = (body: unknown): readonly RememberedLeaf[] => {
  if (body === undefined) return [];
  const bad = (what: string): AppError => new AppError('request_invalid', what);
  if (!isObject(body)) throw bad('the body is no object');
  for (const name of Object.keys(body))
    if (!VERIFY_MEMBERS.has(name)) throw bad(`/${name.slice(0, 64)}: unknown member`);
  const { known } = body;
  if (known === undefined) return [];
  if (!Array.isArray(known) || known.length > MAX_REMEMBERED)
    throw bad(`/known: is no list of at most ${MAX_REMEMBERED} members`);
  return (known as readonly unknown[]).map((item, index) => {
    if (!isObject(item)) throw bad(`/known/${index}: is no object`);
    const { origin, size, leaf } = item;
    if (typeof origin !== 'string' || origin.length > 1024) throw bad(`/known/${index}/origin: is no text`);
    if (typeof size !== 'string' || !/^[1-9]\d{0,18}$/.test(size))
      throw bad(`/known/${index}/size: is no whole number as text`);
    if (typeof leaf !== 'string' || !/^[0-9a-f]{64}$/.test(leaf))
      throw bad(`/known/${index}/leaf: is not 64 hex digits`);
    return { origin, size: BigInt(size), leaf: Buffer.from(leaf, 'hex') };
  });
};

/** `{places: […]}` as an earlier answer gave them; their seals are tested by whoever goes on from them. */
const placesIn = (body: unknown): readonly SealedPlace[] => {
  const places = isObject(body) ? body['places'] : undefined;
  if (places === undefined) return [];
  if (!Array.isArray(places) || places.length > MAX_PLACES || !places.every(isSealedPlace))
    throw new AppError('request_invalid', `/places: is no list of at most ${MAX_PLACES} places`);
  return places;
};

/** `{between: {from, to}}`, RFC 3339, `from` before `to`. */
const windowIn = (body: unknown): { readonly window?: Window } => {
  const between = isObject(body) ? body['between'] : undefined;
  if (between === undefined) return {};
  const [fromMs = Number.NaN, toMs = Number.NaN] = ['from', 'to'].map((name) =>
    isObject(between) && typeof between[name] === 'string' ? timeMsOf(between[name]) : undefined,
  );
  if (!(fromMs < toMs))
    throw new AppError('request_invalid', '/between: is not {from, to}, two times of which the first is earlier');
  return { window: { fromMs, toMs } };
};

const createMetrics = (registry: Registry) => ({
  requests: new Counter({
    name: 'edict_audit_queries_total',
    help: 'Requests that read the ledger, by route and status',
    labelNames: ['route', 'status'],
    registers: [registry],
  }),
  seconds: new Histogram({
    name: 'edict_audit_query_seconds',
    help: 'How long requests that read the ledger took',
    labelNames: ['route'],
    buckets: [0.005, 0.02, 0.1, 0.5, 2, 10],
    registers: [registry],
  }),
});

/** Counts and bounds the requests of one route. */
const counted = (
  metrics: ReturnType<typeof createMetrics>,
  load: { inFlight: number },
  route: string,
): RequestHandler => {
  return (_request, response, next) => {
    const end = metrics.seconds.startTimer({ route });
    load.inFlight += 1;
    response.once('close', () => {
      load.inFlight -= 1;
      end();
      metrics.requests.inc({ route, status: String(response.statusCode) });
    });
    if (load.inFlight > MAX_IN_FLIGHT)
      sendProblem(response, 503, 'overloaded', 'too many requests read the ledger; try again');
    else next();
  };
};

const only =
  (...allowed: readonly string[]): RequestHandler =>
  (request, _response, next) => {
    onlyParameters(request.originalUrl, ...allowed);
    next();
  };

const oneDecisionHandler =
  ({ reader, tiles, meta }: AuditAppDeps): RequestHandler =>
  async (request, response) => {
    const { tenant } = auditorOf(response);
    onlyParameters(request.originalUrl, 'known_size');
    const knownSize = knownSizeIn(parametersOf(request.originalUrl).getAll('known_size'));
    const id = String(request.params['id']);
    if (!isUuidV7(id)) throw new AppError('request_invalid', 'decision_id: is no UUIDv7 in lower case');
    const found = await reader.event(tenant, id);
    if (found === undefined) throw new AppError('not_found', `the ledger of tenant ${tenant} has no event ${id}`);
    const { log, seq } = found;
    const proof = await proofOf(tiles, log.id, seq, knownSize);
    response.json(showEntry(tenant, found, proof, await witnessedOf(tiles, meta, log.id, seq)));
  };

const emittersHandler =
  ({ reader }: AuditAppDeps): RequestHandler =>
  async (request, response) => {
    const { tenant } = auditorOf(response);
    onlyParameters(request.originalUrl);
    response.json({ tenant, emitters: (await reader.emitters(tenant)).map(shownEmitter) });
  };

/** Emitters belong to the installation, so only its operators close one. */
const retireHandler =
  ({ retire }: AuditAppDeps): RequestHandler =>
  async (request, response) => {
    const { tenant, caller } = auditorOf(response);
    onlyParameters(request.originalUrl);
    if (tenant !== SYSTEM_TENANT)
      return sendProblem(response, 403, 'forbidden', `emitters are closed by operators of the tenant ${SYSTEM_TENANT}`);
    const emitter = String(request.params['emitter']);
    if (!/^[0-9a-f]{32}$/.test(emitter)) throw new AppError('request_invalid', 'emitter: is not 32 hex digits');
    if (retire === undefined) throw new AppError('internal', 'this service closes no emitters');
    response.json({ retired: await retire(emitter, caller) });
  };

const verifyHandlers = ({ reader }: AuditAppDeps, runs: VerificationRuns) => {
  const read: RequestHandler = async (request, response) => {
    const { tenant } = auditorOf(response);
    onlyParameters(request.originalUrl, 'places');
    const run = runs.last(tenant);
    const isAskedForPlaces = parametersOf(request.originalUrl).get('places') === 'true';
    response.json({
      tenant,
      run: run ?? null,
      reports: run?.reports ?? (await reader.reports(tenant)),
      ...(isAskedForPlaces ? { places: runs.places(tenant) } : {}),
    });
  };
  const start: RequestHandler = async (request, response) => {
    const { tenant } = auditorOf(response);
    onlyParameters(request.originalUrl);
    const remembered = rememberedIn(request.body);
    if ((await reader.logs(tenant)).length === 0)
      throw new AppError('ledger_missing', `tenant ${tenant} has no ledger`);
    response.status(202).json({
      tenant,
      run: runs.start(tenant, { remembered, places: placesIn(request.body), ...windowIn(request.body) }),
    });
  };
  return { read, start };
};

const onlyGet: RequestHandler = (_request, response) => {
  response.set('allow', 'GET');
  sendProblem(response, 405, 'method_not_allowed', 'use GET');
};

/**
 * The audit service's HTTP side. Every answer is about one tenant: the credential's, and on an open loopback listener
 * the one named by `?tenant=`.
 */
export const createAuditApp = (deps: AuditAppDeps): AuditApp => {
  const { access, logger, registry } = deps;
  const now = deps.now ?? Date.now;
  const metrics = createMetrics(registry);
  const load = { inFlight: 0 };
  const runs = createVerificationRuns({
    verify: deps.verify,
    newId: () => newUuidV7(now()),
    now,
    onFailure: (error) => logger.error({ err: error }, 'a verification ended early'),
  });
  const health = healthHandlers(deps.checks);
  const verify = verifyHandlers(deps, runs);
  const auditors = authorize(access, ['audit']);
  const operators = authorize(access, ['audit', 'operate']);
  const operate = authorize(access, ['operate']);
  const count = (route: string): RequestHandler => counted(metrics, load, route);

  const app = express();
  app.disable('x-powered-by');
  app.disable('etag');
  app.set('query parser', false);
  app.use((request, response, next) => {
    const asked = request.headers['x-request-id'];
    const id = typeof asked === 'string' && /^[\x21-\x7e]{1,128}$/.test(asked) ? asked : randomUUID();
    response.set({ 'cache-control': 'no-store', 'x-content-type-options': 'nosniff', 'x-request-id': id });
    next();
  });
  app.use(checkHost({ access, listenHost: deps.listenHost, allowedHosts: deps.allowedHosts }));
  app.get('/health/live', health.live);
  app.get('/health/ready', health.ready);
  // They count the whole installation, so that being an auditor of one tenant is not enough.
  app.get('/metrics', operate, async (_request, response) => {
    response.type(registry.contentType).send(await registry.metrics());
  });
  app.get('/v1/decisions', count('decisions'), auditors, decisionsHandler(deps));
  app.get('/v1/export', count('export'), auditors, exportHandler(deps));
  app.route('/v1/decisions/:id').get(count('decision'), auditors, oneDecisionHandler(deps)).all(onlyGet);
  app.get('/v1/witnessed', count('witnessed'), auditors, only('log'), witnessedHandler(deps));
  app.get('/v1/verify', count('verify'), auditors, verify.read);
  app.post('/v1/verify', count('verify'), auditors, onlyJson, express.json({ limit: MAX_VERIFY_BODY }), verify.start);
  app.route('/v1/artifacts/:digest').get(count('artifact'), auditors, artifactHandler(deps.reader)).all(onlyGet);
  const ofMeta = metaLog(deps.meta);
  app
    .route('/log/-/meta/:incarnation/checkpoint')
    .get(count('checkpoint'), auditors, checkpointHandler(ofMeta))
    .all(onlyGet);
  app
    .route('/log/-/meta/:incarnation/tile/*path')
    .get(count('tile'), auditors, tileHandler(ofMeta, deps.meta))
    .all(onlyGet);
  const log = app.route('/log/:tenant/:shard/:incarnation/checkpoint');
  const tiles = app.route('/log/:tenant/:shard/:incarnation/tile/*path');
  const logAuditors = authorize(access, ['audit'], namedByPath);
  const ofTenant = tenantLog(deps.tiles);
  log.get(count('checkpoint'), logAuditors, checkpointHandler(ofTenant)).all(onlyGet);
  tiles.get(count('tile'), logAuditors, tileHandler(ofTenant, deps.tiles)).all(onlyGet);
  if (deps.erasures !== undefined)
    app.use('/v1/erasures', count('erasures'), authorize(access, ['erase']), erasureRoutes(deps.erasures, access));
  if (deps.retention !== undefined) {
    const retention = retentionHandlers(deps.retention);
    app.get('/v1/retention', count('retention'), operate, retention.read);
    app.post('/v1/retention', count('retention'), operate, onlyJson, retention.begin);
  }
  app.get('/v1/emitters', count('emitters'), operators, emittersHandler(deps));
  app
    .route('/v1/emitters/:emitter/retire')
    .post(count('retire'), operate, onlyJson, retireHandler(deps))
    .all((_request, response) => {
      response.set('allow', 'POST');
      sendProblem(response, 405, 'method_not_allowed', 'use POST');
    });
  app.use(unknownRoute({ routes: ROUTES }));
  app.use(problemHandler({ logger }));
  return { app, close: () => runs.close() };
};
