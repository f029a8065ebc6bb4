import { Command } from 'commander';
import { AppError } from '../../shared/contracts/errors.ts';
import { isObject } from '../../shared/contracts/json.ts';
import { SYSTEM_TENANT } from '../../shared/contracts/tenant.ts';
import { createAuditClient, type AuditConnection } from './audit-client.ts';
import { paintFor, printable, table } from './audit-print.ts';

interface EmitterOptions extends AuditConnection {
  readonly tenant?: string;
  readonly json?: boolean;
}

const HEADER = ['emitter', 'boot', 'state', 'complete to', 'highest', 'missing', 'last event'];
const STATE_COLUMN = 2;
/** Heartbeats come every 60 s to a tenant and every 10 s to the system tenant; two may be late. */
const SILENT_MS = 150_000;
const SILENT_SYSTEM_MS = 35_000;

type Row = Readonly<Record<string, unknown>>;

const text = (value: unknown): string => (typeof value === 'string' ? printable(value) : '');
const rowsOf = (value: unknown): readonly Row[] => (Array.isArray(value) ? value.filter(isObject) : []);

/** An active stream that is not heard of any more is silent: its emitter may be gone. */
export const shownState = (boot: Row, isNewest: boolean, tenant: unknown, nowMs: number): string => {
  const state = text(boot['state']);
  if (state !== 'active') return state;
  if (!isNewest) return 'ended';
  const heardMs = Date.parse(text(boot['last_ingest']));
  const limitMs = tenant === SYSTEM_TENANT ? SILENT_SYSTEM_MS : SILENT_MS;
  return nowMs - heardMs > limitMs ? 'SILENT' : state;
};

const bootOrder = (row: Row): bigint => (/^\d{1,20}$/.test(text(row['boot'])) ? BigInt(text(row['boot'])) : 0n);

const cellsOf = (emitter: Row, tenant: unknown, nowMs: number): readonly (readonly string[])[] => {
  const boots = rowsOf(emitter['boots']).toSorted((a, b) => (bootOrder(a) < bootOrder(b) ? 1 : -1));
  const mark = emitter['attested'] === true ? '' : ' (unattested)';
  return boots.map((boot, index) => [
    `${text(emitter['emitter'])}${mark}`,
    text(boot['boot']),
    emitter['retired'] === true ? 'retired' : shownState(boot, index === 0, tenant, nowMs),
    text(boot['complete_to']),
    text(boot['highest']),
    String(rowsOf(boot['holes']).length),
    text(boot['last_event']),
  ]);
};

const list = async (options: EmitterOptions): Promise<void> => {
  const answer = await createAuditClient(options).get(
    '/v1/emitters',
    options.tenant === undefined ? {} : { tenant: options.tenant },
  );
  if (options.json === true) return void process.stdout.write(`${JSON.stringify(answer)}\n`);
  const paint = paintFor(process.stdout, process.env);
  const rows = rowsOf(answer['emitters']).flatMap((emitter) => cellsOf(emitter, answer['tenant'], Date.now()));
  process.stdout.write(
    table(HEADER, rows, (column, padded, row) => {
      if (row < 0) return paint.bold(padded);
      return column === STATE_COLUMN && padded.startsWith('SILENT') ? paint.red(padded) : padded;
    }),
  );
  return undefined;
};

const retire = async (emitter: string, options: EmitterOptions): Promise<void> => {
  if (!/^[0-9a-f]{32}$/.test(emitter)) throw new AppError('usage', 'an emitter id has 32 hex digits in lower case');
  const answer = await createAuditClient(options).post(`/v1/emitters/${emitter}/retire`, { tenant: SYSTEM_TENANT }, {});
  if (options.json === true) return void process.stdout.write(`${JSON.stringify(answer)}\n`);
  const retired = isObject(answer['retired']) ? answer['retired'] : {};
  const tenants = Array.isArray(retired['tenants']) ? retired['tenants'].map(text).join(', ') : '';
  process.stdout.write(`emitter ${emitter} is retired; entries were written for ${tenants}\n`);
  return undefined;
};

const connection = (command: Command): Command =>
  command
    .option('--url <url>', 'address of the audit service (default: audit.listen of the settings)')
    .option('--key-file <file>', 'file with the API key of an operator')
    .option('-c, --config <file>', 'settings file (default: the environment variable EDICT_CONFIG)')
    .option('--json', 'one JSON document');

export const auditEmitterCommand = (): Command => {
  const emitter = new Command('emitter').description('what the ledger has of each emitter');
  emitter.addCommand(
    connection(new Command('list'))
      .description('emitters, their boots, how far they are complete, what is missing')
      .option('-t, --tenant <name>', 'the tenant; the credential’s own when left out')
      .action(list),
  );
  emitter.addCommand(
    connection(new Command('retire'))
      .description('close an emitter that never comes back, by an entry in every ledger that heard of it')
      .argument('<id>', 'emitter id, 32 hex digits')
      .action(retire),
  );
  return emitter;
};
