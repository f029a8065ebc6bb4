import type { IncomingMessage } from 'node:http';
import type { Caller } from '../../shared/settings/schema.ts';
import type { RefusedRequest } from './refuse.ts';

/** Tests what can be tested before the body: `Host`, who asks, what they may, how often. */
export type Admit = (
  request: IncomingMessage,
  role: Caller['roles'][number],
) => { readonly caller: Caller } | { readonly refused: RefusedRequest };

export interface AdmissionOptions {
  readonly identify: (authorization: string | undefined, connection: object) => Caller | undefined;
  /** True while nobody has to say who they are; then `Host` is checked. */
  readonly isOpen: () => boolean;
  readonly takeQuota: (caller: Caller) => number;
  /** 0, or the seconds until the tenant's policies may be evaluated again. */
  readonly fuelWaitS: (tenant: string) => number;
  /** Whether a `Host` header names this listener. */
  readonly isOwnHost: (header: string | undefined) => boolean;
}

export const createAdmit =
  ({ identify, isOpen, takeQuota, fuelWaitS, isOwnHost }: AdmissionOptions): Admit =>
  (request, role) => {
    const { host, authorization } = request.headers;
    if (isOpen() && !isOwnHost(host)) {
      const detail = 'this listener knows its callers by its loopback address only; see pdp.allowed_hosts';
      return { refused: { status: 403, code: 'host_refused', detail } };
    }
    const caller = identify(authorization, request.socket);
    if (caller === undefined) {
      const detail = authorization === undefined ? 'send Authorization: Bearer <API key>' : 'the API key is not known';
      return { refused: { status: 401, code: 'unauthenticated', detail, headers: { 'www-authenticate': 'Bearer' } } };
    }
    if (!caller.roles.includes(role))
      return { refused: { status: 403, code: 'forbidden', detail: `this caller has not the role ${role}`, caller } };
    if (role !== 'decide' && role !== 'data') return { caller };
    // A push costs time too, by the size of the document, but no policy's fuel: it may be what stops an attack.
    const fuelS = role === 'decide' ? fuelWaitS(caller.tenant) : 0;
    const waitS = fuelS > 0 ? fuelS : takeQuota(caller);
    if (waitS <= 0) return { caller };
    const code = fuelS > 0 ? 'fuel_exhausted' : 'rate_limited';
    return { refused: { status: 429, code, caller, headers: { 'retry-after': String(waitS) } } };
  };

const REQUEST_ID = /^[\x21-\x7e]{1,128}$/;
/** W3C Trace Context, level 1: version ff and ids of zeros are invalid. */
const TRACEPARENT = /^(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}$/;

const headerLike = (value: string | readonly string[] | undefined, pattern: RegExp): string | undefined =>
  typeof value === 'string' && pattern.test(value) ? value : undefined;

/** `X-Request-ID` when it is one to 128 visible ASCII characters; anything else is neither echoed nor recorded. */
export const requestIdOf = (request: IncomingMessage): string | undefined =>
  headerLike(request.headers['x-request-id'], REQUEST_ID);

export const traceparentOf = (request: IncomingMessage): string | undefined =>
  headerLike(request.headers['traceparent'], TRACEPARENT);

/** Why a body cannot be read as JSON, or undefined (RFC 8259: `application/json` has no parameters but is UTF-8). */
export const typeProblem = (request: IncomingMessage): string | undefined => {
  const { 'content-type': type, 'content-encoding': encoding } = request.headers;
  if (encoding !== undefined && encoding.toLowerCase() !== 'identity') return 'Content-Encoding is not supported';
  if (type === undefined) return 'Content-Type is missing; send application/json';
  return /^application\/json(\s*;\s*charset="?utf-8"?)?\s*$/i.test(type) ? undefined : 'send application/json';
};
