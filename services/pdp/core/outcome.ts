import type { DecisionRequest, Obligation, Reason } from '../../shared/contracts/decision.ts';
import { obligationProblem } from '../../shared/contracts/obligations.ts';
import type { PolicyOutput } from '../../shared/contracts/policy-io.ts';
import type { EvaluationResult } from './evaluate.ts';
import type { FreshnessState } from './freshness.ts';
import { mergeObligations } from './obligations.ts';
import { legsOf } from './policy-input.ts';
import type { DataIdentity } from './pushed-data.ts';

/** No policy gives this reason: events would not tell what the age of bundles or data made of an answer. */
export const STALE = 'policy_stale';

/** What a decision point answers, by its own rules, to what the policy gave. */
export interface Outcome {
  readonly allow: boolean;
  readonly reasons: readonly Reason[];
  readonly obligations: readonly Obligation[];
  readonly advice: readonly Obligation[];
  readonly expiresInS?: number | undefined;
  readonly fault?: string;
  readonly faultMessage?: string;
}

const NO_ANSWER = 'The policy gave no answer that can be used.';
const FAULT_MESSAGES: Readonly<Record<string, string>> = {
  policy_fuel: 'The policy came to no answer within its fuel (pdp.fuel, or the limit of the tenant or bundle).',
  policy_memory: 'The policy came to no answer within its memory (pdp.policy_memory, or that of the tenant or bundle).',
  policy_undefined: 'The policy has no answer to this request.',
};

export const faulted = (code: string, message: string): Outcome => ({
  allow: false,
  reasons: [{ code, message: FAULT_MESSAGES[code] ?? NO_ANSWER }],
  obligations: [],
  advice: [],
  fault: code,
  faultMessage: message,
});

/** An allow that a rule of this program turned into a deny: the policy's reasons for the allow are void. */
const turned = (reasons: readonly Reason[]): Outcome => ({ allow: false, reasons, obligations: [], advice: [] });

const staleReason = (request: DecisionRequest, data: DataIdentity | undefined): Reason | undefined => {
  const wanted = request.at_least?.data_revision;
  if (wanted === undefined || (data !== undefined && data.revision >= wanted)) return undefined;
  const reached = data === undefined ? 'no data was pushed' : `it is at ${data.revision}`;
  return {
    code: STALE,
    message: `The data revision ${wanted} that at_least asks for has not been reached: ${reached}.`,
  };
};

const obligationRefusals = (request: DecisionRequest, output: PolicyOutput): readonly Reason[] => {
  const supported = request.context?.supported_obligations;
  const reasons = new Map<string, Reason>();
  for (const duty of output.obligations) {
    const problem = obligationProblem(duty);
    if (problem !== undefined) reasons.set(problem, { code: 'obligation_unknown', message: problem });
    else if (supported !== undefined && !supported.includes(duty.type)) {
      const message = `the caller does not support obligation ${duty.type}`;
      reasons.set(message, { code: 'obligation_unsupported', message });
    }
  }
  return [...reasons.values()];
};

/** What the policy's answer means for this request. */
export const outcomeOf = (
  request: DecisionRequest,
  result: EvaluationResult,
  data: DataIdentity | undefined,
): Outcome => {
  if (result.outcome === 'fault') return faulted(result.code, result.message);
  const { value: output } = result;
  if (output.session !== undefined && output.session.labels.length > 0)
    return faulted('session_unsupported', 'the policy sets session labels, and no session tokens are issued');
  if (output.reasons.some(({ code }) => code === STALE))
    return faulted('policy_output_invalid', `the reason ${STALE} is the decision point's own`);
  const stale = staleReason(request, data);
  if (!output.allow)
    return {
      allow: false,
      reasons: stale === undefined ? output.reasons : [...output.reasons, stale],
      obligations: mergeObligations(output.obligations),
      advice: mergeObligations(output.advice),
      expiresInS: stale === undefined ? output.expires_in_s : undefined,
    };
  // An allow must say of every party that it is permitted; a policy that forgets one must not let it pass.
  const missing = legsOf(request).find((leg) => !Object.hasOwn(output.legs, leg));
  if (missing !== undefined) return faulted('legs_incomplete', `the policy allows without a word on leg ${missing}`);
  if (Object.values(output.legs).includes(false))
    return faulted('legs_inconsistent', 'the policy allows although a leg is not permitted');
  const refusals = obligationRefusals(request, output);
  if (stale !== undefined || refusals.length > 0) return turned(stale === undefined ? refusals : [stale, ...refusals]);
  return {
    allow: true,
    reasons: output.reasons,
    obligations: mergeObligations(output.obligations),
    advice: mergeObligations(output.advice),
    expiresInS: output.expires_in_s,
  };
};

/** What the age of the policy makes of an answer: bundles expire, and a source may be silent for too long. */
export const withFreshness = (outcome: Outcome, found: FreshnessState, timeMs: number): Outcome => {
  if (outcome.fault !== undefined) return outcome;
  if (found.state === 'fresh') {
    if (found.untilMs === undefined || outcome.expiresInS === undefined) return outcome;
    return { ...outcome, expiresInS: Math.min(outcome.expiresInS, (found.untilMs - timeMs) / 1_000) };
  }
  const reason: Reason = { code: STALE, message: found.message };
  if (outcome.allow && found.denies) return turned([reason]);
  return { ...outcome, reasons: [...outcome.reasons, reason], expiresInS: undefined };
};
