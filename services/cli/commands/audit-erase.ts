import { Command } from 'commander';
import { AppError } from '../../shared/contracts/errors.ts';
import { isObject } from '../../shared/contracts/json.ts';
import { createAuditClient, type AuditConnection } from './audit-client.ts';
import { jsonLine, paintFor, print, printable, table } from './audit-print.ts';

interface EraseOptions extends AuditConnection {
  readonly tenant?: string;
  readonly json?: boolean;
  readonly as?: string;
}

interface RequestOptions extends EraseOptions {
  readonly subjectType: string;
  readonly subject?: string;
  readonly issuer?: string;
  readonly decision?: readonly string[];
  readonly seq?: readonly string[];
  readonly reference: string;
  readonly legalBasis: string;
  readonly copy?: readonly string[];
}

type Row = Readonly<Record<string, unknown>>;
const text = (value: unknown): string => (typeof value === 'string' ? printable(value) : '');
const rowsOf = (value: unknown): readonly Row[] => (Array.isArray(value) ? value.filter(isObject) : []);
const tenantOf = ({ tenant }: EraseOptions): Readonly<Record<string, string>> =>
  tenant === undefined ? {} : { tenant };
const asOf = ({ as }: EraseOptions): Row => (as === undefined ? {} : { as });

const whom = (erasure: Row): string => {
  const { subject, entries } = erasure;
  if (isObject(subject))
    return `${text(subject['type'])} ${text(subject['id'])}${subject['issuer'] === '' ? '' : ` of ${text(subject['issuer'])}`}`;
  return erasure['scope'] === 'entries' ? `${rowsOf(entries).length} entries` : '(removed)';
};

const HEADER = ['id', 'state', 'whom', 'approved by', 'requested', 'waits for'];
const cellsOf = (erasure: Row): readonly string[] => [
  text(erasure['id']),
  text(erasure['state']),
  whom(erasure),
  rowsOf(erasure['approvals'])
    .map(({ by }) => text(by))
    .join(', '),
  text(erasure['requested_at']),
  text(erasure['waits_for']),
];

const show = (options: EraseOptions, answer: Row): void => {
  if (options.json === true) return print(jsonLine(answer));
  const erasure = isObject(answer['erasure']) ? answer['erasure'] : {};
  const approvals = rowsOf(erasure['approvals']).map(({ by, at }) => `${text(by)}, ${text(at)}`);
  const copies = Array.isArray(erasure['copies']) ? erasure['copies'].map(text) : [];
  const lines: readonly (readonly [string, string])[] = [
    ['erasure', text(erasure['id'])],
    ['state', text(erasure['state'])],
    ['waits for', text(erasure['waits_for'])],
    ['whom', whom(erasure)],
    ['legal basis', text(erasure['legal_basis'])],
    ['request', `${text(erasure['request'])} (digest of its reference)`],
    ['requested', `${text(erasure['requested_by'])}, ${text(erasure['requested_at'])}`],
    ...approvals.map((line) => ['approved', line] as const),
    ['expires', erasure['state'] === 'pending' ? text(erasure['expires_at']) : ''],
    ['entry', erasure['entry'] === null ? '' : `${text(erasure['entry'])} of ${text(erasure['log'])}`],
    ['payloads', text(erasure['erased'])],
    ['ended', text(erasure['ended_at'])],
    ...copies.map((line) => ['also in', line] as const),
  ];
  return print(lines.flatMap(([name, value]) => (value === '' ? [] : [`${name.padEnd(12)}${value}\n`])).join(''));
};

const request = async (options: RequestOptions): Promise<void> => {
  const { subject, issuer, subjectType, decision = [], seq = [], reference, legalBasis, copy } = options;
  if ((subject === undefined) === (decision.length + seq.length === 0))
    throw new AppError('usage', 'either --subject, or --decision and --seq for single entries');
  const body = {
    ...(subject === undefined
      ? { decisions: decision, seqs: seq }
      : { subject: { issuer: issuer ?? '', type: subjectType, id: subject } }),
    reference,
    legal_basis: legalBasis,
    ...(copy === undefined ? {} : { copies: copy }),
    ...asOf(options),
  };
  show(options, await createAuditClient(options).post('/v1/erasures', tenantOf(options), body));
};

const approve = async (id: string, options: EraseOptions): Promise<void> =>
  show(
    options,
    await createAuditClient(options).post(
      `/v1/erasures/${encodeURIComponent(id)}/approve`,
      tenantOf(options),
      asOf(options),
    ),
  );

const withdraw = async (id: string, options: EraseOptions): Promise<void> =>
  show(
    options,
    await createAuditClient(options).post(`/v1/erasures/${encodeURIComponent(id)}/withdraw`, tenantOf(options), {}),
  );

const status = async (id: string, options: EraseOptions): Promise<void> =>
  show(options, await createAuditClient(options).get(`/v1/erasures/${encodeURIComponent(id)}`, tenantOf(options)));

const list = async (options: EraseOptions): Promise<void> => {
  const answer = await createAuditClient(options).get('/v1/erasures', tenantOf(options));
  if (options.json === true) return print(jsonLine(answer));
  const paint = paintFor(process.stdout, process.env);
  const rows = rowsOf(answer['erasures']).map(cellsOf);
  return print(table(HEADER, rows, (_column, padded, row) => (row < 0 ? paint.bold(padded) : padded)));
};

const AS = '--as <name>';
const AS_TEXT = 'who you are, where the settings have no callers (development); the entry says that nobody proved it';

/** `common`: the options that all commands of the group have. */
export const auditEraseCommand = (common: (command: Command) => Command): Command => {
  const erase = new Command('erase').description('erase a person, or single entries, without breaking a proof');
  erase.addCommand(
    common(new Command('request'))
      .description('ask for an erasure; two callers with the role erase must approve it')
      .option('--subject <id>', 'the data subject whose key is destroyed')
      .option('--subject-type <type>', 'its type', 'user')
      .option('--issuer <url>', 'the issuer that verified it, where one did')
      .option('--decision <id...>', 'in place of a subject: decisions that name somebody else')
      .option('--seq <seq...>', 'the same by seq in the newest log: quarantine, conflict and access entries too')
      .requiredOption('--reference <text>', 'where the request is kept, e.g. a ticket; only its digest is stored')
      .requiredOption('--legal-basis <text>', 'e.g. "GDPR, article 17(1)(b)"; stands in the ledger')
      .option('--copy <text...>', 'copies elsewhere whose keepers are to be told, beside audit.copies')
      .option(AS, AS_TEXT)
      .addHelpText(
        'after',
        '\nAfter the second approval the service writes an erasure entry, waits until a signed checkpoint covers it, and\ndestroys the keys: `edict audit erase status ID` says how far it is. This cannot be undone.\n',
      )
      .action(request),
  );
  erase.addCommand(
    common(new Command('approve'))
      .description('approve a request; the second approval, by another caller, starts it')
      .argument('<id>', 'of the request')
      .option(AS, AS_TEXT)
      .action(approve),
  );
  erase.addCommand(
    common(new Command('withdraw'))
      .description('end a request that has not both approvals')
      .argument('<id>', 'of the request')
      .action(withdraw),
  );
  erase.addCommand(
    common(new Command('status'))
      .description('one request: what was approved, what it waits for, where its entry is')
      .argument('<id>', 'of the request')
      .action(status),
  );
  erase.addCommand(common(new Command('list')).description('the requests of a tenant, newest first').action(list));
  return erase;
};
