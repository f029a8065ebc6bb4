import express, { type Request, type RequestHandler, type Response, type Router } from 'express';
import { AppError } from '../../shared/contracts/errors.ts';
import { isObject } from '../../shared/contracts/json.ts';
import { isUuidV7 } from '../../shared/contracts/uuid.ts';
import { MAX_ENTRIES, type Approver, type ErasureRequest, type Erasures, type ErasureStatus } from '../core/erasure.ts';
import { auditorOf, onlyJson, type AuditAccess } from './access.ts';

const MAX_BODY = '64kb';
const MAX_ID = 2_048;
const MAX_COPIES = 50;
const MAX_COPY = 200;
/** What somebody calls himself where nobody has a credential. */
const NAME = /^[A-Za-z0-9][A-Za-z0-9._:@-]{0,63}$/;

type Json = Readonly<Record<string, unknown>>;

const bad = (what: string): AppError => new AppError('request_invalid', what);
const time = (us: bigint | string | null): string | null =>
  us === null ? null : new Date(Number(BigInt(us) / 1_000n)).toISOString();

const shown = (erasure: ErasureStatus): Json => ({
  id: erasure.id,
  tenant: erasure.tenant,
  state: erasure.state,
  waits_for: erasure.waitsFor,
  request: erasure.request,
  legal_basis: erasure.legalBasis,
  scope: erasure.key === null ? 'entries' : 'subject',
  subject: erasure.subject,
  key: erasure.key,
  entries: erasure.entries,
  copies: erasure.copies,
  requested_by: erasure.requestedBy,
  requested_at: time(erasure.requestedUs),
  expires_at: time(erasure.expiresUs),
  approvals: erasure.approvals.map(({ by, us }) => ({ by, at: time(us) })),
  authenticated: erasure.authenticated,
  log: erasure.log,
  entry: erasure.firstSeq === null ? null : String(erasure.firstSeq),
  last_entry: erasure.lastSeq === null ? null : String(erasure.lastSeq),
  erased: erasure.erased === null ? null : String(erasure.erased),
  ended_at: time(erasure.endedUs),
});

const objectIn = (body: unknown, ...allowed: readonly string[]): Json => {
  if (!isObject(body)) throw bad('the body is no object');
  for (const name of Object.keys(body)) if (!allowed.includes(name)) throw bad(`/${name.slice(0, 64)}: unknown member`);
  return body;
};

/** What a text column, UTF-8 and a digest can hold. */
const isText = (value: unknown, max: number): value is string =>
  typeof value === 'string' &&
  Buffer.byteLength(value) <= max &&
  !value.includes('\0') &&
  !/\p{Surrogate}/u.test(value);

const textIn = (object: Json, name: string, max: number, at = ''): string => {
  const value = object[name];
  if (!isText(value, max) || value === '') throw bad(`${at}/${name}: is no text of 1 to ${max} bytes`);
  return value;
};

const listIn = (object: Json, name: string, max: number, isGood: (item: unknown) => boolean): readonly string[] => {
  const value = object[name] ?? [];
  if (!Array.isArray(value) || value.length > max || !value.every(isGood))
    throw bad(`/${name}: is no list of at most ${max} of them`);
  return value as readonly string[];
};

const requestIn = (body: unknown): ErasureRequest => {
  const object = objectIn(body, 'subject', 'decisions', 'seqs', 'reference', 'legal_basis', 'copies', 'as');
  const decisions = listIn(object, 'decisions', MAX_ENTRIES, (item) => typeof item === 'string' && isUuidV7(item));
  const seqs = listIn(object, 'seqs', MAX_ENTRIES, (item) => typeof item === 'string' && /^\d{1,18}$/.test(item));
  const { subject } = object;
  const entries = decisions.length + seqs.length;
  if ((subject === undefined) === (entries === 0) || entries > MAX_ENTRIES)
    throw bad(`either /subject, or /decisions and /seqs with ${MAX_ENTRIES} together at most`);
  const scopeOf = (): ErasureRequest['scope'] => {
    if (subject === undefined) return { decisions, seqs: seqs.map(BigInt) };
    if (!isObject(subject)) throw bad('/subject: is no object');
    for (const name of Object.keys(subject))
      if (!['issuer', 'type', 'id'].includes(name)) throw bad(`/subject/${name.slice(0, 64)}: unknown member`);
    const issuer = subject['issuer'] ?? '';
    if (!isText(issuer, MAX_ID)) throw bad('/subject/issuer: is no text');
    const [type, id] = [textIn(subject, 'type', MAX_ID, '/subject'), textIn(subject, 'id', MAX_ID, '/subject')];
    // The tenant's pseudo-subject has the payloads that prove the log itself.
    if (type.startsWith('edict.')) throw bad('/subject/type: begins with `edict.`: that is nobody');
    return { subject: { issuer, type, id } };
  };
  return {
    scope: scopeOf(),
    reference: textIn(object, 'reference', 1_000),
    legalBasis: textIn(object, 'legal_basis', 1_000),
    copies: listIn(object, 'copies', MAX_COPIES, (item) => isText(item, MAX_COPY) && item !== ''),
  };
};

/** The caller; on an open listener, where there is one caller only, whoever the request says it is. */
const approverOf = (access: AuditAccess, response: Response, body: unknown): Approver => {
  const as = isObject(body) ? body['as'] : undefined;
  if (access.mode === 'callers') {
    if (as !== undefined) throw bad('/as: callers are known by their credential');
    return { name: auditorOf(response).caller, isAuthenticated: true };
  }
  if (typeof as !== 'string' || !NAME.test(as))
    throw bad('/as: without callers in the settings a request says who asks, for development');
  return { name: `${as} (unauthenticated)`, isAuthenticated: false };
};

/** `/v1/erasures`: requests, approvals, and how far each is. Mounted behind the authorisation of the role `erase`. */
export const erasureRoutes = (erasures: Erasures, access: () => AuditAccess): Router => {
  const router = express.Router();
  const json = [onlyJson, express.json({ limit: MAX_BODY })];
  const idOf = (request: Request): string => {
    const id = String(request.params['id']);
    if (!isUuidV7(id)) throw bad('erasure: is no UUIDv7 in lower case');
    return id;
  };
  const tenantOf = (response: Response): string => auditorOf(response).tenant;
  const list: RequestHandler = async (_request, response) => {
    const found = await erasures.list(tenantOf(response));
    response.json({ tenant: tenantOf(response), erasures: found.map(shown) });
  };
  const create: RequestHandler = async (request, response) => {
    const by = approverOf(access(), response, request.body);
    response
      .status(201)
      .json({ erasure: shown(await erasures.request(tenantOf(response), by, requestIn(request.body))) });
  };
  const get: RequestHandler = async (request, response) => {
    response.json({ erasure: shown(await erasures.get(tenantOf(response), idOf(request))) });
  };
  const approve: RequestHandler = async (request, response) => {
    objectIn(request.body, 'as');
    const by = approverOf(access(), response, request.body);
    response.json({ erasure: shown(await erasures.approve(tenantOf(response), idOf(request), by)) });
  };
  const withdraw: RequestHandler = async (request, response) => {
    objectIn(request.body);
    response.json({ erasure: shown(await erasures.withdraw(tenantOf(response), idOf(request))) });
  };
  router.get('/', list);
  router.post('/', ...json, create);
  router.get('/:id', get);
  router.post('/:id/approve', ...json, approve);
  router.post('/:id/withdraw', ...json, withdraw);
  return router;
};
