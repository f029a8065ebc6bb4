import { isObject } from '../../shared/contracts/json.ts';
import type { DataSubject, SearchRow } from './append.ts';

/** Longer values are cut in the search table; the event itself is whole. */
const MAX_TEXT = 512;
const MAX_REASONS = 256;
const MAX_CHAIN = 256;
/** NUL, or half of a surrogate pair, which may stand alone. */
const NOT_PLAIN = /[\0\ud800-\udfff]/;

/** Under whose key a payload stands that concerns no person: a pseudo-subject of the tenant. */
export const tenantSubject = (tenant: string): DataSubject => ({ issuer: '', type: 'edict.tenant', id: tenant });

/** Text that Postgres takes: no NUL, no lone surrogates. Only for what is searched, never for the event. */
export const searchable = (text: string): string => {
  const cut = text.length > MAX_TEXT ? text.slice(0, MAX_TEXT) : text;
  return NOT_PLAIN.test(cut) ? Buffer.from(cut, 'utf8').toString('utf8').replaceAll('\0', '\uFFFD') : cut;
};

/**
 * A member's text, whole; of a masked or omitted one `masked:` and its HMAC, so that the same value gives the same text
 * and whoever holds the mask key finds it.
 */
const whole = (value: unknown): string => {
  if (typeof value === 'string') return value;
  return isObject(value) && typeof value['masked'] === 'string' ? `masked:${value['masked']}` : '';
};

const text = (value: unknown): string => searchable(whole(value));

const member = (value: unknown, name: string): unknown => {
  if (!isObject(value)) return undefined;
  // A masked parent stands for all its members.
  return typeof value['masked'] === 'string' ? value : value[name];
};

const optional = <Name extends string>(name: Name, value: string): { readonly [N in Name]?: string } =>
  (value === '' ? {} : { [name]: value }) as { readonly [N in Name]?: string };

/**
 * Whose authority a decision used: the issuer counts only where the PDP verified the subject. Only ever hashed, so its
 * texts are whole: two persons must never become one.
 */
const subjectOf = (input: unknown, tenant: string): DataSubject => {
  const subject = member(input, 'subject');
  const id = whole(member(subject, 'id'));
  if (id === '') return tenantSubject(tenant);
  const issuer = isObject(subject) && subject['verified'] === true ? whole(member(subject['claims'], 'iss')) : '';
  return { issuer, type: whole(member(subject, 'type')), id };
};

/** Ids of the actors before the agent; of a chain that is masked as a whole its HMAC. */
const chainOf = (agent: unknown): readonly string[] => {
  if (!isObject(agent)) return [];
  const { chain } = agent;
  if (Array.isArray(chain))
    return (chain as readonly unknown[]).slice(0, MAX_CHAIN).map((hop) => text(member(hop, 'id')));
  const masked = text(chain);
  return masked === '' ? [] : [masked];
};

/** Subject and search row of a decision's data; undefined when it is not a decision. */
export const describeDecision = (
  data: Readonly<Record<string, unknown>>,
  eventId: string,
  eventTimeMs: number,
  tenant: string,
): { readonly subject: DataSubject; readonly search: SearchRow } | undefined => {
  const { answer, input, caller, request_id: requestId } = data;
  if (!isObject(answer) || !isObject(input)) return undefined;
  const { decision } = answer;
  if ((decision !== 'allow' && decision !== 'deny') || answer['decision_id'] !== eventId) return undefined;
  const subject = subjectOf(input, tenant);
  const reasons = Array.isArray(answer['reasons']) ? (answer['reasons'] as readonly unknown[]) : [];
  const resource = member(input, 'resource');
  const context = member(input, 'context');
  const agent = member(input, 'agent');
  const chain = chainOf(agent);
  return {
    subject,
    search: {
      eventTimeMs,
      decision,
      reasons: reasons.slice(0, MAX_REASONS).map((reason) => text(member(reason, 'code'))),
      subject,
      ...optional('agent', text(member(agent, 'id'))),
      ...(chain.length === 0 ? {} : { chain }),
      action: text(member(member(input, 'action'), 'name')),
      resourceType: text(member(resource, 'type')),
      resource: text(member(resource, 'id')),
      ...optional('purpose', text(member(context, 'purpose'))),
      ...optional('session', text(member(context, 'session'))),
      ...optional('requestId', text(requestId)),
      caller: text(member(caller, 'id')),
    },
  };
};
