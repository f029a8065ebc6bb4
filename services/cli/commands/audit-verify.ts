import { Command } from 'commander';
import { hex } from '../../shared/contracts/bytes.ts';
import { AppError } from '../../shared/contracts/errors.ts';
import type { VerifierKey } from '../../shared/contracts/signatures.ts';
import { SYSTEM_TENANT } from '../../shared/contracts/tenant.ts';
import { loadSettings, tenantNames } from '../../shared/settings/settings.ts';
import { timeMsOf } from '../../audit/core/query.ts';
import { ATTACKS, exitCodeOf, type AttackClass, type VerificationReport } from '../../audit/core/verify-report.ts';
import { NOT_ASKED, type WitnessedVerdict } from '../../audit/core/verify-witnessed.ts';
import { parseCheckpoint } from '../../shared/tlog/checkpoint.ts';
import type { Policy } from '../../shared/tlog/policy.ts';
import { parseNote } from '../../shared/tlog/signed-note.ts';
import { createAuditClient, type AuditClient, type AuditConnection } from './audit-client.ts';
import { openWithOwnKey, readVkeys } from './audit-keys.ts';
import { jsonLine, paintFor, print, printable, printReport, printWitnessed } from './audit-print.ts';
import type { SealedPlace } from '../../audit/core/verify-place.ts';
import {
  NO_MEMORY,
  readRemembered,
  rememberPlaces,
  requireWritable,
  writeRemembered,
  type Memory,
} from './audit-verify-memory.ts';
import { verifyFile } from './audit-verify-file.ts';
import { verifyPublicLog } from './audit-verify-public.ts';
import { askWitnessed, DEFAULT_MAX_AGE, maxAgeOf, readMetaPolicy } from './audit-witnessed.ts';
import { verifyTenant, type Between } from './audit-verify-service.ts';

interface VerifyOptions extends AuditConnection {
  readonly tenant?: string;
  readonly json?: boolean;
  readonly allTenants?: boolean;
  readonly remember?: string;
  readonly vkey?: readonly string[];
  readonly full?: boolean;
  readonly logUrl?: string;
  readonly from?: string;
  readonly to?: string;
  readonly file?: string;
  readonly policy?: string;
  readonly maxAge?: string;
}

/** Whether the log's own key, as the auditor holds it, signed what the report says; one line of it. */
const compareOwnKey = (
  { origin, root, size, checkpoint }: VerificationReport,
  keys: ReadonlyMap<string, VerifierKey>,
): { readonly isGood: boolean; readonly line: string; readonly attack?: AttackClass } => {
  const opened = openWithOwnKey(origin, checkpoint?.note, keys);
  if ('problem' in opened)
    return {
      isGood: false,
      line: opened.problem,
      // Without a key of the log, or without a note, nobody can have forged one.
      ...(keys.has(origin) && checkpoint?.note !== undefined ? { attack: 'checkpoint_forged' } : {}),
    };
  const signed = opened.checkpoint;
  // The report's root is that of the whole log, so only a checkpoint of its size can be compared with it.
  if (String(signed.size) === size && hex(signed.root) !== root)
    return {
      isGood: false,
      line: `the checkpoint of size ${size} has another root than the report`,
      attack: 'history_rewritten',
    };
  return { isGood: true, line: `signed up to entry ${signed.size - 1n}` };
};

/** Whether witnesses have seen the log of a report. */
const witnessedOf = async (
  client: AuditClient,
  { origin, tenant, checkpoint }: VerificationReport,
  policy: Policy | undefined,
  { maxAgeS, key }: { readonly maxAgeS: number; readonly key: VerifierKey | undefined },
): Promise<WitnessedVerdict> => {
  const newest = parseCheckpoint(parseNote(Buffer.from(checkpoint?.note ?? '', 'utf8'))?.text ?? '');
  if (policy !== undefined && newest === undefined)
    return { status: 'failed', note: 'not witnessed: the log has no good checkpoint' };
  if (newest === undefined) return NOT_ASKED;
  const seen = { origin, tenant, newest, ...(key === undefined ? {} : { key }) };
  return askWitnessed(client, seen, policy, maxAgeS);
};

/** `--from` and `--to`, both or neither. */
const betweenOf = ({ from, to }: VerifyOptions): { readonly between?: Between } => {
  if (from === undefined && to === undefined) return {};
  const [fromMs = Number.NaN, toMs = Number.NaN] = [from, to].map((text) => timeMsOf(text ?? ''));
  if (!(fromMs < toMs))
    throw new AppError('usage', '--from, --to: two RFC 3339 times such as 2026-01-01T00:00:00Z, the first earlier');
  return { between: { from: new Date(fromMs).toISOString(), to: new Date(toMs).toISOString() } };
};

const statusOf = ({ statement }: VerificationReport): string => statement?.status ?? 'nothing_missing';

interface Found {
  readonly reports: readonly VerificationReport[];
  /** Of each report's log, where a service was asked. */
  readonly witnessed?: readonly (WitnessedVerdict & { readonly origin: string })[];
}

/** Prints the reports, keeps what is to be remembered, and sets the exit code. */
const conclude = (
  options: VerifyOptions,
  { reports, witnessed }: Found,
  others: readonly AttackClass[],
  isAnswered: boolean,
): void => {
  const missing: readonly AttackClass[] = reports.some((report) => statusOf(report) === 'missing')
    ? ['emitter_gap']
    : [];
  const isProven = reports.every((report) => statusOf(report) !== 'not_proven');
  const exitCode = exitCodeOf(reports, [...others, ...missing]) || (isAnswered && isProven ? 0 : 1);
  if (options.json === true)
    print(jsonLine({ reports, ...(witnessed === undefined ? {} : { witnessed }), exit_code: exitCode }));
  if (options.remember !== undefined) writeRemembered(options.remember, reports, options.logUrl !== undefined);
  process.exitCode = exitCode;
};

const memoryOf = ({ remember }: VerifyOptions): Memory => {
  if (remember === undefined) return NO_MEMORY;
  requireWritable(remember);
  return readRemembered(remember);
};

const verifyPublic = async (options: VerifyOptions, logUrl: string): Promise<void> => {
  for (const name of ['allTenants', 'tenant', 'url', 'policy', 'maxAge', 'full'] as const)
    if (options[name] !== undefined)
      throw new AppError(
        'usage',
        '--log-url names the log, and all of it is read: no --tenant, --all-tenants, --url, --policy, --max-age or --full with it',
      );
  const { known } = memoryOf(options);
  const report = await verifyPublicLog(options, logUrl, { known, ...betweenOf(options) });
  if (report === undefined) {
    process.stderr.write('! the checkpoint of this log was not signed with your key: nothing else was looked at\n');
    return conclude(options, { reports: [] }, ['checkpoint_forged'], false);
  }
  if (options.json !== true) print(printReport(report, paintFor(process.stdout, process.env)));
  conclude(options, { reports: [report] }, [], true);
};

const verify = async (options: VerifyOptions): Promise<void> => {
  const { file } = options;
  if (file !== undefined) {
    const foreign = [
      'tenant',
      'allTenants',
      'remember',
      'from',
      'to',
      'url',
      'keyFile',
      'logUrl',
      'full',
      'policy',
      'maxAge',
    ] as const;
    for (const name of foreign)
      if (options[name] !== undefined) throw new AppError('usage', '--file: goes with --vkey and --json only');
    return verifyFile({ ...options, file });
  }
  if (options.logUrl !== undefined) return verifyPublic(options, options.logUrl);
  if (options.allTenants === true && options.tenant !== undefined)
    throw new AppError('usage', '--tenant or --all-tenants, not both');
  if (options.allTenants === true && options.keyFile !== undefined)
    throw new AppError(
      'usage',
      '--all-tenants: a key opens the ledger of its own tenant; verify with one key at a time',
    );
  const client = createAuditClient(options);
  const tenants =
    options.allTenants === true
      ? [SYSTEM_TENANT, ...tenantNames(loadSettings({ file: options.config }).settings)]
      : [options.tenant];
  const { known, places } = memoryOf(options);
  const keys = options.vkey === undefined ? undefined : readVkeys(options.vkey);
  const policy = options.policy === undefined ? undefined : readMetaPolicy(options.policy);
  const maxAgeS = maxAgeOf(options);
  const witnessed: (WitnessedVerdict & { readonly origin: string })[] = [];
  const paint = paintFor(process.stdout, process.env);
  const reports: VerificationReport[] = [];
  const others: AttackClass[] = [];
  /** Whether everything that was asked could be said. */
  let isAnswered = true;
  const asked = { known, places: options.full === true ? [] : places, ...betweenOf(options) };
  const keep = (found: readonly SealedPlace[]): void => {
    if (options.remember !== undefined && found.length > 0) rememberPlaces(options.remember, found);
  };
  for (const tenant of tenants) {
    const found = await verifyTenant(client, tenant, asked, keep);
    reports.push(...found);
    for (const [n, report] of found.entries()) {
      if (options.json !== true) print(printReport(report, paint));
      // A log that another continues is cosigned no more.
      const verdict = await witnessedOf(client, report, policy, {
        maxAgeS: n === 0 ? maxAgeS : Infinity,
        key: keys?.get(report.origin),
      });
      witnessed.push({ origin: report.origin, ...verdict });
      isAnswered &&= verdict.status !== 'failed';
      if (options.json !== true) print(printWitnessed(verdict, paint));
      if (keys === undefined) continue;
      const { isGood, line, attack } = compareOwnKey(report, keys);
      if (attack !== undefined) others.push(attack);
      isAnswered &&= isGood;
      const mark = isGood ? paint.green('ok') : paint.red('FAILED');
      if (options.json !== true) print(`  your key      ${mark}  ${printable(line)}\n`);
      else if (!isGood) process.stderr.write(`! ${printable(report.origin)}: ${printable(line)}\n`);
    }
  }
  conclude(options, { reports, witnessed }, others, isAnswered);
};

const EXIT_CODES = `
Exit codes: 0 no verdict failed, 2 usage, or no answer from the audit service. When verdicts failed: the code of the class
of what was found, 1 when there are several:

${Object.entries(ATTACKS)
  .map(([name, code]) => `  ${code}  ${name.replaceAll('_', ' ')}`)
  .join('\n')}

Each verdict stands for itself; "not checked" is neither good nor bad and says why.
`;

/** `common`: the options that all commands of the group have. */
export const auditVerifyCommand = (common: (command: Command) => Command): Command =>
  common(new Command('verify'))
    .description('read the whole ledger back and check it')
    .option(
      '--all-tenants',
      'every tenant of the settings, and the system tenant; without callers only: a key opens one tenant',
    )
    .option(
      '--remember <file>',
      'go on where this file says that the last verification was, compare with what it knows, and keep both; keep it elsewhere',
    )
    .option('--full', 'with --remember: read everything again, from the first entry')
    .option(
      '--vkey <file...>',
      'verifier keys of the logs, as you hold them: the checkpoints must be signed with them, whatever the ledger says',
    )
    .option(
      '--policy <file>',
      'C2SP tlog-policy: the meta log’s key, witnesses, quorum; enough of them must have seen the newest checkpoint',
    )
    .option('--max-age <duration>', `with --policy: how old their cosignatures may be (default: ${DEFAULT_MAX_AGE})`)
    .option(
      '--log-url <url>',
      'verify one log from its public tiles alone, with the one key in --vkey; payloads and tables are not checked then',
    )
    .option('--from <time>', 'with --to: say whether anything is missing between two times of events (RFC 3339)')
    .option('--to <time>', 'the end of that time, itself not in it')
    .option('--file <file>', 'an evidence bundle (`export --format bundle`) in place of a service')
    .addHelpText('after', EXIT_CODES)
    .action(verify);
