import type {
  BundleIdentity,
  DecisionRequest,
  Durability,
  PolicyIdentity,
  Reason,
} from '../../shared/contracts/decision.ts';
import { errorCode, isAppError } from '../../shared/contracts/errors.ts';
import type { Evaluation, PolicyUsed } from '../../shared/contracts/events.ts';
import type { PolicyInput } from '../../shared/contracts/policy-io.ts';
import type { ChargeFuel, Drawn, Evaluate } from './evaluate.ts';
import type { Freshness } from './freshness.ts';
import type { InputReads } from './input-reads.ts';
import { omittedValue, type compileMask, type MaskKey } from './mask.ts';
import type { Memo } from './memo.ts';
import { faulted, outcomeOf, withFreshness, type Outcome } from './outcome.ts';
import { policyInputDocument, policyInputText, type DecidingCaller } from './policy-input.ts';
import type { DataIdentity } from './pushed-data.ts';
import type { Recorded, RecordEvent } from './record.ts';

/** The set of bundles that one request uses, and nothing else. */
export interface DecidingPolicy {
  readonly evaluate: Evaluate;
  readonly engine: string;
  readonly entrypoint: string;
  readonly bundles: readonly BundleIdentity[];
  /** `sha256:` and 64 hex digits. */
  readonly setDigest: string;
  /** Whether it may still answer; undefined: for ever. */
  readonly freshness?: Freshness;
  /** The pushed data that the policy sees; absent while nothing was pushed. */
  readonly data?: DataIdentity | undefined;
  /** What of the input its answers depend on; undefined: on more than that, or nobody looked. */
  readonly reads?: InputReads | undefined;
}

export interface DecideRequest {
  readonly request: DecisionRequest;
  readonly caller: DecidingCaller;
  readonly policy: DecidingPolicy;
  readonly requestId?: string | undefined;
  readonly traceparent?: string | undefined;
  /** From `monotonicMs`, when the request came in. */
  readonly startedMs: number;
}

export interface Decided {
  readonly decisionId: string;
  readonly allow: boolean;
  readonly reasons: readonly Reason[];
  /** Why the policy, or this program, could give no answer: status 500. Undefined: status 200. */
  readonly fault: string | undefined;
  /** For the log; holds no input. */
  readonly faultMessage: string | undefined;
  /** The members of the answer as JSON text, without braces and without `audit`. */
  readonly answerMembers: string;
  /** The answer may go out only when `recorded.durable` resolved. */
  readonly recorded: Recorded;
}

export interface DecideOptions {
  readonly record: RecordEvent;
  readonly chargeFuel: ChargeFuel;
  /** Unix time in milliseconds, whole. */
  readonly nowMs: () => number;
  readonly monotonicMs: () => number;
  readonly newId: (nowMs: number) => string;
  /** Undefined when nothing is masked. */
  readonly mask: ReturnType<typeof compileMask> | undefined;
  readonly maskKey: (tenant: string) => MaskKey;
  /** The configured level. */
  readonly durability: Durability;
  /** Undefined: every request is evaluated. */
  readonly memo?: Memo | undefined;
}

/**
 * One decision: evaluates, checks the obligations, records the event. Throws, with nothing recorded, only what
 * `RecordEvent` throws for want of room (`spool_full`, `spool_failed`).
 */
export type Decide = (request: DecideRequest) => Decided;

/** What an event says of the evaluation itself. */
interface Spent {
  readonly fuelUsed: number | null;
  readonly fuelLimit: number | null;
  readonly drawn: Drawn | undefined;
  readonly isRemembered: boolean;
}

/** Nothing was evaluated. */
const NOTHING: Spent = { fuelUsed: null, fuelLimit: null, drawn: undefined, isRemembered: false };
const REMEMBERED: Spent = { ...NOTHING, isRemembered: true };

/** The members of an evaluation that each decision adds. */
type Varying = 'memo' | 'time_ns' | 'replayable' | 'fuel_limit' | 'fuel_used' | 'nondeterministic';

interface PolicyTexts {
  readonly identity: string;
  readonly used: string;
  /** The evaluation without what each decision adds, open at its end. */
  readonly evaluation: string;
}
const policyTexts = new WeakMap<DecidingPolicy, PolicyTexts>();

/** JSON of what never changes while a set is active. */
const textsOf = (policy: DecidingPolicy): PolicyTexts => {
  const known = policyTexts.get(policy);
  if (known !== undefined) return known;
  const { data } = policy;
  const identity: PolicyIdentity = { bundles: policy.bundles, ...(data === undefined ? {} : { data }) };
  const used: PolicyUsed = { ...identity, set: policy.setDigest };
  const evaluation: Omit<Evaluation, Varying> = {
    engine: policy.engine,
    entrypoint: policy.entrypoint,
    seed: null,
  };
  const texts: PolicyTexts = {
    identity: JSON.stringify(identity),
    used: JSON.stringify(used),
    evaluation: `${JSON.stringify(evaluation).slice(0, -1)},`,
  };
  policyTexts.set(policy, texts);
  return texts;
};

interface AnswerParts {
  readonly reasons: readonly object[];
  readonly obligations: readonly object[];
  readonly advice: readonly object[];
}

const listTexts = new WeakMap<readonly object[], string>();

/** JSON of a list that many answers share: the policy's output is one object as long as it says the same. */
const listText = (list: readonly object[]): string => {
  if (list.length === 0) return '[]';
  const known = listTexts.get(list);
  if (known !== undefined) return known;
  const text = JSON.stringify(list);
  listTexts.set(list, text);
  return text;
};

const answerText = (id: string, outcome: Outcome, parts: AnswerParts, policy: PolicyTexts, nowMs: number): string => {
  const head = `"decision_id":"${id}","decision":"${outcome.allow ? 'allow' : 'deny'}","allow":${outcome.allow}`;
  const body = `"reasons":${listText(parts.reasons)},"obligations":${listText(parts.obligations)},"advice":${listText(parts.advice)}`;
  const expires =
    outcome.expiresInS === undefined
      ? ''
      : `,"expires_at":"${new Date(nowMs + Math.floor(outcome.expiresInS * 1_000)).toISOString()}"`;
  return `${head},${body},"policy":${policy.identity}${expires}`;
};

export const createDecide = (options: DecideOptions): Decide => {
  const { record, chargeFuel, nowMs, monotonicMs, newId, mask, maskKey, durability, memo } = options;

  const resultOf = ({ request, caller, policy }: DecideRequest, text: string, timeMs: number) => {
    if (memo === undefined) return [policy.evaluate(text, timeMs), false] as const;
    const document = () => policyInputDocument(request, caller, timeMs);
    return memo.evaluate(caller.tenant, policy, { text, document }, timeMs);
  };

  const evaluateRequest = (ask: DecideRequest, inputJson: string, timeMs: number): readonly [Outcome, Spent] => {
    try {
      const [result, isRemembered] = resultOf(ask, inputJson, timeMs);
      if (!isRemembered) chargeFuel(ask.caller.tenant, result);
      const { freshness, data } = ask.policy;
      const answered = outcomeOf(ask.request, result, data);
      const outcome = freshness === undefined ? answered : withFreshness(answered, freshness(timeMs), timeMs);
      if (isRemembered) return [outcome, REMEMBERED];
      const { fuelUsed, fuelLimit } = result;
      const drawn = result.outcome === 'answer' ? result.drawn : undefined;
      return [outcome, { fuelUsed, fuelLimit, drawn, isRemembered }];
    } catch (error) {
      return [faulted('internal', `evaluation threw ${errorCode(error) ?? 'an error'}`), NOTHING];
    }
  };

  return (ask) => {
    const { caller, policy } = ask;
    const timeMs = nowMs();
    const id = newId(timeMs);
    const inputJson = policyInputText(ask.request, caller, timeMs);
    const [outcome, spent] = evaluateRequest(ask, inputJson, timeMs);
    const texts = textsOf(policy);
    const answer = answerText(id, outcome, outcome, texts, timeMs);

    const members = (input: string, eventAnswer: string, fault: string | undefined, replayable: boolean): string => {
      // The arguments of what was drawn may come from the input.
      const drawn = replayable && spent.drawn !== undefined ? JSON.stringify(spent.drawn) : '{}';
      const evaluation = `${texts.evaluation}"memo":${spent.isRemembered},"fuel_limit":${spent.fuelLimit},"fuel_used":${spent.fuelUsed},"nondeterministic":${drawn},"time_ns":"${timeMs}000000","replayable":${replayable}}`;
      const durationUs = Math.max(0, Math.round((monotonicMs() - ask.startedMs) * 1_000));
      return (
        `"caller":{"id":${JSON.stringify(caller.id)}}` +
        (ask.requestId === undefined ? '' : `,"request_id":${JSON.stringify(ask.requestId)}`) +
        `,"input":${input},"tokens":[],"answer":{${eventAnswer}}` +
        (fault === undefined ? '' : `,"fault":${JSON.stringify(fault)}`) +
        `,"evaluation":${evaluation},"policy":${texts.used}` +
        `,"durability":"${durability}","duration_us":${durationUs}` +
        (ask.traceparent === undefined ? '' : `,"trace":{"traceparent":${JSON.stringify(ask.traceparent)}}`)
      );
    };
    const append = (text: string): Recorded =>
      record({ id, type: 'edict.decision.v1', tenant: caller.tenant, timeMs, members: text });

    const unmasked = (): string => members(inputJson, answer, outcome.fault, true);
    const masked = (apply: ReturnType<typeof compileMask>): string => {
      const shown = {
        input: JSON.parse(inputJson) as PolicyInput,
        reasons: structuredClone(outcome.reasons),
        obligations: structuredClone(outcome.obligations),
        advice: structuredClone(outcome.advice),
      };
      const { inputMasked } = apply(shown, maskKey(caller.tenant));
      const eventAnswer = answerText(id, outcome, shown, texts, timeMs);
      return members(JSON.stringify(shown.input), eventAnswer, outcome.fault, !inputMasked);
    };

    try {
      const recorded = append(mask === undefined ? unmasked() : masked(mask));
      const { allow, reasons, fault, faultMessage } = outcome;
      return { decisionId: id, allow, reasons, fault, faultMessage, answerMembers: answer, recorded };
    } catch (error) {
      if (!isAppError(error) || error.code !== 'event_too_large') throw error;
    }
    const tooLarge = faulted('event_too_large', 'the event is larger than 900 kB');
    const denial = answerText(id, tooLarge, tooLarge, texts, timeMs);
    const key = maskKey(caller.tenant);
    const input = JSON.stringify(omittedValue(inputJson, key));
    const output = JSON.stringify(omittedValue(`{${answer}}`, key));
    const recorded = append(`${members(input, denial, tooLarge.fault, false)},"output":${output}`);
    const { allow, reasons, fault, faultMessage } = tooLarge;
    return { decisionId: id, allow, reasons, fault, faultMessage, answerMembers: denial, recorded };
  };
};
