import { Command } from 'commander';
import { isObject } from '../../shared/contracts/json.ts';
import { createAuditClient, type AuditConnection } from './audit-client.ts';
import { readVkeys } from './audit-keys.ts';
import { paintFor, printable, printableJson } from './audit-print.ts';
import { prove } from './audit-proof.ts';
import { writeProofFiles } from './audit-proof-files.ts';

interface ShowOptions extends AuditConnection {
  readonly tenant?: string;
  readonly json?: boolean;
  readonly vkey?: readonly string[];
  readonly proof?: string;
  readonly event?: string;
}

const text = (value: unknown): string => (typeof value === 'string' ? value : '');
const prettyJson = (value: unknown): string => printableJson(JSON.stringify(value ?? null, undefined, 2));

const show = async (id: string, options: ShowOptions): Promise<void> => {
  const keys = options.vkey === undefined ? undefined : readVkeys(options.vkey);
  const client = createAuditClient(options);
  const shown = await client.get(
    `/v1/decisions/${encodeURIComponent(id)}`,
    options.tenant === undefined ? {} : { tenant: options.tenant },
  );
  const written = await writeProofFiles(id, shown, options);
  const proven = keys === undefined ? undefined : prove(id, shown, keys);
  const checks = isObject(shown['checks']) ? shown['checks'] : {};
  for (const warning of written.warnings) process.stderr.write(`! ${printable(warning)}\n`);
  if (!written.isWhole) process.exitCode = 1;
  if (checks['leaf'] === false || checks['commitment'] === false || proven?.isGood === false) process.exitCode = 1;
  if (options.json === true) {
    process.stdout.write(`${printableJson(JSON.stringify(shown))}\n`);
    if (proven?.isGood === false) process.stderr.write(`! not proven: ${printable(proven.line)}\n`);
    return;
  }
  const paint = paintFor(process.stdout, process.env);
  const mark = (value: unknown): string =>
    value === true ? paint.green('fits') : value === false ? paint.red('DOES NOT FIT') : paint.yellow('not checked');
  const proofText = (): string => {
    if (proven !== undefined)
      return `${proven.isGood ? paint.green('good') : paint.red('NONE')}  ${printable(proven.line)}`;
    const { proof } = shown;
    if (!isObject(proof)) return `none: ${printable(text(shown['not_proven']))}`;
    return `${paint.yellow('not checked')}  in a tree of ${printable(text(proof['tree_size']))}; --vkey has it checked`;
  };
  process.stdout.write(
    [
      `${paint.bold('event')} ${prettyJson(shown['event'])}`,
      `${paint.bold('entry')} ${prettyJson(shown['entry'])}`,
      `log         ${printable(text(shown['log']))}`,
      `leaf        ${printable(text(shown['leaf']))}  ${mark(checks['leaf'])}`,
      `commitment  ${mark(checks['commitment'])}`,
      `proof       ${proofText()}`,
      ...written.files.map((file) => `written     ${printable(file)}`),
      '',
    ].join('\n'),
  );
};

/** `common`: the options that all commands of the group have. */
export const auditShowCommand = (common: (command: Command) => Command): Command =>
  common(new Command('show'))
    .description('one event, its entry, its hashes and its proof')
    .argument('<id>', 'decision id')
    .option('--vkey <file...>', 'verifier keys of the logs, as you hold them: the proof is checked with nothing else')
    .option(
      '--proof <file>',
      'write its proof there (C2SP tlog-proof), and that of the meta log to FILE.meta.tlog-proof',
    )
    .option('--event <file>', 'write the bytes of the event there, as they were received')
    .addHelpText(
      'after',
      '\nedict audit verify-proof checks the files that --proof and --event write, without asking anybody.\n' +
        '\nExit codes: 0 what was checked fits, 1 a hash does not fit, --vkey proves nothing or there is nothing to write,\n' +
        '2 usage or no answer.\n',
    )
    .action(show);
