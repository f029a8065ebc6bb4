import { AppError } from '../../services/shared/contracts/errors.ts';
import { isObject } from '../../services/shared/contracts/json.ts';
import type { Answer, JsonClient } from './client.ts';
import type { ReplaySession } from './requests.ts';

/** One answered decision, as far as the ledger must agree with it. */
export interface AnsweredDecision {
  readonly tenant: string;
  readonly decisionId: string;
  readonly decision: 'allow' | 'deny';
  readonly emitter: string;
  readonly boot: string;
  readonly sequence: string;
}

/** What became of one request: a decision (200, or 500 with a decision id), or a refusal or failure that is none. */
export type Outcome =
  | { readonly kind: 'decision'; readonly status: number; readonly tookMs: number; readonly answer: AnsweredDecision }
  | { readonly kind: 'other'; readonly status: number; readonly tookMs: number; readonly tenant: string };

const text = (value: unknown): string | undefined => (typeof value === 'string' ? value : undefined);

/** Reads an answer of `/decide`. An answer at 200 that is no whole decision is an error of the service. */
export const outcomeOf = (tenant: string, { status, body, tookMs }: Answer): Outcome => {
  const members = isObject(body) ? body : {};
  const audit = isObject(members['audit']) ? members['audit'] : {};
  const decisionId = text(members['decision_id']);
  const decision = members['decision'];
  const emitter = text(audit['emitter']);
  const boot = text(audit['boot']);
  const sequence = text(audit['sequence']);
  if (
    decisionId === undefined ||
    emitter === undefined ||
    boot === undefined ||
    sequence === undefined ||
    (decision !== 'allow' && decision !== 'deny')
  ) {
    if (status === 200) throw new AppError('upstream_unavailable', 'an answer with status 200 is no decision');
    return { kind: 'other', status, tookMs, tenant };
  }
  return { kind: 'decision', status, tookMs, answer: { tenant, decisionId, decision, emitter, boot, sequence } };
};

/** What happened so far, for a progress bar. */
export type OnOutcome = (outcome: Outcome) => void;

/**
 * Sends the sessions, at most `concurrency` at once, the requests of a session one after another. A request that gets
 * no whole answer ends the replay: what the ledger must hold would be unknown.
 */
export const sendSessions = async (
  sessions: readonly ReplaySession[],
  clientOf: (suite: string) => JsonClient,
  options: { readonly concurrency: number; readonly onOutcome: OnOutcome },
): Promise<void> => {
  let next = 0;
  let failed = false;
  const work = async (): Promise<void> => {
    while (!failed) {
      const session = sessions[next];
      next += 1;
      if (session === undefined) return;
      for (const { suite, body } of session)
        options.onOutcome(outcomeOf(suite, await clientOf(suite).post('/decide', body)));
    }
  };
  const stopOthers = (error: unknown): never => {
    failed = true;
    throw error;
  };
  await Promise.all(Array.from({ length: options.concurrency }, () => work().catch(stopOthers)));
};
