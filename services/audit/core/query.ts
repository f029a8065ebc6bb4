import { createHmac } from 'node:crypto';
import { AppError } from '../../shared/contracts/errors.ts';
import { canonicalJson } from '../../shared/contracts/json.ts';
import type { DataSubject } from './append.ts';
import { searchable } from './ingest-search.ts';
import type { NameSubject } from './pseudonym.ts';

/** What an auditor asks for. All members that are there must hold. */
export interface DecisionFilter {
  /** Event time, inclusive. */
  readonly from?: string;
  /** Event time, exclusive. */
  readonly to?: string;
  readonly subject?: string;
  /** The subject's type; `user` when it is not given. */
  readonly subject_type?: string;
  readonly agent?: string;
  /** All of them acted, in this order, each for the next; others may stand between. The last may be the agent. */
  readonly chain?: readonly string[];
  readonly action?: string;
  readonly resource?: string;
  /** Any, when it is not given. */
  readonly resource_type?: string;
  readonly decision?: 'allow' | 'deny';
  readonly reason?: string;
  readonly session?: string;
  readonly purpose?: string;
  readonly request_id?: string;
}

/** By seq, later incarnations of a ledger behind earlier ones. */
export type DecisionOrder = 'newest' | 'oldest';

export interface DecisionQuery {
  readonly filter: DecisionFilter;
  readonly order: DecisionOrder;
  readonly limit: number;
  readonly cursor?: string;
}

export const MAX_LIMIT = 500;
const DEFAULT_LIMIT = 50;
const MAX_VALUE_CHARACTERS = 1024;
const MAX_CHAIN = 8;
const DEFAULT_SUBJECT_TYPE = 'user';
const RFC3339 = /^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d{1,9})?(Z|[+-]\d{2}:\d{2})$/;

/** Unix milliseconds of an RFC 3339 time, else undefined. */
export const timeMsOf = (text: string): number | undefined => {
  const timeMs = RFC3339.test(text) ? Date.parse(text) : Number.NaN;
  return Number.isNaN(timeMs) ? undefined : timeMs;
};

const TEXTS = [
  'subject',
  'subject_type',
  'agent',
  'action',
  'resource',
  'resource_type',
  'reason',
  'session',
  'purpose',
  'request_id',
] as const;
const FILTERS: ReadonlySet<string> = new Set([...TEXTS, 'from', 'to', 'decision', 'chain']);
const PAGING: ReadonlySet<string> = new Set(['order', 'limit', 'cursor']);

const refuse = (parameter: string, why: string): AppError =>
  new AppError('request_invalid', `${parameter}: ${why}`, { details: { parameter } });

type Parameters = Iterable<readonly [name: string, value: string]>;

/** The values of the parameters whose names are in `known`, each once; of `chain` all. */
const readParameters = (parameters: Parameters, ...known: readonly ReadonlySet<string>[]) => {
  const values = new Map<string, string>();
  const chain: string[] = [];
  for (const [name, value] of parameters) {
    if (!known.some((names) => names.has(name))) throw refuse(name.slice(0, 64), 'unknown parameter');
    if (values.has(name)) throw refuse(name, 'stands twice');
    if (value === '') throw refuse(name, 'is empty');
    if (value.length > MAX_VALUE_CHARACTERS) throw refuse(name, `longer than ${MAX_VALUE_CHARACTERS} characters`);
    if (value.includes('\0')) throw refuse(name, 'holds a NUL character');
    if (name !== 'chain') values.set(name, value);
    else if (chain.push(value) > MAX_CHAIN) throw refuse(name, `stands more than ${MAX_CHAIN} times`);
  }
  return { values, chain };
};

const filterOf = (values: ReadonlyMap<string, string>, chain: readonly string[]): DecisionFilter => {
  const time = (name: 'from' | 'to'): { readonly [N in 'from' | 'to']?: string } => {
    const value = values.get(name);
    if (value === undefined) return {};
    const timeMs = timeMsOf(value);
    if (timeMs === undefined) throw refuse(name, 'is no RFC 3339 time such as 2026-01-01T00:00:00Z');
    return { [name]: new Date(timeMs).toISOString() };
  };
  const decision = values.get('decision');
  if (decision !== undefined && decision !== 'allow' && decision !== 'deny')
    throw refuse('decision', 'is neither allow nor deny');
  const texts = Object.fromEntries(
    TEXTS.flatMap((name) => {
      const value = values.get(name);
      return value === undefined ? [] : [[name, value]];
    }),
  ) as { readonly [N in (typeof TEXTS)[number]]?: string };
  if (texts.subject_type !== undefined && texts.subject === undefined)
    throw refuse('subject_type', 'goes with subject only');
  if (texts.resource_type !== undefined && texts.resource === undefined)
    throw refuse('resource_type', 'goes with resource only');
  return {
    ...time('from'),
    ...time('to'),
    ...texts,
    ...(texts.subject === undefined ? {} : { subject_type: texts.subject_type ?? DEFAULT_SUBJECT_TYPE }),
    ...(chain.length === 0 ? {} : { chain }),
    ...(decision === undefined ? {} : { decision }),
  };
};

/**
 * The query in the parameters of a request. Throws `request_invalid` that names the parameter: unknown, doubled,
 * empty, too long or malformed ones are refused, for an auditor must not take a misspelt filter for an empty ledger.
 */
export const parseDecisionQuery = (parameters: Parameters): DecisionQuery => {
  const { values, chain } = readParameters(parameters, FILTERS, PAGING);
  const order = values.get('order') ?? 'newest';
  if (order !== 'newest' && order !== 'oldest') throw refuse('order', 'is neither newest nor oldest');
  const limitText = values.get('limit');
  const limit = limitText === undefined ? DEFAULT_LIMIT : Number(limitText);
  if (!/^\d{1,6}$/.test(limitText ?? '1') || limit < 1 || limit > MAX_LIMIT)
    throw refuse('limit', `is no whole number from 1 to ${MAX_LIMIT}`);
  const cursor = values.get('cursor');
  return { filter: filterOf(values, chain), order, limit, ...(cursor === undefined ? {} : { cursor }) };
};

export const EXPORT_FORMATS = ['ndjson', 'csv', 'ocsf', 'cef', 'parquet', 'bundle'] as const;
export type ExportFormat = (typeof EXPORT_FORMATS)[number];

/** The same filters, `format`, and of a bundle `incarnation`; an export has no pages. Throws `request_invalid`. */
export const parseExportQuery = (
  parameters: Parameters,
): { readonly filter: DecisionFilter; readonly format: ExportFormat; readonly incarnation?: number } => {
  const { values, chain } = readParameters(parameters, FILTERS, new Set(['format', 'incarnation']));
  const format = EXPORT_FORMATS.find((each) => each === (values.get('format') ?? 'ndjson'));
  if (format === undefined) throw refuse('format', `is none of ${EXPORT_FORMATS.join(', ')}`);
  const incarnation = values.get('incarnation');
  if (incarnation === undefined) return { filter: filterOf(values, chain), format };
  if (format !== 'bundle') throw refuse('incarnation', 'goes with format=bundle only');
  if (!/^[1-9]\d{0,8}$/.test(incarnation)) throw refuse('incarnation', 'is no whole number from 1 on');
  return { filter: filterOf(values, chain), format, incarnation: Number(incarnation) };
};

/** `masked:` and the HMAC-SHA256 of the value's RFC 8785 bytes, as a masked member stands in the search table. */
const maskedText = (maskKey: Uint8Array, value: string): string =>
  `masked:${createHmac('sha256', maskKey).update(canonicalJson(value)).digest('hex')}`;

/** What the search table is asked for; of a list any member may match. */
export interface SearchCriteria {
  readonly fromMs?: number;
  readonly toMs?: number;
  /** Pseudonyms, 32 bytes each. */
  readonly subjects?: readonly Uint8Array[];
  readonly agents?: readonly string[];
  /** One after another; each in any of its spellings. */
  readonly chain?: readonly (readonly string[])[];
  readonly actions?: readonly string[];
  readonly resourceTypes?: readonly string[];
  readonly resources?: readonly string[];
  readonly sessions?: readonly string[];
  readonly purposes?: readonly string[];
  readonly requestIds?: readonly string[];
  readonly decision?: 'allow' | 'deny';
  readonly reasons?: readonly string[];
}

/**
 * The filter as the search table knows it. Persons stand there under pseudonyms, and masked values as HMAC: with the
 * tenant's mask key the same filter finds both spellings. `issuers`: whose verified subjects count beside unverified.
 */
export const searchCriteria = (
  filter: DecisionFilter,
  tenant: string,
  keys: {
    readonly nameSubject: NameSubject;
    readonly maskKey: Uint8Array | undefined;
    readonly issuers: readonly string[];
  },
): SearchCriteria => {
  const spellings = (value: string): readonly string[] =>
    keys.maskKey === undefined ? [value] : [value, maskedText(keys.maskKey, value)];
  /** As the search table has them. */
  const columns = (value: string): readonly string[] => spellings(value).map(searchable);
  const some = <Name extends string>(
    name: Name,
    value: string | undefined,
  ): { readonly [N in Name]?: readonly string[] } =>
    (value === undefined ? {} : { [name]: columns(value) }) as { readonly [N in Name]?: readonly string[] };
  const { subject, subject_type: type = DEFAULT_SUBJECT_TYPE } = filter;
  const people: readonly DataSubject[] =
    subject === undefined
      ? []
      : ['', ...keys.issuers.flatMap(spellings)].flatMap((issuer) =>
          spellings(type).flatMap((typeText) => spellings(subject).map((id) => ({ issuer, type: typeText, id }))),
        );
  return {
    ...(filter.from === undefined ? {} : { fromMs: Date.parse(filter.from) }),
    ...(filter.to === undefined ? {} : { toMs: Date.parse(filter.to) }),
    ...(subject === undefined ? {} : { subjects: people.map((person) => keys.nameSubject(tenant, person)) }),
    ...some('agents', filter.agent),
    ...(filter.chain === undefined ? {} : { chain: filter.chain.map(columns) }),
    ...some('actions', filter.action),
    ...some('resourceTypes', filter.resource_type),
    ...some('resources', filter.resource),
    ...some('sessions', filter.session),
    ...some('purposes', filter.purpose),
    ...some('requestIds', filter.request_id),
    ...(filter.decision === undefined ? {} : { decision: filter.decision }),
    ...some('reasons', filter.reason),
  };
};
