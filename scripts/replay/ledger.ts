import { setTimeout as sleep } from 'node:timers/promises';
import { Type, type Static, type TSchema } from 'typebox';
import { Compile, type Validator } from 'typebox/compile';
import type { VerificationReport } from '../../services/audit/core/verify-report.ts';
import { AppError } from '../../services/shared/contracts/errors.ts';
import { isObject } from '../../services/shared/contracts/json.ts';
import type { Answer, JsonClient } from './client.ts';
import type { AnsweredDecision } from './send.ts';

const PAGE = 500;
const VERIFY_LIMIT_MS = 600_000;
const ARRIVAL_LIMIT_MS = 120_000;
const POLL_MS = 200;

const Row = Type.Object({
  decision_id: Type.String(),
  seq: Type.String({ pattern: '^\\d+$' }),
  decision: Type.String(),
  event_time: Type.String(),
  ingest_time: Type.String(),
  payload: Type.String(),
});
/** A decision as the ledger's list shows it. */
export type LedgerDecision = Readonly<Static<typeof Row>>;

const pageCheck = Compile(
  Type.Object({
    as_of: Type.Object({ size: Type.String({ pattern: '^\\d+$' }) }),
    decisions: Type.Array(Row),
    next_cursor: Type.Union([Type.String(), Type.Null()]),
  }),
);

const emittersCheck = Compile(
  Type.Object({
    emitters: Type.Array(
      Type.Object({
        emitter: Type.String(),
        boots: Type.Array(
          Type.Object({
            boot: Type.String(),
            highest: Type.String(),
            complete_to: Type.String(),
            holes: Type.Array(Type.Unknown()),
            state: Type.String(),
          }),
        ),
      }),
    ),
  }),
);

const expectBody = <T extends TSchema>(what: string, { status, body }: Answer, check: Validator<{}, T>): Static<T> => {
  if (status !== 200 || !check.Check(body)) {
    const code = isObject(body) && typeof body['code'] === 'string' ? ` (${body['code']})` : '';
    throw new AppError('upstream_unavailable', `${what}: status ${status}${code}, or not the answer expected`);
  }
  return body;
};

export interface LedgerContent {
  /** Entries of every kind. */
  readonly size: number;
  /** Oldest first. */
  readonly decisions: readonly LedgerDecision[];
}

/** All decisions of the auditor's tenant (those from a time on), as of one size of the ledger. */
export const readDecisions = async (
  auditor: JsonClient,
  filter: { readonly from?: string } = {},
): Promise<LedgerContent> => {
  const decisions: LedgerDecision[] = [];
  let size = 0;
  for (let cursor: string | null = ''; cursor !== null;) {
    const parameters = new URLSearchParams({ limit: String(PAGE), ...filter, ...(cursor === '' ? {} : { cursor }) });
    const answer = await auditor.get(`/v1/decisions?${parameters.toString()}`);
    const page = expectBody('GET /v1/decisions', answer, pageCheck);
    decisions.push(...page.decisions);
    size = Number(page.as_of.size);
    cursor = page.next_cursor;
  }
  return { size, decisions: decisions.reverse() };
};

/** How far the ledger has one boot of one emitter. */
export interface LedgerStream {
  readonly emitter: string;
  readonly boot: string;
  readonly highest: string;
  readonly complete_to: string;
  readonly holes: readonly unknown[];
  readonly state: string;
}

export const readStreams = async (auditor: JsonClient): Promise<readonly LedgerStream[]> => {
  const { emitters } = expectBody('GET /v1/emitters', await auditor.get('/v1/emitters'), emittersCheck);
  return emitters.flatMap(({ emitter, boots }) => boots.map((boot) => ({ emitter, ...boot })));
};

interface Run {
  readonly id: string;
  readonly state: string;
  readonly reports?: readonly VerificationReport[];
  readonly error?: { readonly message: string };
}

const runIn = (body: unknown): Run | undefined => {
  const run = isObject(body) ? body['run'] : undefined;
  return isObject(run) && typeof run['id'] === 'string' ? (run as unknown as Run) : undefined;
};

/** Has the audit service verify the tenant's ledger, and waits for the reports of its logs, newest first. */
export const runVerification = async (auditor: JsonClient): Promise<readonly VerificationReport[]> => {
  const deadline = Date.now() + VERIFY_LIMIT_MS;
  let started = await auditor.post('/v1/verify', {});
  while (started.status === 503 && Date.now() < deadline) {
    await sleep(POLL_MS);
    started = await auditor.post('/v1/verify', {});
  }
  const run = runIn(started.body);
  if (started.status !== 202 || run === undefined)
    throw new AppError('upstream_unavailable', `POST /v1/verify: status ${started.status}`);
  while (Date.now() < deadline) {
    const now = runIn((await auditor.get('/v1/verify')).body);
    if (now?.id === run.id && now.state === 'done' && now.reports !== undefined) return now.reports;
    if (now?.id === run.id && now.state === 'failed')
      throw new AppError('upstream_unavailable', `the verification ended early: ${now.error?.message ?? ''}`);
    await sleep(POLL_MS);
  }
  throw new AppError('upstream_unavailable', 'the verification did not end');
};

/** What a report says is bad, one text each. */
export const failuresOf = (report: VerificationReport): readonly string[] =>
  Object.entries(report.verdicts).flatMap(([name, { status, failures, firstBad }]) => {
    if (status !== 'failed') return [];
    const first = firstBad === undefined ? '' : `, first: ${firstBad.what} at ${firstBad.seq ?? 'the log'}`;
    return [`${name}: ${failures} failures${first}`];
  });

/** Where answers and ledger differ: missing, doubled, other decision, out of the emitter's order. */
export const differences = (
  decisions: readonly LedgerDecision[],
  answered: readonly AnsweredDecision[],
): readonly string[] => {
  const problems: string[] = [];
  const expected = new Map(answered.map((answer) => [answer.decisionId, answer]));
  if (expected.size !== answered.length) problems.push(`${answered.length - expected.size} answers share an id`);
  const seen = new Set<string>();
  const last = new Map<string, bigint>();
  let doubled = 0;
  let other = 0;
  let unordered = 0;
  for (const { decision_id: id, decision } of decisions) {
    if (seen.has(id)) doubled += 1;
    seen.add(id);
    const answer = expected.get(id);
    if (answer === undefined) continue;
    if (answer.decision !== decision) other += 1;
    const stream = `${answer.emitter}/${answer.boot}/${answer.tenant}`;
    const sequence = BigInt(answer.sequence);
    if (sequence <= (last.get(stream) ?? 0n)) unordered += 1;
    last.set(stream, sequence);
  }
  const missing = [...expected.keys()].filter((id) => !seen.has(id)).length;
  if (missing > 0) problems.push(`${missing} of ${answered.length} answered decisions are not in the ledger`);
  if (doubled > 0) problems.push(`${doubled} decisions stand twice`);
  if (other > 0) problems.push(`${other} decisions are others than were answered`);
  if (unordered > 0) problems.push(`${unordered} decisions are out of their emitter's order`);
  return problems;
};

/** The last answer of each stream: as a rule it comes to the ledger after everything before it. */
const lastAnswers = (answered: readonly AnsweredDecision[]): readonly AnsweredDecision[] => {
  const last = new Map<string, AnsweredDecision>();
  for (const answer of answered) {
    const stream = `${answer.emitter}/${answer.boot}`;
    const before = last.get(stream);
    if (before === undefined || BigInt(before.sequence) < BigInt(answer.sequence)) last.set(stream, answer);
  }
  return [...last.values()];
};

const isThere = async (auditor: JsonClient, { decisionId }: AnsweredDecision): Promise<boolean> => {
  const { status } = await auditor.get(`/v1/decisions/${decisionId}`);
  if (status !== 200 && status !== 404) throw new AppError('upstream_unavailable', `GET /v1/decisions/…: ${status}`);
  return status === 200;
};

/** Waits until the ledger has everything that was answered, or `limitMs` are over; gives what it has then. */
export const waitForDecisions = async (
  auditor: JsonClient,
  answered: readonly AnsweredDecision[],
  limitMs: number = ARRIVAL_LIMIT_MS,
): Promise<LedgerContent> => {
  const deadline = Date.now() + limitMs;
  // Reading a whole ledger is dear, asking for one decision is not.
  for (const answer of lastAnswers(answered))
    while (!(await isThere(auditor, answer)) && Date.now() < deadline) await sleep(POLL_MS);
  for (;;) {
    const content = await readDecisions(auditor);
    const ids = new Set(content.decisions.map((row) => row.decision_id));
    if (answered.every(({ decisionId }) => ids.has(decisionId)) || Date.now() > deadline) return content;
    await sleep(POLL_MS);
  }
};

export interface LedgerComparison {
  readonly tenant: string;
  readonly decisions: number;
  readonly allow: number;
  readonly deny: number;
  readonly entries: number;
  readonly problems: readonly string[];
}

/** Waits until one tenant's answers are in its ledger, compares them, and verifies the ledger. */
export const compareWithLedger = async (
  auditor: JsonClient,
  tenant: string,
  answered: readonly AnsweredDecision[],
): Promise<LedgerComparison> => {
  const { size, decisions } = await waitForDecisions(auditor, answered);
  const reports = await runVerification(auditor);
  const count = (wanted: string): number => decisions.filter(({ decision }) => decision === wanted).length;
  return {
    tenant,
    decisions: decisions.length,
    allow: count('allow'),
    deny: count('deny'),
    entries: size,
    problems: [...differences(decisions, answered), ...reports.flatMap(failuresOf)],
  };
};
