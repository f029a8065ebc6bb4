import type { Sql } from '../core/append.ts';
import type { DecisionOrder, SearchCriteria } from '../core/query.ts';
import type { SearchColumns } from '../core/verify-search.ts';

/** The columns of a search row, under the names that the verifier uses. */
const SEARCH_COLUMNS =
  'd.event_id::text as event_id, d.event_time_ms, d.ingest_us, d.decision, d.reasons, d.subject, d.agent, d.chain, ' +
  'd.action, d.resource_type, d.resource, d.purpose, d.session_id, d.request_id, d.caller';

export interface SearchResult {
  readonly seq: bigint;
  readonly event_id: string;
  readonly [column: string]: SearchColumns[string];
}

/** Seqs from `from` up to and without `to`. */
export interface SeqRange {
  readonly from: bigint;
  readonly to: bigint;
}

/** Entries in a block of the search table, as the migration has it. */
const BLOCK_BITS = 14n;
/** Places of a list that have an index of their own. */
const INDEXED_PLACES = 4;

type Parameter = string | number | Uint8Array;
/** Writes a parameter and gives its place in the text. */
type Bind = (value: Parameter, type: 'text' | 'bytea' | 'bigint' | 'int') => string;

/** A list of alternatives, one for each place where an index is read; no row is in two of them. */
interface Driver {
  /** What the index is ordered by before seq; undefined: by seq alone. */
  readonly column: string | undefined;
  readonly value: string | undefined;
  readonly conditions: readonly string[];
}

const createBinder = () => {
  const parameters: unknown[] = [];
  const bind: Bind = (value, type) => {
    parameters.push(value);
    return `$${parameters.length}::${type}`;
  };
  return { parameters, bind };
};

const isOneOf = (column: string, values: readonly string[]): string => `${column} in (${values.join(', ')})`;

/** The alternatives of a value in a list column: in each place that has an index, and in what lies behind these. */
const inList = (column: 'd.reasons' | 'd.chain', values: readonly string[]): readonly Driver[] => {
  const places = Array.from({ length: INDEXED_PLACES }, (_, index) => `${column}[${index + 1}]`);
  const notBefore = (place: number): readonly string[] =>
    places.slice(0, place).map((earlier) => `${earlier} not in (${values.join(', ')})`);
  const more = `${column}[${INDEXED_PLACES + 1}]`;
  return [
    ...places.flatMap((place, index) =>
      values.map((value) => ({ column: place, value, conditions: notBefore(index) })),
    ),
    {
      column: undefined,
      value: undefined,
      conditions: [
        `${more} is not null`,
        ...notBefore(INDEXED_PLACES),
        `(${values.map((value) => `${value} = any (${column})`).join(' or ')})`,
      ],
    },
  ];
};

const PATH = '(d.chain || d.agent)';

/** True when the members stand in the path in this order: each is looked for behind the one before. */
const inOrder = (members: readonly (readonly string[])[]): string => {
  let at = '0';
  for (const spellings of members) {
    const found = spellings.map((value) => `array_position(${PATH}, ${value}, ${at} + 1)`);
    const first = found.length === 1 ? found.join('') : `least(${found.join(', ')})`;
    at = `coalesce(${first}, cardinality(${PATH}))`;
    if (members.at(-1) === spellings) return `${first} is not null`;
  }
  return 'true';
};

/**
 * The alternatives of the most selective criterion, and the conditions of the others. Which is most selective is
 * settled here, not by statistics: those do not know that a value is common and all its rows are old.
 */
const plan = (
  criteria: SearchCriteria,
  bind: Bind,
): { readonly drivers: readonly Driver[]; readonly rest: string[] } => {
  const texts = (values: readonly string[]): readonly string[] => values.map((value) => bind(value, 'text'));
  let drivers: readonly Driver[] | undefined;
  const rest: string[] = [];
  const scalar = (column: string, values: readonly string[] | undefined): void => {
    if (values === undefined) return;
    if (drivers === undefined) drivers = values.map((value) => ({ column, value, conditions: [] }));
    else rest.push(isOneOf(column, values));
  };
  const optional = (column: string, values: readonly string[] | undefined): void =>
    scalar(column, values === undefined ? undefined : texts(values));
  optional('d.request_id', criteria.requestIds);
  optional('d.session_id', criteria.sessions);
  scalar(
    'd.subject',
    criteria.subjects?.map((name) => bind(name, 'bytea')),
  );
  optional('d.resource', criteria.resources);
  if (criteria.resourceTypes !== undefined) rest.push(isOneOf('d.resource_type', texts(criteria.resourceTypes)));
  optional('d.agent', criteria.agents);
  if (criteria.chain !== undefined) {
    const members = criteria.chain.map(texts);
    const [first] = members;
    if (drivers === undefined && first !== undefined) {
      const notAgent = `(d.agent is null or d.agent not in (${first.join(', ')}))`;
      drivers = [
        ...first.map((value) => ({ column: 'd.agent', value, conditions: [] })),
        ...inList('d.chain', first).map((driver) => ({ ...driver, conditions: [notAgent, ...driver.conditions] })),
      ];
    }
    rest.push(inOrder(members));
  }
  optional('d.purpose', criteria.purposes);
  if (criteria.reasons !== undefined) {
    const values = texts(criteria.reasons);
    if (drivers === undefined) drivers = inList('d.reasons', values);
    else rest.push(`(${values.map((value) => `${value} = any (d.reasons)`).join(' or ')})`);
  }
  optional('d.action', criteria.actions);
  optional('d.decision', criteria.decision === undefined ? undefined : [criteria.decision]);
  if (criteria.fromMs !== undefined) rest.push(`d.event_time_ms >= ${bind(String(criteria.fromMs), 'bigint')}`);
  if (criteria.toMs !== undefined) rest.push(`d.event_time_ms < ${bind(String(criteria.toMs), 'bigint')}`);
  return { drivers: drivers ?? [{ column: undefined, value: undefined, conditions: [] }], rest };
};

/**
 * The statement for rows of one log in a range of seqs. The value of the driving criterion is written as bounds of
 * (value, seq), and the order names the value: so the rows come in order from one index, and no other index has them.
 */
export const searchStatement = (
  logId: number,
  criteria: SearchCriteria,
  page: { readonly range: SeqRange; readonly order: DecisionOrder; readonly limit: number },
): { readonly text: string; readonly parameters: readonly unknown[] } => {
  const { parameters, bind } = createBinder();
  const log = bind(logId, 'int');
  const [from, to] = [bind(String(page.range.from), 'bigint'), bind(String(page.range.to), 'bigint')];
  const limit = bind(page.limit, 'int');
  const way = page.order === 'newest' ? 'desc' : 'asc';
  const { drivers, rest } = plan(criteria, bind);
  const branches = drivers.map(({ column, value, conditions }) => {
    const bounds =
      column === undefined || value === undefined
        ? [`d.seq >= ${from}`, `d.seq < ${to}`]
        : [
            `(${column}, d.seq) >= (${value}, ${from})`,
            `(${column}, d.seq) < (${value}, ${to})`,
            `${column} is not null`,
          ];
    const where = [`d.log_id = ${log}`, ...bounds, ...conditions, ...rest].join(' and ');
    const by = column === undefined ? `d.seq ${way}` : `${column} ${way}, d.seq ${way}`;
    return `select d.seq, ${SEARCH_COLUMNS} from edict.decision d where ${where} order by ${by} limit ${limit}`;
  });
  const text =
    branches.length === 1
      ? branches.join('')
      : `select * from (${branches.map((each) => `(${each})`).join(' union all ')}) d order by seq ${way} limit ${limit}`;
  return { text, parameters };
};

/** The statement for the blocks, ascending, that have an event of the time asked for: one probe a block. */
export const blocksStatement = (
  logId: number,
  { fromMs, toMs }: Pick<SearchCriteria, 'fromMs' | 'toMs'>,
  range: SeqRange,
): { readonly text: string; readonly parameters: readonly unknown[] } => {
  const { parameters, bind } = createBinder();
  const log = bind(logId, 'int');
  const first = bind(Number(range.from >> BLOCK_BITS), 'int');
  const last = bind(Number((range.to - 1n) >> BLOCK_BITS), 'int');
  const time = [
    ...(fromMs === undefined ? [] : [` and d.event_time_ms >= ${bind(String(fromMs), 'bigint')}`]),
    ...(toMs === undefined ? [] : [` and d.event_time_ms < ${bind(String(toMs), 'bigint')}`]),
  ].join('');
  return {
    text:
      `select b.block from generate_series(${first}, ${last}) as b(block) cross join lateral (` +
      `select from edict.decision d where d.log_id = ${log} and d.block = b.block${time} limit 1) found order by b.block`,
    parameters,
  };
};

const clip = (range: SeqRange, { from, to }: SeqRange): SeqRange => ({
  from: range.from > from ? range.from : from,
  to: range.to < to ? range.to : to,
});

/** The parts of `range`, ascending, outside which no event has the time asked for. */
const rangesOf = async (
  sql: Pick<Sql, 'query'>,
  logId: number,
  criteria: SearchCriteria,
  range: SeqRange,
): Promise<readonly SeqRange[]> => {
  if (range.from >= range.to) return [];
  if (criteria.fromMs === undefined && criteria.toMs === undefined) return [range];
  const { text, parameters } = blocksStatement(logId, criteria, range);
  const ranges: SeqRange[] = [];
  for (const { block } of await sql.query<{ readonly block: number }>(text, parameters)) {
    const from = BigInt(block) << BLOCK_BITS;
    const to = from + (1n << BLOCK_BITS);
    const last = ranges.at(-1);
    if (last?.to === from) ranges[ranges.length - 1] = { from: last.from, to };
    else ranges.push({ from, to });
  }
  return ranges.map((each) => clip(each, range));
};

/** The first `limit` rows of a log's range that meet the criteria, in order. */
export const searchLog = async (
  sql: Pick<Sql, 'query'>,
  logId: number,
  criteria: SearchCriteria,
  page: { readonly range: SeqRange; readonly order: DecisionOrder; readonly limit: number },
): Promise<readonly SearchResult[]> => {
  const ranges = await rangesOf(sql, logId, criteria, page.range);
  const found: SearchResult[] = [];
  for (const range of page.order === 'newest' ? ranges.toReversed() : ranges) {
    const limit = page.limit - found.length;
    if (limit <= 0) break;
    const { text, parameters } = searchStatement(logId, criteria, { ...page, range, limit });
    found.push(...(await sql.query<SearchResult>(text, parameters)));
  }
  return found;
};
