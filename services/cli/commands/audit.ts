import { Command, Option } from 'commander';
import { hex } from '../../shared/contracts/bytes.ts';
import { AppError } from '../../shared/contracts/errors.ts';
import { isObject } from '../../shared/contracts/json.ts';
import type { VerifierKey } from '../../shared/contracts/signatures.ts';
import { SYSTEM_TENANT } from '../../shared/contracts/tenant.ts';
import { loadSettings, tenantNames } from '../../shared/settings/settings.ts';
import { hasFailed, type VerificationReport } from '../../audit/core/verify-report.ts';
import { isOutputGone } from '../output.ts';
import { auditArtifactCommand } from './audit-artifact.ts';
import { auditCheckpointCommand } from './audit-checkpoint.ts';
import { createAuditClient, type AuditConnection } from './audit-client.ts';
import { auditEmitterCommand } from './audit-emitter.ts';
import { paintFor, printable, printableJson, printReport, table } from './audit-print.ts';
import { openWithOwnKey, readVkeys } from './audit-keys.ts';
import { auditShowCommand } from './audit-show.ts';
import { readRemembered, requireWritable, verifyTenant, writeRemembered } from './audit-verify.ts';

interface CommonOptions extends AuditConnection {
  readonly tenant?: string;
  readonly json?: boolean;
}

const FILTERS = [
  ['from', 'time', 'events at or after this time (RFC 3339)'],
  ['to', 'time', 'events before this time (RFC 3339)'],
  ['subject', 'id', 'whose authority was used'],
  ['subject-type', 'type', 'type of the subject (default: user)'],
  ['agent', 'id', 'the program that acted'],
  ['action', 'name', 'what was asked for'],
  ['resource', 'id', 'on what'],
  ['reason', 'code', 'a reason code'],
  ['session', 'id', 'the session'],
  ['purpose', 'text', 'the purpose'],
  ['request-id', 'id', 'the X-Request-ID of the request'],
] as const;

type Row = Readonly<Record<string, unknown>>;

const text = (value: unknown): string => (typeof value === 'string' ? printable(value) : '');

const who = (row: Row): string => {
  const { subject } = row;
  if (!isObject(subject)) return `(${text(row['payload'])})`;
  const name = text(subject['id']);
  return subject['type'] === 'user' ? name : `${text(subject['type'])}:${name}`;
};

const cellsOf = (row: Row): readonly string[] => {
  const resource = isObject(row['resource']) ? row['resource'] : {};
  const reasons: readonly unknown[] = Array.isArray(row['reasons']) ? row['reasons'] : [];
  const mark = Array.isArray(row['search_mismatch']) ? '!' : '';
  return [
    text(row['event_time']),
    who(row),
    text(row['agent']),
    text(row['action']),
    text(resource['id']),
    `${text(row['decision'])}${mark}`,
    reasons.map((reason) => (isObject(reason) ? text(reason['code']) : '')).join(' '),
    text(row['decision_id']),
  ];
};

const HEADER = ['when', 'who', 'agent', 'action', 'resource', 'decision', 'reason', 'id'];
const DECISION_COLUMN = 5;

/** One document a line. */
const jsonLine = (value: unknown): string => `${printableJson(JSON.stringify(value))}\n`;

const print = (value: string): void => {
  process.stdout.write(value);
};

interface QueryOptions extends CommonOptions {
  readonly ndjson?: boolean;
  readonly all?: boolean;
  readonly limit?: string;
  readonly [filter: string]: unknown;
}

const camel = (name: string): string => name.replaceAll(/-(\w)/g, (_match, letter: string) => letter.toUpperCase());

const query = async (options: QueryOptions): Promise<void> => {
  if (options.json === true && options.ndjson === true) throw new AppError('usage', '--json or --ndjson, not both');
  const client = createAuditClient(options);
  const parameters: Record<string, string> = {};
  for (const name of [...FILTERS.map(([filter]) => filter), 'decision', 'limit', 'tenant']) {
    const value = options[camel(name)];
    if (typeof value === 'string') parameters[name.replaceAll('-', '_')] = value;
  }
  if (options.all === true) parameters['limit'] ??= '500';
  const paint = paintFor(process.stdout, process.env);
  const collected: unknown[] = [];
  let first: Row | undefined;
  for (;;) {
    const page = await client.get('/v1/decisions', parameters);
    const rows: readonly unknown[] = Array.isArray(page['decisions']) ? page['decisions'] : [];
    const cursor = page['next_cursor'];
    const isLast = options.all !== true || typeof cursor !== 'string';
    if (options.ndjson === true) for (const row of rows) print(jsonLine(row));
    else if (options.json === true) collected.push(...rows);
    else {
      const shown = rows.filter(isObject);
      if (shown.length > 0 || first === undefined) {
        const lines = table(HEADER, shown.map(cellsOf), (column, padded, row) => {
          if (row < 0) return paint.bold(padded);
          if (column !== DECISION_COLUMN) return padded;
          return padded.startsWith('allow') ? paint.green(padded) : paint.red(padded);
        });
        // Pages follow each other without a second head.
        print(first === undefined ? lines : lines.slice(lines.indexOf('\n') + 1));
      }
      if (shown.some((row) => Array.isArray(row['search_mismatch'])))
        process.stderr.write('! the search table says otherwise than the event: run edict audit verify\n');
      if (shown.length === 0 && first === undefined) process.stderr.write('no decision matches\n');
      if (isLast && typeof cursor === 'string') process.stderr.write('there are more: --limit up to 500, or --all\n');
    }
    first ??= page;
    if (isLast) {
      if (options.json === true)
        print(jsonLine({ ...first, decisions: collected, next_cursor: typeof cursor === 'string' ? cursor : null }));
      return;
    }
    if (isOutputGone()) return;
    parameters['cursor'] = cursor;
  }
};

interface VerifyOptions extends CommonOptions {
  readonly allTenants?: boolean;
  readonly remember?: string;
  readonly vkey?: readonly string[];
}

/** Whether the log's own key, as the auditor holds it, signed what the report says; one line of it. */
const compareOwnKey = (
  { origin, root, size, checkpoint }: VerificationReport,
  keys: ReadonlyMap<string, VerifierKey>,
): { readonly isGood: boolean; readonly line: string } => {
  const opened = openWithOwnKey(origin, checkpoint?.note, keys);
  if ('problem' in opened) return { isGood: false, line: opened.problem };
  const signed = opened.checkpoint;
  // The report's root is that of the whole log, so only a checkpoint of its size can be compared with it.
  if (String(signed.size) === size && hex(signed.root) !== root)
    return { isGood: false, line: `the checkpoint of size ${size} has another root than the report` };
  return { isGood: true, line: `signed up to entry ${signed.size - 1n}` };
};

const verify = async (options: VerifyOptions): Promise<void> => {
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
  const remembered = options.remember === undefined ? [] : readRemembered(options.remember);
  if (options.remember !== undefined) requireWritable(options.remember);
  const keys = options.vkey === undefined ? undefined : readVkeys(options.vkey);
  const paint = paintFor(process.stdout, process.env);
  const reports: VerificationReport[] = [];
  let isSigned = true;
  for (const tenant of tenants) {
    const found = await verifyTenant(client, tenant, remembered);
    reports.push(...found);
    for (const report of found) {
      if (options.json !== true) print(printReport(report, paint));
      if (keys === undefined) continue;
      const { isGood, line } = compareOwnKey(report, keys);
      isSigned &&= isGood;
      const mark = isGood ? paint.green('ok') : paint.red('FAILED');
      if (options.json !== true) print(`  your key      ${mark}  ${printable(line)}\n`);
      else if (!isGood) process.stderr.write(`! ${printable(report.origin)}: ${printable(line)}\n`);
    }
  }
  if (options.json === true) print(jsonLine({ reports }));
  if (options.remember !== undefined) writeRemembered(options.remember, remembered, reports);
  if (reports.some(hasFailed) || !isSigned) process.exitCode = 1;
};

const common = (command: Command): Command =>
  command
    .option('-t, --tenant <name>', 'the tenant; the credential’s own when left out')
    .option('--url <url>', 'address of the audit service (default: audit.listen of the settings)')
    .option('--key-file <file>', 'file with the API key of an auditor')
    .option('-c, --config <file>', 'settings file (default: the environment variable EDICT_CONFIG)')
    .option('--json', 'one JSON document');

export const auditCommand = (): Command => {
  const audit = new Command('audit').description('query and verify the decision ledger');
  const queries = common(new Command('query'))
    .description('list decisions, newest first')
    .option('--ndjson', 'one JSON document a decision and line')
    .option('--all', 'every match, page by page')
    .option('--limit <n>', 'decisions on one page, 1 to 500')
    .addOption(new Option('--decision <decision>', 'allow or deny').choices(['allow', 'deny']));
  for (const [name, value, description] of FILTERS) queries.option(`--${name} <${value}>`, description);
  audit.addCommand(queries.action(query));
  audit.addCommand(auditShowCommand(common));
  audit.addCommand(
    common(new Command('verify'))
      .description('read the whole ledger back and check it')
      .option(
        '--all-tenants',
        'every tenant of the settings, and the system tenant; without callers only: a key opens one tenant',
      )
      .option(
        '--remember <file>',
        'compare with the sizes and leaves in this file, and keep those of logs that passed; keep it elsewhere',
      )
      .option(
        '--vkey <file...>',
        'verifier keys of the logs, as you hold them: the checkpoints must be signed with them, whatever the ledger says',
      )
      .addHelpText(
        'after',
        '\nExit codes: 0 no verdict failed, 1 a verdict failed, 2 usage, or no answer from the audit service.\nEach verdict stands for itself; "not checked" is neither good nor bad and says why.\n',
      )
      .action(verify),
  );
  audit.addCommand(auditCheckpointCommand(common));
  audit.addCommand(auditArtifactCommand(common));
  audit.addCommand(auditEmitterCommand());
  return audit;
};
