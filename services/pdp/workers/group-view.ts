import { isObject } from '../../shared/contracts/json.ts';
import type { Check, CheckResult, Checks, Readiness } from '../../shared/runtime/health.ts';
import { joinMetrics, registerGauges, type MetricValues } from '../../shared/runtime/metrics.ts';
import type { GroupAnswers, Question } from './messages.ts';

/** Asks all workers of the group. */
export type AskGroup = (question: Question) => Promise<GroupAnswers>;

/** What was found stays true for so long: anybody may ask for readiness, and each question reaches all workers. */
const FRESH_MS = 200;

const mergeCheck = (name: string, answers: readonly unknown[]): CheckResult => {
  const results = answers.map((answer) => (answer as Readiness | undefined)?.checks[name]);
  // Of one that does not answer nothing is known; the check `workers` tells.
  const facts = Object.fromEntries(
    results.flatMap((result, index) => (result?.facts === undefined ? [] : [[`worker_${index}`, result.facts]])),
  );
  const reasons = results.flatMap((result, index) =>
    result?.ok === false ? [`worker ${index}: ${result.reason}`] : [],
  );
  return reasons.length === 0 ? { ok: true, facts } : { ok: false, reason: reasons.join('; '), facts };
};

const checkWorkers = ({ status, answers }: GroupAnswers): CheckResult => {
  const missing = answers.flatMap((answer, index) => (answer === undefined ? [index] : []));
  const facts = { ...status };
  if (status.wanted === 0) return { ok: false, reason: 'the primary process does not answer', facts };
  return missing.length === 0
    ? { ok: true, facts }
    : { ok: false, reason: `no answer of worker ${missing.join(', ')}`, facts };
};

/**
 * The checks of one worker as those of the group: each is ok when it is so in all, with the facts of each as
 * `worker_<index>`; `workers` is ok when all are there and answer.
 */
export const groupChecks = (own: Checks, ask: AskGroup, nowMs: () => number = () => performance.now()): Checks => {
  let asked: Promise<GroupAnswers> | undefined;
  let askedMs = Number.NEGATIVE_INFINITY;
  const find = (): Promise<GroupAnswers> => {
    if (asked === undefined || nowMs() - askedMs > FRESH_MS) {
      askedMs = nowMs();
      asked = ask({ kind: 'checks' });
    }
    return asked;
  };
  const merged = Object.keys(own).map((name): [string, Check] => [
    name,
    async () => mergeCheck(name, (await find()).answers),
  ]);
  return { workers: async () => checkWorkers(await find()), ...Object.fromEntries(merged) };
};

/**
 * The metrics of all workers, each series with its `worker`. They are not added up: a worker that starts again counts
 * from zero, and of a sum nobody could tell that from a counter that went back.
 */
export const groupMetrics = async (ask: AskGroup): Promise<string> => {
  const { status, answers } = await ask({ kind: 'metrics' });
  const joined = joinMetrics(answers.filter((answer): answer is MetricValues => Array.isArray(answer)));
  joined.setDefaultLabels({ service: 'pdp' });
  registerGauges(joined, {
    edict_workers: { help: 'Workers as set by pdp.workers.', read: () => status.wanted },
    edict_workers_running: { help: 'Workers that listen.', read: () => status.running },
    edict_worker_restarts: { help: 'Workers that ended and were started again.', read: () => status.restarts },
  });
  return await joined.metrics();
};

interface ShownSet {
  readonly tenant: unknown;
  readonly active: unknown;
  readonly failed: unknown;
}

/** What may differ without meaning anything, such as when something was seen, is left out. */
const shownSets = (answer: unknown): readonly ShownSet[] => {
  const sets = isObject(answer) && Array.isArray(answer['sets']) ? answer['sets'].filter(isObject) : [];
  return sets.map(({ tenant, active, failed }) => ({
    tenant,
    active: isObject(active) ? active['setDigest'] : undefined,
    failed: isObject(failed) ? failed['message'] : undefined,
  }));
};

/**
 * The answering worker's sets, and whether all workers have the same active and failed; when they have not, what each
 * has, null for one that does not answer.
 */
export const groupBundles = async (own: unknown, tenant: string, ask: AskGroup): Promise<unknown> => {
  const { answers } = await ask({ kind: 'bundles', tenant });
  const shown = answers.map((answer) => (answer === undefined ? null : shownSets(answer)));
  const texts = new Set(shown.map((sets) => JSON.stringify(sets)));
  const agree = texts.size === 1 && !texts.has('null');
  return { ...(isObject(own) ? own : {}), workers: agree ? { agree } : { agree, each: shown } };
};
