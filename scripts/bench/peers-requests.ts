import { policyInputText } from '../../services/pdp/core/policy-input.ts';
import type { DecisionRequest } from '../../services/shared/contracts/decision.ts';
import { isObject } from '../../services/shared/contracts/json.ts';

/** One request in the words of each server. */
export interface PeerRequest {
  readonly edict: string;
  readonly opa: string;
  readonly cerbos: string;
}

const TENANT = 'acme';
const NOW_MS = 1_767_225_600_123;
const CALLER = { id: 'gw', tenant: TENANT, requires_agent: false, believe_unverified: false, properties: {} };

/** Of `policies/decide.rego`; Cerbos has them in its policy. */
export const LIMITS = { limits: { junior: 1000, senior: 50_000 } } as const;

/** mulberry32: the same numbers from the same seed, everywhere. */
const random = (seed: number): (() => number) => {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
};

/** The same requests from the same seed: about as many allowed as denied, for each action. */
export const peerRequests = (count: number, seed: number): readonly PeerRequest[] => {
  const next = random(seed);
  const below = (limit: number): number => Math.floor(next() * limit);
  const one = <T>(of: readonly T[], otherwise: T): T => of[below(of.length)] ?? otherwise;
  const departments = ['hr', 'finance', 'legal'];
  return Array.from({ length: count }, (_, at) => {
    const id = `user-${below(500)}`;
    const roles = one([['analyst'], ['analyst', 'manager'], ['manager'], ['admin'], ['guest']], ['guest']);
    const subject = {
      department: one(departments, 'hr'),
      clearance: below(5),
      grade: one(['junior', 'senior'], 'junior'),
    };
    const resource = {
      department: next() < 0.6 ? subject.department : one(departments, 'hr'),
      sensitivity: below(5),
      owner: next() < 0.1 ? id : `user-${below(500)}`,
      amount: below(60_000),
      state: one(['draft', 'rejected', 'final'], 'final'),
    };
    const action = one(['read', 'read', 'approve', 'delete'], 'read');
    const request: DecisionRequest = {
      subject: { type: 'user', id, properties: { ...subject, roles } },
      action: { name: action },
      resource: { type: 'document', id: `document-${at}`, properties: resource },
    };
    return {
      edict: JSON.stringify(request),
      opa: `{"input":${policyInputText(request, CALLER, NOW_MS)}}`,
      cerbos: JSON.stringify({
        principal: { id, roles, attr: subject },
        resources: [{ resource: { kind: 'document', id: `document-${at}`, attr: resource }, actions: [action] }],
      }),
    };
  });
};

export type PeerKind = keyof PeerRequest;

/** Whether an answer allows; undefined when it is no decision. */
export const allows = (kind: PeerKind, body: unknown): boolean | undefined => {
  if (!isObject(body)) return undefined;
  if (kind === 'edict') return typeof body['allow'] === 'boolean' ? body['allow'] : undefined;
  if (kind === 'opa') {
    const { result } = body;
    return isObject(result) && typeof result['allow'] === 'boolean' ? result['allow'] : undefined;
  }
  const results: unknown = body['results'];
  const first: unknown = Array.isArray(results) ? results[0] : undefined;
  const actions = isObject(first) ? first['actions'] : undefined;
  const [effect] = isObject(actions) ? Object.values(actions) : [];
  return typeof effect === 'string' ? effect === 'EFFECT_ALLOW' : undefined;
};
