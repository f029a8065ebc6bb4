import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Caller } from '../../shared/settings/schema.ts';
import { SYSTEM_TENANT } from '../../shared/contracts/tenant.ts';
import { PROBLEM_TYPE } from '../../shared/runtime/problem.ts';
import type { CountRefusal } from '../core/record.ts';
import { refusalBody } from './bodies.ts';
import type { HttpMetrics } from './metrics.ts';
import type { RequestProblem } from './request-problems.ts';

/** A request that is turned away before the policy sees it. */
export interface RefusedRequest {
  readonly status: number;
  readonly code: string;
  readonly detail?: string;
  readonly problems?: readonly RequestProblem[];
  readonly headers?: Readonly<Record<string, string>>;
  /** Undefined when it is not known who asks. */
  readonly caller?: Caller | undefined;
  readonly requestId?: string | undefined;
  /** What was read of the body, and how large it was. */
  readonly body?: Buffer;
  readonly lengthBytes?: number;
  /** False where an event of the request exists already: it must not be counted as a refusal as well. */
  readonly isCounted?: boolean;
}

export type Refuse = (request: IncomingMessage, response: ServerResponse, refused: RefusedRequest) => void;

/** What a caller is told where nothing more is known of the refusal. */
const DETAILS: Readonly<Record<string, string>> = {
  fuel_exhausted: 'the tenant has used its fuel of this second (fuel_per_second); ask again after Retry-After',
  rate_limited: 'the caller asks more often than its rate_per_s; ask again after Retry-After',
  overloaded: 'as many requests as may be under way at once are; ask again after Retry-After',
  policy_unavailable: 'no policy can be used for the tenant now; GET /v1/bundles says why',
  engine_no_room: 'there is no memory for the engine of the tenant; GET /v1/bundles says why',
  engine_busy: 'the engine of the tenant is being made; ask again after Retry-After',
};

/** A body of at most this size is read away, so that the connection can be used again. */
const KEEP_ALIVE_BODY_BYTES = 64 * 1024;
const DRAIN_BYTES = 256 * 1024;
const DRAIN_MS = 1_000;

const mayKeepConnection = (request: IncomingMessage): boolean => {
  if (request.complete) return true;
  const { 'transfer-encoding': encoding, 'content-length': length, expect } = request.headers;
  return encoding === undefined && expect === undefined && Number(length ?? 0) <= KEEP_ALIVE_BODY_BYTES;
};

/**
 * Ends an answer whose request was not read to its end. Closing at once would reset the connection and could destroy
 * the answer on its way, so a little more is read first; how much and how long is bounded.
 */
const endAndClose = (request: IncomingMessage, response: ServerResponse, body: string): void => {
  response.write(body);
  let drained = 0;
  const stop = (): void => {
    clearTimeout(timer);
    request.off('data', onData).off('end', stop).off('close', stop);
    response.end();
  };
  const onData = (chunk: Buffer): void => {
    drained += chunk.length;
    if (drained > DRAIN_BYTES) stop();
  };
  const timer = setTimeout(stop, DRAIN_MS);
  request.on('data', onData).on('end', stop).on('close', stop).resume();
};

export const createRefuse =
  (options: { readonly countRefusal: CountRefusal; readonly metrics: HttpMetrics }): Refuse =>
  (request, response, refused) => {
    const { status, code, caller, problems } = refused;
    const { detail = DETAILS[code] } = refused;
    options.metrics.refused(code, status);
    if (refused.isCounted !== false)
      options.countRefusal({
        tenant: caller?.tenant ?? SYSTEM_TENANT,
        caller: caller?.id ?? '-',
        code,
        status,
        bytes: refused.lengthBytes ?? refused.body?.length ?? Number(request.headers['content-length'] ?? 0),
        ...(refused.body === undefined || refused.body.length === 0 ? {} : { body: refused.body }),
      });
    if (response.destroyed) return;
    const body = refusalBody(status, code, {
      ...(detail === undefined ? {} : { detail }),
      ...(problems === undefined ? {} : { problems }),
    });
    // What is left of a body that was too slow is not waited for.
    const keep = status !== 408 && mayKeepConnection(request);
    response.writeHead(status, {
      'content-type': PROBLEM_TYPE,
      'content-length': Buffer.byteLength(body),
      'cache-control': 'no-store',
      ...(refused.requestId === undefined ? {} : { 'x-request-id': refused.requestId }),
      ...(keep ? {} : { connection: 'close' }),
      ...refused.headers,
    });
    if (keep) response.end(body);
    else endAndClose(request, response, body);
  };
