import { Command, Option } from 'commander';
import { AppError } from '../../shared/contracts/errors.ts';
import { isObject } from '../../shared/contracts/json.ts';
import { isOutputGone } from '../output.ts';
import { createAuditClient, type AuditConnection } from './audit-client.ts';
import { jsonLine, paintFor, print, printable, table, type Paint } from './audit-print.ts';

const FILTERS = [
  ['from', 'time', 'events at or after this time (RFC 3339)'],
  ['to', 'time', 'events before this time (RFC 3339)'],
  ['subject', 'id', 'whose authority was used'],
  ['subject-type', 'type', 'type of the subject (default: user)'],
  ['agent', 'id', 'the program that acted'],
  ['chain', 'ids', 'who acted, each for the next: agent ids with commas between, \\, for one in an id'],
  ['action', 'name', 'what was asked for'],
  ['resource', 'type/id', 'on what; without a type, on any of this id; an id with / needs its type'],
  ['reason', 'code', 'a reason code'],
  ['session', 'id', 'the session'],
  ['purpose', 'text', 'the purpose'],
  ['request-id', 'id', 'the X-Request-ID of the request'],
] as const;

type Row = Readonly<Record<string, unknown>>;

export type FilterOptions = Readonly<Record<string, unknown>>;

/** Adds the options of the filters. */
export const withFilters = (command: Command): Command => {
  command.addOption(new Option('--decision <decision>', 'allow or deny').choices(['allow', 'deny']));
  for (const [name, value, description] of FILTERS) command.option(`--${name} <${value}>`, description);
  return command;
};

const camel = (name: string): string => name.replaceAll(/-(\w)/g, (_match, letter: string) => letter.toUpperCase());

/** Parameters of the API, from the options of the filters and of the tenant. */
export const filterParameters = (options: FilterOptions): [name: string, value: string][] =>
  [...FILTERS.map(([name]) => name), 'decision', 'tenant'].flatMap((name): [string, string][] => {
    const value = options[camel(name)];
    if (typeof value !== 'string') return [];
    if (name === 'chain')
      return value.split(/(?<!\\),/).map((member): [string, string] => ['chain', member.replaceAll('\\,', ',')]);
    const slash = value.indexOf('/');
    if (name === 'resource' && slash > 0)
      return [
        ['resource_type', value.slice(0, slash)],
        ['resource', value.slice(slash + 1)],
      ];
    return [[name.replaceAll('-', '_'), value]];
  });

const text = (value: unknown): string => (typeof value === 'string' ? printable(value) : '');

const listIn = (value: unknown): readonly unknown[] => (Array.isArray(value) ? value : []);

const who = (row: Row): string => {
  const { subject } = row;
  if (!isObject(subject)) return `(${text(row['payload'])})`;
  const name = text(subject['id']);
  return subject['type'] === 'user' ? name : `${text(subject['type'])}:${name}`;
};

const decisionOf = (row: Row): string => `${text(row['decision'])}${Array.isArray(row['search_mismatch']) ? '!' : ''}`;

const reasonsOf = (row: Row): string =>
  listIn(row['reasons'])
    .map((reason) => (isObject(reason) ? text(reason['code']) : ''))
    .join(' ');

/** The one whose authority is used, then everybody through whom it came to the agent that acted. */
const through = (row: Row): string =>
  [who(row), ...listIn(row['chain']).map(text), ...(typeof row['agent'] === 'string' ? [text(row['agent'])] : [])].join(
    ' → ',
  );

const resourceOf = (row: Row): Row => (isObject(row['resource']) ? row['resource'] : {});

const obligationsOf = (row: Row): string =>
  listIn(row['obligations'])
    .map((each) => (isObject(each) ? text(each['type']) : ''))
    .join(' ') || '-';

/** What is printed for people. */
interface Layout {
  readonly header: readonly string[];
  readonly cells: (row: Row) => readonly string[];
  readonly decisionColumn: number;
  readonly maxCell?: number;
}

const LIST: Layout = {
  header: ['when', 'who', 'agent', 'action', 'resource', 'decision', 'reason', 'id'],
  cells: (row) => [
    text(row['event_time']),
    who(row),
    text(row['agent']),
    text(row['action']),
    text(resourceOf(row)['id']),
    decisionOf(row),
    reasonsOf(row),
    text(row['decision_id']),
  ],
  decisionColumn: 5,
};

/** One line a step, oldest first. */
const STORY: Layout = {
  header: ['when', 'who, through whom', 'action', 'resource', 'decision', 'reason', 'obligations', 'id'],
  cells: (row) => [
    text(row['event_time']),
    through(row),
    text(row['action']),
    `${text(resourceOf(row)['type'])}/${text(resourceOf(row)['id'])}`,
    decisionOf(row),
    reasonsOf(row),
    obligationsOf(row),
    text(row['decision_id']),
  ],
  decisionColumn: 4,
  maxCell: 120,
};

/** The history of one session, delegation chain or resource. */
const isStory = (options: FilterOptions): boolean =>
  ['session', 'chain', 'resource'].some((name) => options[name] !== undefined);

interface QueryOptions extends AuditConnection {
  readonly json?: boolean;
  readonly ndjson?: boolean;
  readonly table?: boolean;
  readonly all?: boolean;
  readonly limit?: string;
  readonly order?: string;
  readonly [filter: string]: unknown;
}

type Format = 'json' | 'ndjson' | 'table';

const formatOf = (options: QueryOptions): Format => {
  const chosen = (['json', 'ndjson', 'table'] as const).filter((name) => options[name] === true);
  if (chosen.length > 1) throw new AppError('usage', `--${chosen.join(' or --')}, not both`);
  return chosen[0] ?? (process.stdout.isTTY ? 'table' : 'ndjson');
};

/** A page for people; pages follow each other without a second head. */
const printPage = (layout: Layout, rows: readonly Row[], isFirst: boolean, paint: Paint): void => {
  if (rows.length > 0 || isFirst) {
    const paintCell = (column: number, padded: string, row: number): string => {
      if (row < 0) return paint.bold(padded);
      if (column !== layout.decisionColumn) return padded;
      return padded.startsWith('allow') ? paint.green(padded) : paint.red(padded);
    };
    const lines = table(layout.header, rows.map(layout.cells), paintCell, layout.maxCell);
    print(isFirst ? lines : lines.slice(lines.indexOf('\n') + 1));
  }
  if (rows.some((row) => Array.isArray(row['search_mismatch'])))
    process.stderr.write('! the search table says otherwise than the event: run edict audit verify\n');
  if (rows.length === 0 && isFirst) process.stderr.write('no decision matches\n');
};

const query = async (options: QueryOptions): Promise<void> => {
  const format = formatOf(options);
  const client = createAuditClient(options);
  const story = isStory(options);
  const isAll = options.all === true || (story && options.limit === undefined);
  const base: [string, string][] = [
    ...filterParameters(options),
    ['order', options.order ?? (story ? 'oldest' : 'newest')],
    ...(options.limit === undefined
      ? isAll
        ? [['limit', '500'] as [string, string]]
        : []
      : [['limit', options.limit] as [string, string]]),
  ];
  const paint = paintFor(process.stdout, process.env);
  const collected: unknown[] = [];
  let first: Row | undefined;
  let cursor: unknown;
  for (;;) {
    const page = await client.get('/v1/decisions', typeof cursor === 'string' ? [...base, ['cursor', cursor]] : base);
    const rows = listIn(page['decisions']);
    cursor = page['next_cursor'];
    const isLast = !isAll || typeof cursor !== 'string';
    if (format === 'ndjson') for (const row of rows) print(jsonLine(row));
    else if (format === 'json') collected.push(...rows);
    else printPage(story ? STORY : LIST, rows.filter(isObject), first === undefined, paint);
    first ??= page;
    if (isLast) {
      if (format !== 'json' && typeof cursor === 'string')
        process.stderr.write('there are more: --limit up to 500, or --all\n');
      if (format === 'json')
        print(jsonLine({ ...first, decisions: collected, next_cursor: typeof cursor === 'string' ? cursor : null }));
      return;
    }
    if (isOutputGone()) return;
  }
};

/** `common`: the options that all commands of the group have. */
export const auditQueryCommand = (common: (command: Command) => Command): Command =>
  withFilters(
    common(new Command('query'))
      .description('list decisions; a table on a terminal, else one JSON document a line')
      .option('--table', 'a table, also into a pipe')
      .option('--ndjson', 'one JSON document a decision and line, also on a terminal')
      .option('--all', 'every match, page by page')
      .option('--limit <n>', 'decisions on one page, 1 to 500')
      .addOption(new Option('--order <order>', 'by their place in the ledger').choices(['newest', 'oldest'])),
  )
    .addHelpText(
      'after',
      '\n--session, --chain and --resource tell a history: all of it, oldest first, one line a step, with everybody through\nwhom the authority came and what had to be carried out.\n',
    )
    .action(query);
