import { Compile } from 'typebox/compile';
import type { BundleIdentity, DecisionRequest } from '../../shared/contracts/decision.ts';
import { isObject } from '../../shared/contracts/json.ts';
import { PolicyInput } from '../../shared/contracts/policy-io.ts';
import type { Drawn, EvaluationResult } from '../core/evaluate.ts';
import { outcomeOf, STALE, type Outcome } from '../core/outcome.ts';
import type { DataIdentity } from '../core/pushed-data.ts';

/** What an event says of a decision, as far as it takes to decide it again. */
export interface RecordedDecision {
  readonly id: string;
  readonly input: PolicyInput;
  /** The policy's clock, milliseconds since 1970. */
  readonly timeMs: number;
  readonly engine: string;
  readonly fuelLimit: number | undefined;
  readonly fuelUsed: number | undefined;
  readonly drawn: Drawn;
  readonly bundles: readonly BundleIdentity[];
  readonly data: DataIdentity | undefined;
  readonly answer: Readonly<Record<Compared, unknown>>;
}

/** What is compared, by the names of the answer; `fault` is the event's. */
const COMPARED = ['decision', 'reasons', 'obligations', 'advice', 'fault'] as const;
type Compared = (typeof COMPARED)[number];

export interface Replayed {
  readonly decision_id: string;
  /** `aged`: the age of bundles or data turned what may have been an allow into a deny, of which nothing else is left. */
  readonly verdict: 'same' | 'changed' | 'aged';
  /** What is not as it was; empty when nothing is. */
  readonly differences: readonly Compared[];
  readonly recorded: RecordedDecision['answer'];
  readonly now: RecordedDecision['answer'];
  /** Units; null where nothing was evaluated, as of a memo hit. */
  readonly fuel: { readonly recorded: number | null; readonly now: number };
}

const inputCheck = Compile(PolicyInput);
const DIGEST = /^sha256:[0-9a-f]{64}$/;
/** They depend on more than what the event holds: on a limit of the decision point, or on a failure of it. */
const OF_THE_DECISION_POINT: ReadonlySet<unknown> = new Set(['policy_memory', 'event_too_large', 'internal']);

const isIdentity = (value: unknown): value is BundleIdentity =>
  isObject(value) &&
  typeof value['name'] === 'string' &&
  typeof value['digest'] === 'string' &&
  DIGEST.test(value['digest']) &&
  typeof value['serial'] === 'number';

const isDrawn = (value: unknown): value is Drawn =>
  isObject(value) &&
  Object.values(value).every(
    (calls) => isObject(calls) && Object.values(calls).every((result) => typeof result === 'string'),
  );

const numberOr = (value: unknown): number | undefined => (typeof value === 'number' ? value : undefined);

/**
 * Reads a decision event, which may be any JSON. A text says why the decision cannot be made again: something that the
 * policy may have read is masked or left out, or it is no decision at all.
 */
export const readRecorded = (event: unknown): RecordedDecision | string => {
  const data = isObject(event) ? event['data'] : undefined;
  if (!isObject(event) || event['type'] !== 'edict.decision.v1' || !isObject(data)) return 'it is no decision event';
  const { input, answer, evaluation, policy, fault } = data;
  if (!isObject(answer) || !isObject(evaluation) || !isObject(policy)) return 'the event is not complete';
  if (OF_THE_DECISION_POINT.has(fault)) return `the fault ${String(fault)} depends on the decision point`;
  if (evaluation['replayable'] !== true) return 'its input is masked';
  if (!inputCheck.Check(input)) return 'its input is no policy input';
  const { time_ns: ns, engine, nondeterministic: drawn } = evaluation;
  const { bundles, data: pushed } = policy;
  const timeMs = typeof ns === 'string' && /^\d{1,22}000000$/.test(ns) ? Number(ns.slice(0, -6)) : Number.NaN;
  if (!Number.isSafeInteger(timeMs)) return 'its time_ns is no time in whole milliseconds';
  if (typeof engine !== 'string' || !isDrawn(drawn)) return 'its evaluation is not complete';
  if (!Array.isArray(bundles) || bundles.length === 0 || !bundles.every(isIdentity)) return 'it names no bundles';
  const { id } = event;
  if (typeof id !== 'string') return 'it has no id';
  const recorded = {
    id,
    input,
    timeMs,
    engine,
    fuelLimit: numberOr(evaluation['fuel_limit']),
    fuelUsed: numberOr(evaluation['fuel_used']),
    drawn,
    bundles,
    answer: {
      decision: answer['decision'],
      reasons: answer['reasons'],
      obligations: answer['obligations'],
      advice: answer['advice'],
      fault,
    },
  };
  if (pushed === undefined) return { ...recorded, data: undefined };
  if (!isObject(pushed)) return 'the data that it names is none';
  const { revision, digest } = pushed;
  if (typeof revision !== 'number' || typeof digest !== 'string' || !DIGEST.test(digest))
    return 'the data that it names is none';
  return { ...recorded, data: { revision, digest } };
};

/** What the decision point's own rules look at of a request, from the input that was made of it. */
const requestOf = ({ subject, agent, action, resource, context }: PolicyInput): DecisionRequest => ({
  subject,
  ...(agent === undefined ? {} : { agent }),
  action,
  resource,
  context,
});

/** What was masked may have been anything. */
const isAlike = (before: unknown, now: unknown): boolean => {
  if (isObject(before) && typeof before['masked'] === 'string' && typeof before['key'] === 'string') return true;
  if (Array.isArray(before))
    return Array.isArray(now) && before.length === now.length && before.every((item, at) => isAlike(item, now[at]));
  if (!isObject(before) || !isObject(now)) return Object.is(before, now);
  const names = Object.keys(before);
  return (
    names.length === Object.keys(now).length &&
    names.every((name) => Object.hasOwn(now, name) && isAlike(before[name], now[name]))
  );
};

const answerOf = ({ allow, reasons, obligations, advice, fault }: Outcome): RecordedDecision['answer'] => ({
  decision: allow ? 'allow' : 'deny',
  reasons,
  obligations,
  advice,
  fault,
});

const withoutStale = (reasons: unknown): unknown =>
  Array.isArray(reasons) ? reasons.filter((reason) => !isObject(reason) || reason['code'] !== STALE) : reasons;

/**
 * Compares what was recorded with what the policy gives now. What is masked is not compared, nor what the age of the
 * policy, which no event holds, added to the answer. Fuel is told and not judged: who evaluates first on an instance pays
 * for what makes it larger.
 */
export const judgeReplay = (recorded: RecordedDecision, result: EvaluationResult): Replayed => {
  const now = answerOf(outcomeOf(requestOf(recorded.input), result, recorded.data));
  const was = recorded.answer;
  const told = {
    decision_id: recorded.id,
    recorded: was,
    now,
    fuel: { recorded: recorded.fuelUsed ?? null, now: result.fuelUsed },
  };
  const known = withoutStale(was.reasons);
  const aged = Array.isArray(known) && Array.isArray(was.reasons) && known.length < was.reasons.length;
  // An allow that its age turned into a deny has nothing else left in it.
  if (aged && was.decision === 'deny' && now.decision === 'allow' && known.length === 0)
    return { ...told, verdict: 'aged', differences: [] };
  const differences = COMPARED.filter((name): boolean => {
    // The words to a fault are this program's.
    if (name === 'reasons' && now.fault !== undefined && now.fault === was.fault) return false;
    return !isAlike(name === 'reasons' ? known : was[name], now[name]);
  });
  return { ...told, verdict: differences.length === 0 ? 'same' : 'changed', differences };
};
