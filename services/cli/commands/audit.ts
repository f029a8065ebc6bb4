import { Command } from 'commander';
import { AppError } from '../../shared/contracts/errors.ts';
import { isObject } from '../../shared/contracts/json.ts';
import { SYSTEM_TENANT } from '../../shared/contracts/tenant.ts';
import { loadSettings, tenantNames } from '../../shared/settings/settings.ts';
import { hasFailed, type VerificationReport } from '../../audit/core/verify-report.ts';
import { auditArtifactCommand } from './audit-artifact.ts';
import { createAuditClient, type AuditConnection } from './audit-client.ts';
import { auditEmitterCommand } from './audit-emitter.ts';
import { auditExportCommand } from './audit-export.ts';
import { jsonLine, paintFor, print, printable, printableJson, printReport } from './audit-print.ts';
import { auditQueryCommand } from './audit-query.ts';
import { readRemembered, requireWritable, verifyTenant, writeRemembered } from './audit-verify.ts';

interface CommonOptions extends AuditConnection {
  readonly tenant?: string;
  readonly json?: boolean;
}

const text = (value: unknown): string => (typeof value === 'string' ? printable(value) : '');

const prettyJson = (value: unknown): string => printableJson(JSON.stringify(value ?? null, undefined, 2));

const show = async (id: string, options: CommonOptions): Promise<void> => {
  const client = createAuditClient(options);
  const shown = await client.get(
    `/v1/decisions/${encodeURIComponent(id)}`,
    options.tenant === undefined ? {} : { tenant: options.tenant },
  );
  if (options.json === true) return print(jsonLine(shown));
  const paint = paintFor(process.stdout, process.env);
  const checks = isObject(shown['checks']) ? shown['checks'] : {};
  const mark = (value: unknown): string =>
    value === true ? paint.green('fits') : value === false ? paint.red('DOES NOT FIT') : paint.yellow('not checked');
  print(
    [
      `${paint.bold('event')} ${prettyJson(shown['event'])}`,
      `${paint.bold('entry')} ${prettyJson(shown['entry'])}`,
      `log         ${text(shown['log'])}`,
      `leaf        ${text(shown['leaf'])}  ${mark(checks['leaf'])}`,
      `commitment  ${mark(checks['commitment'])}`,
      `proof       none: ${text(shown['not_proven'])}`,
      '',
    ].join('\n'),
  );
  if (checks['leaf'] === false || checks['commitment'] === false) process.exitCode = 1;
};

interface VerifyOptions extends CommonOptions {
  readonly allTenants?: boolean;
  readonly remember?: string;
}

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
  const paint = paintFor(process.stdout, process.env);
  const reports: VerificationReport[] = [];
  for (const tenant of tenants) {
    const found = await verifyTenant(client, tenant, remembered);
    reports.push(...found);
    if (options.json !== true) for (const report of found) print(printReport(report, paint));
  }
  if (options.json === true) print(jsonLine({ reports }));
  if (options.remember !== undefined) writeRemembered(options.remember, remembered, reports);
  if (reports.some(hasFailed)) process.exitCode = 1;
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
  audit.addCommand(
    common(new Command('show'))
      .description('one event, its entry and its hashes')
      .argument('<id>', 'decision id')
      .action(show),
  );
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
      .addHelpText(
        'after',
        '\nExit codes: 0 no verdict failed, 1 a verdict failed, 2 usage, or no answer from the audit service.\nEach verdict stands for itself; "not checked" is neither good nor bad and says why.\n',
      )
      .action(verify),
  );
  audit.addCommand(auditArtifactCommand(common));
  audit.addCommand(auditEmitterCommand());
  return audit;
};
