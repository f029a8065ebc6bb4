import { STATUS_CODES } from 'node:http';
import type { ErrorRequestHandler, RequestHandler } from 'express';
import type { ErrorCode } from '../contracts/errors.ts';
import { errorMessage, isAppError } from '../contracts/errors.ts';
import type { Logger } from './logger.ts';

export const PROBLEM_TYPE = 'application/problem+json';

/** RFC 9457. `code` is what programs match on. */
export interface Problem {
  readonly type: 'about:blank';
  readonly title: string;
  readonly status: number;
  readonly code: string;
  readonly detail?: string;
}

export const problem = (status: number, code: string, detail?: string): Problem => ({
  type: 'about:blank',
  title: STATUS_CODES[status] ?? 'Error',
  status,
  code,
  ...(detail === undefined ? {} : { detail }),
});

/** The one place where our error codes become HTTP statuses. */
export const httpStatus = (code: ErrorCode): number => {
  switch (code) {
    case 'usage':
    case 'request_invalid':
      return 400;
    case 'not_found':
    case 'ledger_missing':
      return 404;
    case 'policy_unavailable':
    case 'data_unavailable':
    case 'spool_full':
    case 'spool_failed':
    case 'event_not_durable':
    case 'database_unavailable':
    case 'keys_unavailable':
    case 'kafka_unavailable':
    case 'upstream_unavailable':
      return 503;
    case 'settings_invalid':
    case 'bundle_invalid':
    case 'evidence_invalid':
    case 'policy_fault':
    case 'data_corrupt':
    case 'spool_locked':
    case 'spool_corrupt':
    case 'event_too_large':
    case 'database_locked':
    case 'database_conflict':
    case 'ledger_corrupt':
    case 'journal_corrupt':
    case 'signer_failed':
    case 'signer_memory_failed':
    case 'tripwire_failed':
    case 'witness_failed':
    case 'internal':
      return 500;
    default:
      return code satisfies never;
  }
};

/** Members added to every problem, e.g. the PDP's deny. */
export type ProblemMembers = (problem: Problem) => Readonly<Record<string, unknown>>;
const noMembers: ProblemMembers = () => ({});

const statusOf = (error: unknown): number => {
  if (isAppError(error)) return httpStatus(error.code);
  // Express and its router set `status` on what they throw themselves, e.g. 400 for a path that does not decode.
  const status = typeof error === 'object' && error !== null && 'status' in error ? error.status : undefined;
  return typeof status === 'number' && status >= 400 && status < 500 ? status : 500;
};

/** The Express error handler: `application/problem+json`; texts of 5xx errors go to the log, not to the caller. */
export const problemHandler =
  (options: { readonly logger: Logger; readonly members?: ProblemMembers }): ErrorRequestHandler =>
  (error: unknown, request, response, next) => {
    const status = statusOf(error);
    if (status >= 500)
      options.logger.error({ err: error, method: request.method, path: request.path }, 'request failed');
    if (response.headersSent) {
      next(error);
      return;
    }
    const code = isAppError(error) ? error.code : status >= 500 ? 'internal' : 'request_invalid';
    const body = problem(status, code, status < 500 ? errorMessage(error) : undefined);
    if (status === 503) response.set('retry-after', '1');
    response
      .status(status)
      .type(PROBLEM_TYPE)
      .send(JSON.stringify({ ...body, ...(options.members ?? noMembers)(body) }));
  };

/** For the end of a route table: 404, or 405 with `Allow` where only the method is wrong. */
export const unknownRoute =
  (options: {
    /** Path to the methods it has. */
    readonly routes: Readonly<Record<string, readonly string[]>>;
    readonly members?: ProblemMembers;
  }): RequestHandler =>
  (request, response) => {
    const methods = Object.hasOwn(options.routes, request.path) ? options.routes[request.path] : undefined;
    const body =
      methods === undefined
        ? problem(404, 'not_found')
        : problem(405, 'method_not_allowed', `use ${methods.join(', ')}`);
    if (methods !== undefined) response.set('allow', methods.join(', '));
    response
      .status(body.status)
      .type(PROBLEM_TYPE)
      .send(JSON.stringify({ ...body, ...(options.members ?? noMembers)(body) }));
  };
