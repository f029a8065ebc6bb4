import type { DecisionRequest } from '../../shared/contracts/decision.ts';
import { rfc3339 } from '../../shared/contracts/rfc3339.ts';

/** What the core needs to know of an authenticated caller. */
export interface DecidingCaller {
  readonly id: string;
  readonly tenant: string;
  readonly requires_agent: boolean;
  readonly believe_unverified: boolean;
  readonly properties: Readonly<Record<string, unknown>>;
}

interface Entity {
  readonly type: string;
  readonly id: string;
  readonly properties?: Record<string, unknown>;
}

const NS_PER_MS = 1_000_000;

const json = (value: unknown): string => JSON.stringify(value);
const orEmpty = (properties: Record<string, unknown> | undefined): string =>
  properties === undefined ? '{}' : json(properties);

/** Open at its end. */
const partyText = ({ type, id, properties }: Entity, verified: boolean): string =>
  `{"type":${json(type)},"id":${json(id)},"properties":${orEmpty(properties)},"verified":${verified}`;

const agentText = (agent: NonNullable<DecisionRequest['agent']>, verified: boolean): string => {
  const chain = (agent.chain ?? []).map((hop) => `${partyText(hop, verified)}}`);
  return `"agent":${partyText(agent, verified)},"chain":[${chain.join(',')}]},`;
};

const withoutTokens = (context: NonNullable<DecisionRequest['context']>): Readonly<Record<string, unknown>> => {
  if (context.session_tokens === undefined) return context;
  const { session_tokens: _tokens, ...rest } = context;
  return rest;
};

const callerDocuments = new WeakMap<DecidingCaller, object>();
const callerDocument = (caller: DecidingCaller): object => {
  const known = callerDocuments.get(caller);
  if (known !== undefined) return known;
  const { id, properties, believe_unverified } = caller;
  const document = { id, properties: { ...properties, believe_unverified } };
  callerDocuments.set(caller, document);
  return document;
};

const callerTexts = new WeakMap<DecidingCaller, string>();

/** Tenant and caller: the same for every request of a caller. */
const callerText = (caller: DecidingCaller): string => {
  const known = callerTexts.get(caller);
  if (known !== undefined) return known;
  const text = `"tenant":${json(caller.tenant)},"caller":${json(callerDocument(caller))}`;
  callerTexts.set(caller, text);
  return text;
};

/**
 * The document that the policy sees (`PolicyInput`), as JSON text: it is evaluated and recorded as text, and to make the
 * objects first would cost as much again. `verified` says whether the caller is trusted to state attributes: no token was
 * checked. `ns` has no more digits than the millisecond has, so none is lost in a double.
 */
export const policyInputText = (request: DecisionRequest, caller: DecidingCaller, nowMs: number): string => {
  const verified = caller.believe_unverified;
  const { subject, agent, action, resource } = request;
  return (
    `{"version":1,${callerText(caller)},"subject":${partyText(subject, verified)}},` +
    (agent === undefined ? '' : agentText(agent, verified)) +
    `"action":{"name":${json(action.name)},"properties":${orEmpty(action.properties)}},` +
    `"resource":{"type":${json(resource.type)},"id":${json(resource.id)},"properties":${orEmpty(resource.properties)}},` +
    `"context":${request.context === undefined ? '{}' : json(withoutTokens(request.context))},"session":{"labels":[],"step":0},` +
    `"time":{"rfc3339":"${rfc3339(nowMs)}","ns":${nowMs * NS_PER_MS}}}`
  );
};

const partyDocument = ({ type, id, properties = {} }: Entity, verified: boolean) => ({
  type,
  id,
  properties,
  verified,
});

/** What `policyInputText` says, for whoever needs some of its members: to read the text again costs much more. */
export const policyInputDocument = (request: DecisionRequest, caller: DecidingCaller, nowMs: number): object => {
  const verified = caller.believe_unverified;
  const { subject, agent, action, resource, context = {} } = request;
  const { properties = {} } = resource;
  return {
    version: 1,
    tenant: caller.tenant,
    caller: callerDocument(caller),
    subject: partyDocument(subject, verified),
    agent:
      agent === undefined
        ? undefined
        : { ...partyDocument(agent, verified), chain: (agent.chain ?? []).map((hop) => partyDocument(hop, verified)) },
    action: { name: action.name, properties: action.properties ?? {} },
    resource: { type: resource.type, id: resource.id, properties },
    context: withoutTokens(context),
    session: { labels: [], step: 0 },
    time: { rfc3339: rfc3339(nowMs), ns: nowMs * NS_PER_MS },
  };
};

/** The legs of a request: each party whose own rights are tested. */
export const legsOf = (request: DecisionRequest): readonly string[] =>
  request.agent === undefined
    ? ['subject']
    : ['subject', 'agent', ...(request.agent.chain ?? []).map((_hop, index) => `chain/${index}`)];
