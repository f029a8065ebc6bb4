import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { Duplex } from 'node:stream';
import express, { type Express } from 'express';
import { SYSTEM_TENANT } from '../../shared/contracts/tenant.ts';
import { errorCode } from '../../shared/contracts/errors.ts';
import { healthHandlers, type Checks } from '../../shared/runtime/health.ts';
import { createHostCheck, hasSeveralHosts, SEVERAL_HOSTS } from '../../shared/runtime/host-names.ts';
import type { Logger } from '../../shared/runtime/logger.ts';
import type { Registry } from '../../shared/runtime/metrics.ts';
import { problemHandler } from '../../shared/runtime/problem.ts';
import { brokenRequest, rawAnswer } from '../../shared/runtime/raw-http.ts';
import type { Caller } from '../../shared/settings/schema.ts';
import type { Decide, DecidingPolicy } from '../core/decide.ts';
import type { InputLimits } from '../core/input-limits.ts';
import type { CountRefusal } from '../core/record.ts';
import { createAdmit, requestIdOf } from './admission.ts';
import { denyMembers, denyOfProblem, refusalBody } from './bodies.ts';
import { createBodyReader } from './body.ts';
import { createDataEndpoint, DATA_METHODS, isDataPath, type DataAccess } from './data.ts';
import { createDecideEndpoint } from './decide.ts';
import { createHttpMetrics, metricsFor } from './metrics.ts';
import { createRefuse } from './refuse.ts';

export interface PdpHttpOptions {
  readonly decide: Decide;
  readonly policyFor: (tenant: string, held?: DecidingPolicy) => DecidingPolicy | undefined;
  /** Where `policyFor` gives nothing because an engine is being made: resolves when it is, or when that takes too long. */
  readonly readyFor?: (tenant: string) => Promise<void> | undefined;
  /** A code for that nothing. Default: `policy_unavailable`. */
  readonly whyNot?: (tenant: string) => string;
  /** What a request of the tenant may be now. */
  readonly inputLimits: (tenant: string) => InputLimits;
  /** Resolves when the tenant's data is at `revision`, or when that takes too long. */
  readonly waitForData: (tenant: string, revision: number) => Promise<void>;
  readonly data: DataAccess;
  /** `GET /v1/bundles`: what is active, pending and failed, as far as this caller may see it. */
  readonly bundleStatus: (caller: Caller) => unknown;
  readonly countRefusal: CountRefusal;
  readonly identify: (authorization: string | undefined, connection: object) => Caller | undefined;
  readonly isOpen: () => boolean;
  readonly takeQuota: (caller: Caller) => number;
  readonly charge: (caller: Caller, count: number) => void;
  readonly fuelWaitS: (tenant: string) => number;
  readonly checks: Checks;
  readonly registry: Registry;
  /** What `GET /metrics` answers. Default: those of `registry`. */
  readonly metricsText?: (() => Promise<string>) | undefined;
  readonly logger: Logger;
  readonly monotonicMs: () => number;
  /** The host of `pdp.listen`. */
  readonly listenHost: string;
  readonly allowedHosts: readonly string[];
  readonly maxInFlight: number;
  readonly maxConnections: number;
  readonly bodyTimeoutMs: number;
  /** How long a connection may take to bring the head of a request. */
  readonly headersTimeoutMs?: number;
}

export interface PdpHttp {
  readonly server: Server;
  /** Frees what belongs to the handlers; the server is closed by whoever made it listen. */
  close(): void;
}

type Route =
  | { readonly methods: readonly ['POST']; readonly kind: 'single' | 'batch' }
  | { readonly methods: typeof DATA_METHODS; readonly kind: 'data' }
  | { readonly methods: readonly ['GET', 'HEAD']; readonly kind: 'open' | 'operate' };

const READ = ['GET', 'HEAD'] as const;
const DECIDE = ['POST'] as const;

/** Every path there is, but for those below `/v1/data/`. */
const ROUTES: ReadonlyMap<string, Route> = new Map<string, Route>([
  ['/decide', { methods: DECIDE, kind: 'single' }],
  ['/v1/decide', { methods: DECIDE, kind: 'single' }],
  ['/decide/batch', { methods: DECIDE, kind: 'batch' }],
  ['/v1/decide/batch', { methods: DECIDE, kind: 'batch' }],
  ['/health/live', { methods: READ, kind: 'open' }],
  ['/health/ready', { methods: READ, kind: 'open' }],
  ['/metrics', { methods: READ, kind: 'operate' }],
  ['/v1/bundles', { methods: READ, kind: 'operate' }],
]);

const DATA_ROUTE: Route = { methods: DATA_METHODS, kind: 'data' };
const routeOf = (path: string): Route | undefined => ROUTES.get(path) ?? (isDataPath(path) ? DATA_ROUTE : undefined);

const DEFAULT_HEADERS_TIMEOUT_MS = 10_000;
const KEEP_ALIVE_MS = 65_000;
const CONNECTION_CHECK_MS = 1_000;

const pathOf = (url: string): string => {
  const query = url.indexOf('?');
  return query === -1 ? url : url.slice(0, query);
};

/** Everything but decisions: rare, so comfort counts more than speed. */
const createSideApp = (options: PdpHttpOptions, callerOf: (request: object) => Caller | undefined): Express => {
  const app = express();
  app.disable('x-powered-by').disable('etag').enable('case sensitive routing').enable('strict routing');
  const { live, ready } = healthHandlers(options.checks, {
    failureMembers: denyMembers([{ code: 'not_ready' }]),
  });
  app.get('/health/live', live);
  app.get('/health/ready', ready);
  app.get('/metrics', async (request, response) => {
    const all = await (options.metricsText?.() ?? options.registry.metrics());
    const tenant = options.isOpen() ? SYSTEM_TENANT : callerOf(request)?.tenant;
    response.type(options.registry.contentType).send(tenant === undefined ? '' : metricsFor(all, tenant));
  });
  app.get('/v1/bundles', async (request, response) => {
    const caller = callerOf(request);
    response.set('cache-control', 'no-store').json(caller === undefined ? {} : await options.bundleStatus(caller));
  });
  app.use(problemHandler({ logger: options.logger, members: denyOfProblem }));
  return app;
};

const rawRefusal = (status: number, code: string, detail: string): string =>
  rawAnswer(status, refusalBody(status, code, { detail }));

/** The server of the decision point: decisions on `node:http` itself, the rest through Express, on one port. */
export const createPdpHttp = (options: PdpHttpOptions): PdpHttp => {
  const { countRefusal, monotonicMs, readyFor = () => undefined, whyNot = () => 'policy_unavailable' } = options;
  const headersTimeoutMs = options.headersTimeoutMs ?? DEFAULT_HEADERS_TIMEOUT_MS;
  const metrics = createHttpMetrics(options.registry, () => endpoint.inFlight());
  const refuse = createRefuse({ countRefusal, metrics });
  const bodies = createBodyReader({ timeoutMs: options.bodyTimeoutMs, monotonicMs });
  const admit = createAdmit({
    identify: options.identify,
    isOpen: options.isOpen,
    takeQuota: options.takeQuota,
    fuelWaitS: options.fuelWaitS,
    isOwnHost: createHostCheck(options.listenHost, options.allowedHosts),
  });
  const endpoint = createDecideEndpoint({ ...options, readyFor, whyNot, admit, refuse, bodies, metrics });
  const dataEndpoint = createDataEndpoint({ ...options, readyFor, whyNot, admit, refuse, bodies });
  const callers = new WeakMap<object, Caller>();
  const sideApp = createSideApp(options, (request) => callers.get(request));

  const side = (kind: 'open' | 'operate', request: IncomingMessage, response: ServerResponse): void => {
    if (kind === 'operate') {
      const admitted = admit(request, 'operate');
      if ('refused' in admitted) {
        refuse(request, response, { requestId: requestIdOf(request), ...admitted.refused });
        return;
      }
      callers.set(request, admitted.caller);
    }
    // Nobody reads a body here, so a connection that brings one is not kept.
    const { 'transfer-encoding': encoding, 'content-length': length } = request.headers;
    if (encoding !== undefined || Number(length ?? 0) > 0) response.shouldKeepAlive = false;
    sideApp(request, response);
  };

  /** The last answer that each connection waits for, and the one before it. */
  const exchanges = new WeakMap<Duplex, { response: ServerResponse; previous: ServerResponse | undefined }>();
  const noteExchange = (socket: Duplex, response: ServerResponse): void => {
    const known = exchanges.get(socket);
    if (known === undefined) {
      exchanges.set(socket, { response, previous: undefined });
      return;
    }
    known.previous = known.response;
    known.response = response;
  };

  const run = async (answering: Promise<void>, response: ServerResponse): Promise<void> => {
    try {
      await answering;
    } catch (error) {
      options.logger.error({ err: error }, 'request failed');
      response.destroy();
    }
  };

  const onRequest = (request: IncomingMessage, response: ServerResponse): void => {
    const startedMs = monotonicMs();
    response.on('error', ignore);
    noteExchange(request.socket, response);
    if (hasSeveralHosts(request)) {
      const headers = { connection: 'close' };
      refuse(request, response, { status: 400, ...SEVERAL_HOSTS, headers, requestId: requestIdOf(request) });
      return;
    }
    const route = routeOf(pathOf(request.url ?? ''));
    if (route === undefined) {
      refuse(request, response, { status: 404, code: 'not_found', requestId: requestIdOf(request) });
      return;
    }
    if (!route.methods.some((method) => method === request.method)) {
      const allow = route.methods.join(', ');
      const headers = { allow };
      const requestId = requestIdOf(request);
      refuse(request, response, {
        status: 405,
        code: 'method_not_allowed',
        detail: `use ${allow}`,
        headers,
        requestId,
      });
      return;
    }
    if (route.kind === 'single') void run(endpoint.single(request, response, startedMs), response);
    else if (route.kind === 'batch') void run(endpoint.batch(request, response, startedMs), response);
    else if (route.kind === 'data') void run(dataEndpoint(request, response), response);
    else side(route.kind, request, response);
  };

  const countBroken = (status: number, code: string): void => {
    metrics.refused(code, status);
    countRefusal({ tenant: SYSTEM_TENANT, caller: '-', code, status, bytes: 0 });
  };

  const onClientError = (error: unknown, socket: Duplex): void => {
    const [status, code, detail] = brokenRequest(error);
    if (errorCode(error) === 'ECONNRESET' || !socket.writable) {
      socket.destroy();
      return;
    }
    countBroken(status, code);
    const answer = (): void => {
      if (socket.writable) socket.end(rawRefusal(status, code, detail));
      else socket.destroy();
    };
    // Answers to earlier requests on this connection go first, else this one would be taken for one of them.
    const { response, previous } = exchanges.get(socket) ?? {};
    const isBroken = response !== undefined && !response.req.complete && !response.headersSent;
    const earlier = isBroken ? previous : response;
    if (earlier === undefined || earlier.writableFinished || earlier.destroyed) answer();
    else earlier.once('close', answer);
  };

  const server = createServer({
    // Node's own answer to a missing Host has no body; here it is refused where Host matters, with one.
    requireHostHeader: false,
    headersTimeout: headersTimeoutMs,
    requestTimeout: headersTimeoutMs + options.bodyTimeoutMs + 2 * CONNECTION_CHECK_MS,
    connectionsCheckingInterval: Math.min(CONNECTION_CHECK_MS, headersTimeoutMs),
    keepAliveTimeout: KEEP_ALIVE_MS,
  });
  server.maxConnections = options.maxConnections;
  server.on('request', (request: IncomingMessage, response: ServerResponse) => {
    // Here it is of HTTP/1.0, whose client does not know `100 Continue`: to be ignored (RFC 9110, 10.1.1).
    if (request.headers.expect !== undefined) delete request.headers.expect;
    onRequest(request, response);
  });
  // The body is asked for only after everything before it was found good.
  server.on('checkContinue', onRequest);
  server.on('checkExpectation', (request: IncomingMessage, response: ServerResponse) =>
    refuse(request, response, { status: 417, code: 'expectation_failed', requestId: requestIdOf(request) }),
  );
  server.on('connect', (_request: IncomingMessage, socket: Duplex) => {
    countBroken(405, 'method_not_allowed');
    socket.on('error', ignore).end(rawRefusal(405, 'method_not_allowed', 'this is no proxy'));
  });
  server.on('clientError', onClientError);
  return { server, close: () => bodies.close() };
};

const ignore = (): void => undefined;
