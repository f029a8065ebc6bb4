import { Command } from 'commander';
import { hex } from '../../shared/contracts/bytes.ts';
import { AppError } from '../../shared/contracts/errors.ts';
import type { VerifierKey } from '../../shared/contracts/signatures.ts';
import { SYSTEM_TENANT } from '../../shared/contracts/tenant.ts';
import { loadSettings, tenantNames } from '../../shared/settings/settings.ts';
import { hasFailed, type VerificationReport } from '../../audit/core/verify-report.ts';
import { auditArtifactCommand } from './audit-artifact.ts';
import { auditCheckpointCommand } from './audit-checkpoint.ts';
import { createAuditClient, type AuditConnection } from './audit-client.ts';
import { auditDrillCommand } from './audit-drill.ts';
import { auditEmitterCommand } from './audit-emitter.ts';
import { auditExportCommand } from './audit-export.ts';
import { openWithOwnKey, readVkeys } from './audit-keys.ts';
import { jsonLine, paintFor, print, printable, printReport } from './audit-print.ts';
import { auditQueryCommand } from './audit-query.ts';
import { auditShowCommand } from './audit-show.ts';
import { readRemembered, requireWritable, verifyTenant, writeRemembered } from './audit-verify.ts';

interface CommonOptions extends AuditConnection {
  readonly tenant?: string;
  readonly json?: boolean;
}

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
  audit.addCommand(auditQueryCommand(common));
  audit.addCommand(auditExportCommand(common));
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
  audit.addCommand(auditDrillCommand());
  audit.addCommand(auditEmitterCommand());
  return audit;
};
