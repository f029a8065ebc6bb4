import type { IncomingMessage, ServerResponse } from 'node:http';
import { isAppError } from '../../shared/contracts/errors.ts';
import type { Logger } from '../../shared/runtime/logger.ts';
import { httpStatus } from '../../shared/runtime/problem.ts';
import type { Caller } from '../../shared/settings/schema.ts';
import type { Owned } from '../core/data-owners.ts';
import type { Pushed } from '../core/data-stream.ts';
import type { DecidingPolicy } from '../core/decide.ts';
import { parsePatch, valueAt } from '../core/json-patch.ts';
import { formatPointer, type DataPath } from '../core/json-pointer.ts';
import type { DataChange, PushedData } from '../core/pushed-data.ts';
import { requestIdOf, typeProblem, type Admit } from './admission.ts';
import { JSON_TYPE } from './bodies.ts';
import type { BodyReader } from './body.ts';
import type { Refuse, RefusedRequest } from './refuse.ts';
import type { RequestProblem } from './request-problems.ts';
import { parseStrictJson } from './strict-json.ts';

/** What `/v1/data` works on. */
export interface DataAccess {
  /** Beside the tenant's bundles. */
  readonly push: (tenant: string, change: DataChange) => Promise<Pushed | Owned>;
  readonly dataOf: (tenant: string) => PushedData;
  /** False while it is not known what was pushed for the tenant. */
  readonly isKnown: (tenant: string) => boolean;
}

export interface DataEndpointOptions {
  readonly data: DataAccess;
  /** What decides for a tenant now. */
  readonly policyFor: (tenant: string) => DecidingPolicy | undefined;
  /** Where that is because an engine is being made: resolves when it is, or when that takes too long. */
  readonly readyFor: (tenant: string) => Promise<void> | undefined;
  /** A code for that `undefined`. */
  readonly whyNot: (tenant: string) => string;
  readonly admit: Admit;
  readonly refuse: Refuse;
  readonly bodies: BodyReader;
  readonly logger: Logger;
}

export type DataEndpoint = (request: IncomingMessage, response: ServerResponse) => Promise<void>;

export const DATA_METHODS = ['GET', 'PUT', 'PATCH', 'DELETE'] as const;
const PREFIX = '/v1/data';
/** A change with its JSON must fit into one message of a broker. */
const BODY_BYTES = 512 * 1024;
const BODY_JSON = { maxDepth: 64, maxMembers: 65_536 };
const PATCH_TYPE = /^application\/json-patch\+json(\s*;\s*charset="?utf-8"?)?\s*$/i;
const MAX_IN_FLIGHT = 64;
/** Of one tenant, whose pushes come one after the other anyway. */
const MAX_TENANT_IN_FLIGHT = 8;
/** RFC 9110, 13.1: they speak of entity tags, and there are none here. */
const PRECONDITIONS = ['if-match', 'if-none-match'] as const;
const RETRY = { 'retry-after': '1' } as const;

export const isDataPath = (path: string): boolean => path === PREFIX || path.startsWith(`${PREFIX}/`);

/** Names of members, percent-decoded (RFC 3986); undefined for what does not decode, or an empty name. */
const pathOf = (url: string): DataPath | undefined => {
  const [path = ''] = url.split('?', 1);
  try {
    const names = path.slice(PREFIX.length).split('/').slice(1).map(decodeURIComponent);
    return names.includes('') ? undefined : names;
  } catch {
    return undefined;
  }
};

const announcedBytes = (request: IncomingMessage): number => Number(request.headers['content-length'] ?? 0);

const bodyTypeProblem = (request: IncomingMessage): string | undefined => {
  const { 'content-type': type = '', 'content-encoding': encoding } = request.headers;
  if (request.method === 'PATCH' && encoding === undefined && PATCH_TYPE.test(type)) return undefined;
  const problem = typeProblem(request);
  return problem === undefined || request.method === 'PUT' ? problem : `${problem} or application/json-patch+json`;
};

type Read = { readonly change: DataChange } | { readonly problems: readonly RequestProblem[] };

const readChange = (method: string | undefined, path: DataPath, body: Buffer): Read => {
  if (method === 'DELETE') return { change: { op: 'delete', path } };
  const parsed = parseStrictJson(body, BODY_JSON);
  if (!parsed.ok) return { problems: parsed.problems };
  if (method === 'PUT') return { change: { op: 'put', path, value: parsed.value } };
  const patch = parsePatch(parsed.value);
  return patch.ok ? { change: { op: 'patch', path, operations: patch.operations } } : { problems: patch.problems };
};

/** `GET|PUT|PATCH|DELETE /v1/data/…`: the data that is pushed for the caller's tenant. Role `data`. */
export const createDataEndpoint = (options: DataEndpointOptions): DataEndpoint => {
  const { data, admit, refuse, bodies, logger } = options;
  let inFlight = 0;
  const inFlightOf = new Map<string, number>();

  const answer = (request: IncomingMessage, response: ServerResponse, content: object): void => {
    const requestId = requestIdOf(request);
    const body = JSON.stringify(content);
    response.writeHead(200, {
      'content-type': JSON_TYPE,
      'content-length': Buffer.byteLength(body),
      'cache-control': 'no-store',
      ...(requestId === undefined ? {} : { 'x-request-id': requestId }),
    });
    response.end(body);
  };

  const push = async (caller: Caller, change: DataChange): Promise<object | RefusedRequest> => {
    const { tenant } = caller;
    const pushed = await data.push(tenant, change);
    if (pushed.kind === 'owned') return { status: 403, code: 'data_owned', detail: pushed.message };
    if (pushed.kind === 'conflict')
      return { status: change.op === 'delete' ? 404 : 409, code: 'data_conflict', detail: pushed.message };
    logger.info(
      { tenant, caller: caller.id, op: change.op, path: formatPointer(change.path), ...pushed.identity },
      'data pushed',
    );
    if (options.policyFor(tenant) === undefined) {
      await options.readyFor(tenant);
      const code = options.policyFor(tenant) === undefined ? options.whyNot(tenant) : undefined;
      const detail = `revision ${pushed.identity.revision} is stored, and no policy can be used with it`;
      if (code !== undefined) return { status: 503, code, detail };
    }
    return { data: pushed.identity };
  };

  const show = (tenant: string, path: DataPath): object | RefusedRequest => {
    if (!data.isKnown(tenant)) {
      const detail = 'what was pushed cannot be read now: GET /v1/bundles says why';
      return { status: 503, code: 'data_unavailable', detail, headers: RETRY };
    }
    const { document, identity } = data.dataOf(tenant);
    const found = valueAt(document, path);
    if (found === undefined) return { status: 404, code: 'not_found', detail: 'nothing was pushed there' };
    return { ...(identity === undefined ? {} : { data: identity }), result: found.value };
  };

  const handle = async (
    request: IncomingMessage,
    response: ServerResponse,
    caller: Caller,
    turnAway: (refused: RefusedRequest) => void,
  ): Promise<void> => {
    const condition = PRECONDITIONS.find((name) => request.headers[name] !== undefined);
    if (condition !== undefined) {
      const detail = `${condition} is not supported, and a condition is never ignored; a patch may begin with a test`;
      return turnAway({ status: 400, code: 'precondition_unsupported', detail });
    }
    const finish = (result: object | RefusedRequest): void =>
      'status' in result ? turnAway(result) : answer(request, response, result);
    const path = pathOf(request.url ?? '');
    if (path === undefined)
      return turnAway({
        status: 400,
        code: 'request_invalid',
        detail: 'the path has an empty name, or does not decode',
      });
    if (request.method === 'GET') {
      // Nobody reads its body, so a connection that brings one is not kept.
      if (!request.complete && (request.headers['transfer-encoding'] !== undefined || announcedBytes(request) > 0))
        response.shouldKeepAlive = false;
      return finish(show(caller.tenant, path));
    }
    const hasBody = request.method !== 'DELETE';
    const limit = hasBody ? BODY_BYTES : 0;
    if (request.headers.expect !== undefined && announcedBytes(request) <= limit) response.writeContinue();
    const body = await bodies.read(request, limit);
    if (body.kind === 'aborted') return;
    if (body.kind === 'slow') return turnAway({ status: 408, code: 'body_timeout', body: body.bytes });
    if (body.kind === 'too_large') {
      const detail = `a body may have ${limit} bytes`;
      return turnAway({ status: 413, code: 'too_large', detail, body: body.bytes, lengthBytes: body.lengthBytes });
    }
    const wrongType = hasBody ? bodyTypeProblem(request) : undefined;
    if (wrongType !== undefined)
      return turnAway({ status: 415, code: 'unsupported_type', detail: wrongType, body: body.bytes });
    const read = readChange(request.method, path, body.bytes);
    if ('problems' in read)
      return turnAway({ status: 400, code: 'request_invalid', problems: read.problems, body: body.bytes });
    return finish(await push(caller, read.change));
  };

  return async (request, response) => {
    const requestId = requestIdOf(request);
    const admitted = admit(request, 'data');
    if ('refused' in admitted) return refuse(request, response, { requestId, ...admitted.refused });
    const { caller } = admitted;
    const turnAway = (refused: RefusedRequest): void => refuse(request, response, { caller, requestId, ...refused });
    const { tenant } = caller;
    const own = inFlightOf.get(tenant) ?? 0;
    if (inFlight >= MAX_IN_FLIGHT || own >= MAX_TENANT_IN_FLIGHT)
      return turnAway({ status: 503, code: 'overloaded', headers: RETRY });
    inFlight += 1;
    inFlightOf.set(tenant, own + 1);
    try {
      await handle(request, response, caller, turnAway);
    } catch (error) {
      const code = isAppError(error) ? error.code : 'internal';
      logger.error({ err: error }, 'data could not be pushed');
      const detail = 'whether the change came into effect is not known; GET tells';
      const status = isAppError(error) ? httpStatus(error.code) : 500;
      if (!response.headersSent) turnAway({ status, code, ...(status === 503 ? { detail, headers: RETRY } : {}) });
    } finally {
      inFlight -= 1;
      const left = (inFlightOf.get(tenant) ?? 1) - 1;
      if (left === 0) inFlightOf.delete(tenant);
      else inFlightOf.set(tenant, left);
    }
  };
};
