import type { Request, RequestHandler, Response } from 'express';
import { AppError } from '../../shared/contracts/errors.ts';
import { isTenant, SYSTEM_TENANT } from '../../shared/contracts/tenant.ts';
import { createAuthenticate, developmentCaller, type Authenticate } from '../../shared/callers/api-keys.ts';
import { createHostCheck, hasSeveralHosts, SEVERAL_HOSTS } from '../../shared/runtime/host-names.ts';
import { isLoopback, parseListen } from '../../shared/runtime/http-server.ts';
import { problem, PROBLEM_TYPE } from '../../shared/runtime/problem.ts';
import type { Caller } from '../../shared/settings/schema.ts';
import { tenantNames, type Settings } from '../../shared/settings/settings.ts';

/** Who may read what. `open`: nobody has to say who they are, and any tenant of this machine may be asked for. */
export type AuditAccess =
  | { readonly mode: 'open'; readonly caller: Caller; readonly tenants: ReadonlySet<string> }
  | { readonly mode: 'callers'; readonly authenticate: Authenticate };

/**
 * The access that the settings describe. Throws `settings_invalid` for a listener that other machines can reach while
 * there are no callers.
 */
export const auditAccess = (settings: Settings): AuditAccess => {
  if (settings.callers.length > 0) return { mode: 'callers', authenticate: createAuthenticate(settings.callers) };
  if (!isLoopback(parseListen(settings.audit.listen).host))
    throw new AppError(
      'settings_invalid',
      `/audit/listen: ${settings.audit.listen} is reachable from other machines; that needs callers`,
    );
  return {
    mode: 'open',
    caller: developmentCaller(settings),
    tenants: new Set([...tenantNames(settings), SYSTEM_TENANT]),
  };
};

/** Who asks, and about which tenant. */
export interface Auditor {
  readonly caller: string;
  readonly tenant: string;
}

export const sendProblem = (response: Response, status: number, code: string, detail: string): void => {
  if (status === 401) response.set('www-authenticate', 'Bearer');
  if (status === 503) response.set('retry-after', '1');
  response
    .status(status)
    .type(PROBLEM_TYPE)
    .send(JSON.stringify(problem(status, code, detail)));
};

/** The parameters of a request's target, in order; whatever stands before them is not looked at. */
export const parametersOf = (url: string): URLSearchParams => {
  const query = url.indexOf('?');
  return new URLSearchParams(query === -1 ? '' : url.slice(query + 1));
};

/**
 * Refuses other names than this listener's while it is open: a page of another name is DNS rebinding; and several names
 * always.
 */
export const checkHost = (options: {
  readonly access: () => AuditAccess;
  readonly listenHost: string;
  readonly allowedHosts: readonly string[];
}): RequestHandler => {
  const isOwnHost = createHostCheck(options.listenHost, options.allowedHosts);
  return (request, response, next) => {
    if (hasSeveralHosts(request)) sendProblem(response, 400, SEVERAL_HOSTS.code, SEVERAL_HOSTS.detail);
    else if (options.access().mode === 'open' && !isOwnHost(request.headers.host))
      sendProblem(
        response,
        403,
        'host_refused',
        'this listener knows its callers by its loopback address only; see audit.allowed_hosts',
      );
    else next();
  };
};

/** A page of another origin can send a form, but no JSON, without being allowed to. */
export const onlyJson: RequestHandler = (request, response, next) => {
  if (/^application\/json(\s*;\s*charset="?utf-8"?)?\s*$/i.test(request.headers['content-type'] ?? '')) next();
  else sendProblem(response, 415, 'unsupported_media_type', 'send application/json');
};

/** What a handler finds in `response.locals` after `authorize`. */
export const auditorOf = (response: Response): Auditor => {
  const { auditor } = response.locals as { readonly auditor?: Auditor };
  if (auditor === undefined) throw new AppError('internal', 'the route has no authorisation');
  return auditor;
};

const namedByParameter = (request: Request): readonly string[] => parametersOf(request.originalUrl).getAll('tenant');

/** For routes under `/log/{tenant}/`. */
export const namedByPath = (request: Request): readonly string[] => [String(request.params['tenant'])];

/**
 * Lets through whoever has one of the roles. The tenant is the credential's; what `namedIn` finds, by default the
 * parameter `tenant`, may repeat it, and chooses one only on an open listener.
 */
export const authorize =
  (
    access: () => AuditAccess,
    roles: readonly Caller['roles'][number][],
    namedIn: (request: Request) => readonly string[] = namedByParameter,
  ): RequestHandler =>
  (request, response, next) => {
    const current = access();
    const caller = current.mode === 'open' ? current.caller : current.authenticate(request.headers.authorization);
    if (caller === undefined)
      return sendProblem(
        response,
        401,
        'unauthenticated',
        request.headers.authorization === undefined
          ? 'send Authorization: Bearer <API key>'
          : 'the API key is not known',
      );
    if (!roles.some((role) => caller.roles.includes(role)))
      return sendProblem(response, 403, 'forbidden', `this caller has not the role ${roles.join(' or ')}`);
    const named = namedIn(request);
    const [tenant = caller.tenant] = named;
    if (named.length > 1 || !isTenant(tenant))
      return sendProblem(response, 400, 'request_invalid', 'tenant: is no tenant name, or stands twice');
    if (current.mode === 'open' ? !current.tenants.has(tenant) : tenant !== caller.tenant)
      return sendProblem(response, 403, 'forbidden', 'tenant: this caller may not read that tenant');
    const auditor: Auditor = { caller: caller.id, tenant };
    response.locals['auditor'] = auditor;
    next();
  };
