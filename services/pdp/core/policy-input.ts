import type { DecisionRequest } from '../../shared/contracts/decision.ts';
import type { PolicyInput } from '../../shared/contracts/policy-io.ts';
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

const party = ({ type, id, properties }: Entity, verified: boolean) => ({
  type,
  id,
  properties: properties ?? {},
  verified,
});

const contextWithoutTokens = (context: DecisionRequest['context']): Record<string, unknown> => {
  if (context === undefined) return {};
  if (context.session_tokens === undefined) return context;
  const { session_tokens: _tokens, ...rest } = context;
  return rest;
};

/**
 * The document that the policy sees. `verified` says whether the caller is trusted to state attributes: no token was
 * checked. `ns` has no more digits than the millisecond has, so none is lost in a double.
 */
export const policyInput = (request: DecisionRequest, caller: DecidingCaller, nowMs: number): PolicyInput => {
  const verified = caller.believe_unverified;
  const { subject, agent, action, resource } = request;
  return {
    version: 1,
    tenant: caller.tenant,
    caller: { id: caller.id, properties: { ...caller.properties, believe_unverified: verified } },
    subject: party(subject, verified),
    ...(agent === undefined
      ? {}
      : { agent: { ...party(agent, verified), chain: (agent.chain ?? []).map((hop) => party(hop, verified)) } }),
    action: { name: action.name, properties: action.properties ?? {} },
    resource: { type: resource.type, id: resource.id, properties: resource.properties ?? {} },
    context: contextWithoutTokens(request.context),
    session: { labels: [], step: 0 },
    time: { rfc3339: rfc3339(nowMs), ns: nowMs * NS_PER_MS },
  };
};

/** The legs of a request: each party whose own rights are tested. */
export const legsOf = (request: DecisionRequest): readonly string[] =>
  request.agent === undefined
    ? ['subject']
    : ['subject', 'agent', ...(request.agent.chain ?? []).map((_hop, index) => `chain/${index}`)];
