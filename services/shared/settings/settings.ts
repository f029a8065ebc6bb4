import { readFileSync } from 'node:fs';
import { resolve, dirname } from 'node:path';
import { parseDocument } from 'yaml';
import type { TSchema } from 'typebox';
import { Compile } from 'typebox/compile';
import { Settings as TypeBoxSettings } from 'typebox/system';
import { Value } from 'typebox/value';
import { AppError, errorCode, errorMessage } from '../contracts/errors.ts';
import { isObject } from '../contracts/json.ts';
import { isTenant, SYSTEM_TENANT } from '../contracts/tenant.ts';
import { SettingsSchema, type Settings } from './schema.ts';
import { sizeBytes } from './units.ts';

export type { Settings, Caller } from './schema.ts';

const MAX_FILE_BYTES = 4 * 1024 * 1024;
const MAX_PROBLEMS = 64;
/** A snapshot of it must fit into one frame of its log. */
const MAX_DATA_BYTES = 16 * 1024 * 1024;
const checker = Compile(SettingsSchema);

export interface LoadedSettings {
  /** Frozen, complete with defaults; every path in it is absolute. */
  readonly settings: Settings;
  /** The file that was read, if any. */
  readonly file?: string;
}

const invalid = (problems: readonly string[], file: string | undefined): AppError =>
  new AppError('settings_invalid', `${file ?? 'settings'}: ${problems.join('; ')}`, { details: { problems } });

const readYaml = (file: string): Readonly<Record<string, unknown>> => {
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch (cause) {
    throw new AppError('settings_invalid', `${file}: cannot be read (${errorCode(cause) ?? errorMessage(cause)})`, {
      cause,
    });
  }
  if (text.length > MAX_FILE_BYTES) throw invalid(['larger than 4 MiB'], file);
  const document = parseDocument(text, { uniqueKeys: true });
  const problems = document.errors.map((error) => error.message.split('\n')[0] ?? error.message);
  if (problems.length > 0) throw invalid(problems, file);
  const value: unknown = document.toJS({ maxAliasCount: 10 }) ?? {};
  if (!isObject(value)) throw invalid(['is not a mapping'], file);
  return value;
};

/** The environment variable of a setting's path: `pdp.listen` is `EDICT_PDP_LISTEN`. */
const variableName = (path: readonly string[]): string => `EDICT_${path.join('_').toUpperCase()}`;

const scalarOf = (schema: TSchema, text: string): unknown => {
  const type = 'type' in schema ? schema.type : undefined;
  if (type === 'integer' || type === 'number') return text.trim() === '' ? text : Number(text);
  if (type === 'boolean') return text === 'true' ? true : text === 'false' ? false : text;
  if (type === 'array') return text === '' ? [] : text.split(',').map((item) => item.trim());
  return text;
};

const propertiesOf = (schema: TSchema): Readonly<Record<string, TSchema>> | undefined =>
  'properties' in schema && isObject(schema.properties) ? (schema.properties as Record<string, TSchema>) : undefined;

const overlay = (
  document: Readonly<Record<string, unknown>>,
  schema: TSchema,
  environment: NodeJS.ProcessEnv,
  path: readonly string[] = [],
): Readonly<Record<string, unknown>> => {
  const out: Record<string, unknown> = { ...document };
  for (const [name, member] of Object.entries(propertiesOf(schema) ?? {})) {
    const here = [...path, name];
    const below = out[name];
    if (propertiesOf(member) !== undefined) {
      if (below !== undefined && !isObject(below)) continue;
      const merged = overlay(below ?? {}, member, environment, here);
      if (below !== undefined || Object.keys(merged).length > 0) out[name] = merged;
      continue;
    }
    const text = environment[variableName(here)];
    if (text !== undefined) out[name] = scalarOf(member, text);
  }
  return out;
};

const PATH_MEMBER = /^(home|bundles)$|_files?$/;

/** Paths in a settings file are relative to that file, those in the environment to the working directory. */
const absolutePaths = (value: unknown, base: string, isWhole = true): unknown => {
  if (!isObject(value)) return value;
  return Object.fromEntries(
    Object.entries(value).map(([name, member]) => {
      // No caller has a path, and their properties may have any names.
      if (isWhole && name === 'callers') return [name, member];
      if (PATH_MEMBER.test(name) && typeof member === 'string') return [name, resolve(base, member)];
      if (PATH_MEMBER.test(name) && Array.isArray(member))
        return [name, member.map((item: unknown) => (typeof item === 'string' ? resolve(base, item) : item))];
      return [name, absolutePaths(member, base, false)];
    }),
  );
};

const schemaProblems = (document: unknown): readonly string[] => {
  // The library stops at 8 problems otherwise.
  TypeBoxSettings.Set({ maxErrors: MAX_PROBLEMS });
  return [...checker.Errors(document)]
    .filter(({ keyword, message }) => !(keyword === 'boolean' && message === 'schema is false'))
    .map(({ keyword, instancePath, message, params }) => {
      const at = instancePath === '' ? '/' : instancePath;
      if (keyword !== 'additionalProperties') return `${at}: ${message}`;
      const unknown = 'additionalProperties' in params ? String(params.additionalProperties) : '';
      return `${at}: unknown key ${unknown}`;
    });
};

const repeated = (values: readonly string[]): readonly string[] => [
  ...new Set(values.filter((value, index) => values.indexOf(value) !== index)),
];

/** What the schema cannot say: how settings must fit each other. */
const crossProblems = (settings: Settings): readonly string[] => {
  const problems: string[] = [];
  const { callers, tenants, database, kafka, ledger } = settings;
  for (const id of repeated(callers.map((caller) => caller.id))) problems.push(`/callers: id ${id} appears twice`);
  for (const id of repeated(callers.flatMap((caller) => caller.api_keys.map((key) => key.slice(0, 12)))))
    problems.push(`/callers: API key id ${id} appears twice`);
  const known = tenantNames(settings);
  callers.forEach(({ tenant }, index) => {
    if (!known.includes(tenant) && tenant !== SYSTEM_TENANT)
      problems.push(`/callers/${index}/tenant: ${tenant} is not in /tenants`);
  });
  for (const name of Object.keys(tenants)) if (!isTenant(name)) problems.push(`/tenants: ${name} is not a tenant name`);
  if (tenants[SYSTEM_TENANT] !== undefined) problems.push(`/tenants/${SYSTEM_TENANT}: this name is the system tenant`);
  if (database.writer_url_file !== undefined) {
    for (const member of ['reader_url_file', 'keys_url_file'] as const)
      if (database[member] === undefined) problems.push(`/database/${member}: required with writer_url_file`);
    if (settings.audit.master_key_file === undefined)
      problems.push('/audit/master_key_file: required with database.writer_url_file');
    if (ledger.authority === undefined) problems.push('/ledger/authority: required with database.writer_url_file');
    if (ledger.blind_tenants && ledger.blind_key_file === undefined)
      problems.push('/ledger/blind_key_file: required with ledger.blind_tenants');
  }
  if (sizeBytes(settings.pdp.data_max) > MAX_DATA_BYTES) problems.push('/pdp/data_max: is above 16MiB');
  if (kafka.brokers.length === 0) {
    if (kafka.tls !== undefined || kafka.sasl !== undefined) problems.push('/kafka/brokers: required with tls or sasl');
    if (settings.pdp.durability === 'broker') problems.push('/pdp/durability: broker needs kafka.brokers');
  }
  return problems;
};

const deepFreeze = <T>(value: T): T => {
  if (typeof value === 'object' && value !== null && !Object.isFrozen(value)) {
    Object.freeze(value);
    for (const member of Object.values(value)) deepFreeze(member);
  }
  return value;
};

/**
 * Reads `edict.yaml`, lays the environment over it, adds defaults, checks it whole.
 * Throws `settings_invalid` with every problem found (`details.problems`), each beginning with its JSON pointer.
 */
export const loadSettings = (
  options: { readonly file?: string | undefined; readonly environment?: NodeJS.ProcessEnv } = {},
): LoadedSettings => {
  const environment = options.environment ?? process.env;
  const named = options.file ?? environment['EDICT_CONFIG'];
  const file = named === undefined ? undefined : resolve(named);
  const fromFile = file === undefined ? {} : absolutePaths(readYaml(file), dirname(file));
  const merged = overlay(isObject(fromFile) ? fromFile : {}, SettingsSchema, environment);
  const document: unknown = absolutePaths(Value.Default(SettingsSchema, structuredClone(merged)), process.cwd());
  const problems = schemaProblems(document);
  if (problems.length > 0 || !checker.Check(document)) throw invalid(problems, file);
  const cross = crossProblems(document);
  if (cross.length > 0) throw invalid(cross, file);
  return { settings: deepFreeze(document), ...(file === undefined ? {} : { file }) };
};

/** The tenants of the settings, without the system tenant; `default` when none is named. */
export const tenantNames = (settings: Settings): readonly string[] => {
  const names = Object.keys(settings.tenants);
  return names.length === 0 ? ['default'] : names;
};

/** True when the database is the embedded one. */
export const isEmbedded = (settings: Settings): boolean => settings.database.writer_url_file === undefined;
