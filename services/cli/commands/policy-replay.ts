import { readFile } from 'node:fs/promises';
import { Command, InvalidArgumentError, Option } from 'commander';
import { judgeReplay, readRecorded, type RecordedDecision, type Replayed } from '../../pdp/policy/replay.ts';
import { patchesBetween } from '../../pdp/core/pushed-data.ts';
import { loadPolicySet, type PolicySnapshot } from '../../pdp/policy/policy-set.ts';
import { DEFAULT_LIMITS, type ForkedEvaluator } from '../../pdp/policy/wasm-evaluator.ts';
import { AppError, errorMessage, isAppError } from '../../shared/contracts/errors.ts';
import { isObject } from '../../shared/contracts/json.ts';
import type { VerifierKey } from '../../shared/contracts/signatures.ts';
import { fuelRange } from '../../shared/settings/policy-limits.ts';
import { fetchArtifact } from './audit-artifacts.ts';
import { readVkeys } from './audit-keys.ts';
import { createAuditClient, type AuditClient, type AuditConnection } from './audit-client.ts';
import { printable, printableJson } from './audit-print.ts';
import { openShown, prove } from './audit-proof.ts';

interface ReplayOptions extends AuditConnection {
  readonly tenant?: string;
  readonly bundle?: readonly string[];
  readonly vkey?: readonly string[];
  readonly limit: number;
  readonly json?: boolean;
  readonly [filter: string]: unknown;
}

type NotReplayed = { readonly decision_id: string; readonly verdict: 'not_replayable'; readonly reason: string };
type Result = Replayed | NotReplayed;

const FILTERS = [
  ['from', 'time', 'events at or after this time (RFC 3339)'],
  ['to', 'time', 'events before this time (RFC 3339)'],
  ['subject', 'id', 'whose authority was used'],
  ['agent', 'id', 'the program that acted'],
  ['action', 'name', 'what was asked for'],
  ['resource', 'id', 'on what'],
  ['session', 'id', 'the session'],
  ['purpose', 'text', 'the purpose'],
] as const;

const MAX_DECISIONS = 10_000;
const PAGE = 500;
const DEFAULT_DECISIONS = 100;
/** Sets with their data that are kept for the next decision: neighbours in time share them. */
const MAX_KEPT = 4;
/** What a decision point had is not recorded; its data fitted into that. */
const MEMORY_MAX_BYTES = 2 ** 31 - 2 ** 16;
/** Enough to read no input, so that what reading takes is all that the limit has beside it. */
const LEAST_FUEL = 1;

const countOf = (text: string): number => {
  const value = Number(text);
  if (!/^\d+$/.test(text) || value < 1 || value > MAX_DECISIONS)
    throw new InvalidArgumentError(`a number from 1 to ${MAX_DECISIONS}`);
  return value;
};

/** Ids of the newest matching decisions. */
const listIds = async (client: AuditClient, options: ReplayOptions): Promise<readonly string[]> => {
  const parameters: Record<string, string> = {};
  for (const name of [...FILTERS.map(([filter]) => filter), 'decision', 'tenant']) {
    const value = options[name];
    if (typeof value === 'string') parameters[name] = value;
  }
  const ids: string[] = [];
  for (;;) {
    parameters['limit'] = String(Math.min(PAGE, options.limit - ids.length));
    const page = await client.get('/v1/decisions', parameters);
    const rows: readonly unknown[] = Array.isArray(page['decisions']) ? page['decisions'] : [];
    for (const row of rows) if (isObject(row) && typeof row['decision_id'] === 'string') ids.push(row['decision_id']);
    const cursor = page['next_cursor'];
    if (rows.length === 0 || typeof cursor !== 'string' || ids.length >= options.limit) return ids;
    parameters['cursor'] = cursor;
  }
};

/** The policy of recorded decisions, with the pushed data that each of them saw. */
interface Policies {
  /** Gives evaluations `fuel` units beyond reading their input. */
  readonly of: (decision: RecordedDecision, fuel: number) => Promise<ForkedEvaluator>;
}

interface Artifacts {
  readonly bundle: (digest: string) => Promise<Uint8Array>;
  readonly data: (digest: string) => Promise<Uint8Array>;
}

const createPolicies = (artifacts: Artifacts, candidate: readonly string[] | undefined): Policies => {
  const sets = new Map<string, Promise<PolicySnapshot>>();
  const documents = new Map<string, Promise<Readonly<Record<string, unknown>>>>();
  const evaluators = new Map<string, Promise<ForkedEvaluator>>();

  const kept = <T>(known: Map<string, Promise<T>>, key: string, make: () => Promise<T>): Promise<T> => {
    const found = known.get(key);
    if (found !== undefined) return found;
    for (const [oldest] of known) if (known.size >= MAX_KEPT) known.delete(oldest);
    const made = make();
    known.set(key, made);
    return made;
  };

  const load = async (archives: readonly { readonly path: string; readonly bytes: Uint8Array }[]) => {
    const files = archives.map(({ path, bytes }) => ({ source: path, path, bytes, signing: undefined }));
    const { snapshot } = await loadPolicySet(files, { limits: { memoryMaxBytes: MEMORY_MAX_BYTES } });
    return { ...snapshot, freshness: () => ({ state: 'fresh', untilMs: undefined }) as const };
  };

  const setOf = ({ bundles }: RecordedDecision): Promise<PolicySnapshot> =>
    candidate === undefined
      ? kept(sets, bundles.map(({ digest }) => digest).join(' '), async () => {
          const archives: { readonly path: string; readonly bytes: Uint8Array }[] = [];
          for (const { name, digest } of bundles)
            archives.push({ path: `${name} ${digest}`, bytes: await artifacts.bundle(digest) });
          return await load(archives);
        })
      : kept(sets, '', async () =>
          load(await Promise.all(candidate.map(async (path) => ({ path, bytes: await readFile(path) })))),
        );

  const documentOf = (digest: string): Promise<Readonly<Record<string, unknown>>> =>
    kept(documents, digest, async () => {
      const parsed: unknown = JSON.parse(Buffer.from(await artifacts.data(digest)).toString('utf8'));
      if (!isObject(parsed)) throw new AppError('upstream_unavailable', `${digest} is no state of pushed data`);
      return parsed;
    });

  return {
    of: (decision, fuel) => {
      const set = candidate === undefined ? decision.bundles.map(({ digest }) => digest).join(' ') : '';
      return kept(evaluators, `${set}|${decision.data?.digest ?? ''}|${fuel}`, async () => {
        const snapshot = await setOf(decision);
        const evaluator = snapshot.fork({ ...DEFAULT_LIMITS, memoryMaxBytes: MEMORY_MAX_BYTES, fuel });
        if (decision.data === undefined) return evaluator;
        const document = await documentOf(decision.data.digest);
        const whole = () => patchesBetween({}, document, snapshot.roots);
        evaluator.changeData(whole(), whole);
        return evaluator;
      });
    },
  };
};

/** What the evaluation had beside reading its input, where it ran out of that; else more than counts. */
const fuelFor = async (policies: Policies, decision: RecordedDecision, text: string): Promise<number> => {
  const { answer, fuelLimit, timeMs } = decision;
  if (answer.fault !== 'policy_fuel' || fuelLimit === undefined) return fuelRange.maximum;
  const { evaluate } = await policies.of(decision, LEAST_FUEL);
  return Math.max(LEAST_FUEL, fuelLimit - (evaluate(text, timeMs).fuelLimit - LEAST_FUEL));
};

interface Asked {
  readonly id: string;
  readonly shown: Readonly<Record<string, unknown>>;
  /** The auditor's own. */
  readonly keys: ReadonlyMap<string, VerifierKey> | undefined;
}

/** The decision in the bytes that the entry commits to; of what else the service says nothing counts. */
const decisionOf = ({ id, shown, keys }: Asked): RecordedDecision | string => {
  const opened = openShown(id, shown);
  if (typeof opened === 'string') return `${opened}: run edict audit verify`;
  const proven = keys === undefined ? undefined : prove(id, shown, keys);
  if (proven?.isGood === false) return `it is not proven: ${proven.line}`;
  if (opened.payload === undefined) return 'its event is gone from the ledger, or cannot be opened';
  let event: unknown;
  try {
    event = JSON.parse(Buffer.from(opened.payload).toString('utf8'));
  } catch {
    return 'its event is no JSON';
  }
  const decision = readRecorded(event);
  return typeof decision === 'string' || decision.id === id ? decision : 'its event is another';
};

const replayOne = async (
  { id, shown, keys }: Asked,
  policies: Policies,
  isCandidate: boolean,
): Promise<Replayed | string> => {
  const decision = decisionOf({ id, shown, keys });
  if (typeof decision === 'string') return decision;
  if (!isCandidate && decision.answer.fault === 'policy_fuel' && decision.bundles.length > 1)
    return 'which of its bundles ran out of fuel is not recorded';
  const text = JSON.stringify(decision.input);
  const fuel = isCandidate ? fuelRange.maximum : await fuelFor(policies, decision, text);
  const { evaluate } = await policies.of(decision, fuel);
  const replayed = judgeReplay(decision, evaluate(text, decision.timeMs, decision.drawn));
  return decision.answer.fault === 'policy_output_invalid' && replayed.now.fault === undefined
    ? 'its answer may have been larger than the tenant’s policy_result, which the event does not say'
    : replayed;
};

const codesOf = ({ decision, reasons, fault }: Replayed['now']): string => {
  const codes = (Array.isArray(reasons) ? reasons : []).flatMap((reason) =>
    isObject(reason) && typeof reason['code'] === 'string' ? [reason['code']] : [],
  );
  return [decision, ...codes, ...(typeof fault === 'string' ? [`fault ${fault}`] : [])].map(String).join(' ');
};

const lineOf = (result: Result): string => {
  const id = printable(result.decision_id);
  if (result.verdict === 'not_replayable') return `not replayable  ${id}  ${printable(result.reason)}`;
  const [was, now] = [printable(codesOf(result.recorded)), printable(codesOf(result.now))];
  switch (result.verdict) {
    case 'same':
      return `same            ${id}  ${was}`;
    case 'aged':
      return `aged            ${id}  ${was}; the policy itself: ${now}`;
    case 'changed':
      return `changed         ${id}  ${was} -> ${now}  [${result.differences.join(', ')}]`;
    default:
      return result satisfies never;
  }
};

const replay = async (asked: readonly string[], options: ReplayOptions): Promise<void> => {
  const client = createAuditClient(options);
  const { tenant, bundle } = options;
  const fetched = async (digest: string, isData: boolean): Promise<Uint8Array> => {
    const { bytes, isIntact, nodes } = await fetchArtifact(client, tenant, digest);
    if (isIntact && (nodes !== undefined) === isData) return bytes;
    throw new AppError(
      'not_found',
      `what came for ${digest} is not ${isData ? 'the pushed data' : 'the bundle'} of it`,
    );
  };
  const artifacts = {
    bundle: (digest: string) => fetched(digest, false),
    data: (digest: string) => fetched(digest, true),
  };
  const keys = options.vkey === undefined ? undefined : readVkeys(options.vkey);
  const policies = createPolicies(artifacts, bundle);
  const ids = asked.length > 0 ? asked : await listIds(client, options);
  const results: Result[] = [];
  for (const id of ids) {
    const found = await client.get(`/v1/decisions/${encodeURIComponent(id)}`, tenant === undefined ? {} : { tenant });
    let replayed: Replayed | string;
    try {
      replayed = await replayOne({ id, shown: found, keys }, policies, bundle !== undefined);
    } catch (cause) {
      // What decided it is not archived, or cannot be loaded here: the others may be.
      if (!isAppError(cause) || (cause.code !== 'not_found' && cause.code !== 'bundle_invalid')) throw cause;
      if (cause.code === 'bundle_invalid' && bundle !== undefined) throw cause;
      replayed = errorMessage(cause);
    }
    const result: Result =
      typeof replayed === 'string' ? { decision_id: id, verdict: 'not_replayable', reason: replayed } : replayed;
    results.push(result);
    const isTold = asked.length > 0 || result.verdict !== 'same';
    if (options.json !== true && isTold) process.stdout.write(`${lineOf(result)}\n`);
  }
  const count = (verdict: Result['verdict']): number => results.filter((result) => result.verdict === verdict).length;
  const counts = {
    same: count('same'),
    changed: count('changed'),
    aged: count('aged'),
    not_replayable: count('not_replayable'),
  };
  const passed = counts.changed === 0 && (counts.same > 0 || results.length === 0);
  if (options.json === true) process.stdout.write(`${printableJson(JSON.stringify({ passed, counts, results }))}\n`);
  else
    process.stdout.write(
      `${results.length} decisions: ${counts.same} the same, ${counts.changed} changed, ${counts.aged} denied for their age, ${counts.not_replayable} not replayable\n`,
    );
  if (!passed) process.exitCode = 1;
};

/** `edict policy replay`: recorded decisions are made again, from the ledger alone. */
export const policyReplayCommand = (): Command => {
  const command = new Command('replay')
    .description('make recorded decisions again, by the bundles and data that made them or by others, and compare')
    .argument('[decisions...]', 'decision ids (default: the newest that match the filters)')
    .option('--bundle <files...>', 'by these bundles instead: what would be decided otherwise?')
    .option('--vkey <files...>', 'verifier keys of the logs, as you hold them: what they do not prove is not replayed')
    .option('-t, --tenant <name>', 'the tenant; the credential’s own when left out')
    .option('--url <url>', 'address of the audit service (default: audit.listen of the settings)')
    .option('--key-file <file>', 'file with the API key of an auditor')
    .option('-c, --config <file>', 'settings file (default: the environment variable EDICT_CONFIG)')
    .option('--limit <n>', 'decisions at most', countOf, DEFAULT_DECISIONS)
    .addOption(new Option('--decision <decision>', 'allow or deny').choices(['allow', 'deny']))
    .option('--json', 'print one JSON document');
  for (const [name, value, description] of FILTERS) command.option(`--${name} <${value}>`, description);
  return command
    .addHelpText(
      'after',
      '\nExit codes: 0 all the same, 1 something changed or nothing could be replayed, 2 usage or environment.\n' +
        'Not compared: expires_at, what is masked, and the fuel, which --json has. "aged": an\n' +
        'allow of the policy was turned into a deny because bundles or data were too old; nothing else is known of it.\n',
    )
    .action(replay);
};
