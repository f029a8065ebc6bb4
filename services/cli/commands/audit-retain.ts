import { setTimeout as sleep } from 'node:timers/promises';
import { Command } from 'commander';
import { AppError } from '../../shared/contracts/errors.ts';
import { isObject } from '../../shared/contracts/json.ts';
import { SYSTEM_TENANT } from '../../shared/contracts/tenant.ts';
import { createAuditClient, type AuditConnection } from './audit-client.ts';
import { jsonLine, paintFor, print, printable, table } from './audit-print.ts';

interface RetainOptions extends AuditConnection {
  readonly json?: boolean;
  readonly dryRun?: boolean;
  readonly wait?: string;
}

type Row = Readonly<Record<string, unknown>>;
const POLL_MS = 1_000;
const HEADER = ['log', 'full segments', 'older than the period', 'named', 'dropped', 'waits for'];
const rowsOf = (value: unknown): readonly Row[] => (Array.isArray(value) ? value.filter(isObject) : []);
const text = (value: unknown): string =>
  typeof value === 'string' ? printable(value) : typeof value === 'number' ? String(value) : '';

const isOpen = (answer: Row): boolean => rowsOf(answer['tenants']).some(({ waits_for: waits }) => waits !== null);

const show = (answer: Row, options: RetainOptions): void => {
  if (options.json === true) return print(jsonLine(answer));
  const days = answer['period_days'];
  print(typeof days === 'number' ? `payloads are kept for ${days} days\n` : 'payloads are kept for ever\n');
  const paint = paintFor(process.stdout, process.env);
  const rows = rowsOf(answer['tenants']).flatMap((tenant) =>
    rowsOf(tenant['logs']).map((log) => [
      ...['log', 'segments', 'due', 'named', 'dropped'].map((name) => text(log[name])),
      Number(log['named']) > Number(log['dropped']) ? text(tenant['waits_for']) : '',
    ]),
  );
  return print(table(HEADER, rows, (_column, padded, row) => (row < 0 ? paint.bold(padded) : padded), 80));
};

const retain = async (options: RetainOptions): Promise<void> => {
  const seconds = options.wait === undefined ? 0 : Number(options.wait);
  if (!Number.isInteger(seconds) || seconds < 0) throw new AppError('usage', '--wait: is no number of seconds');
  const client = createAuditClient(options);
  const tenant = { tenant: SYSTEM_TENANT };
  let answer =
    options.dryRun === true
      ? await client.get('/v1/retention', tenant)
      : await client.post('/v1/retention', tenant, {});
  for (const deadline = Date.now() + seconds * 1_000; isOpen(answer) && Date.now() < deadline;) {
    await sleep(POLL_MS);
    answer = await client.get('/v1/retention', tenant);
  }
  show(answer, options);
  if (options.wait !== undefined && isOpen(answer)) process.exitCode = 1;
};

export const auditRetainCommand = (): Command =>
  new Command('retain')
    .description('drop payloads that are older than audit.retention; headers and proofs stay')
    .option('--dry-run', 'only say what is older, and how far it is')
    .option('--wait <seconds>', 'wait until the signer has signed the retention entry and payloads are dropped')
    .option('--url <url>', 'address of the audit service (default: audit.listen of the settings)')
    .option('--key-file <file>', `file with the API key of an operator of the tenant ${SYSTEM_TENANT}`)
    .option('-c, --config <file>', 'settings file (default: the environment variable EDICT_CONFIG)')
    .option('--json', 'one JSON document')
    .addHelpText(
      'after',
      '\nPayloads go in whole segments of 65,536 entries, the oldest first, by a retention entry that a checkpoint covers.\nRun it from time to time; run again it goes on. Exit codes: 0 done or begun, 1 --wait was too short, 2 usage,\nno period, or no answer.\n',
    )
    .action(retain);
