import { readFileSync } from 'node:fs';
import { resolve, dirname } from 'node:path';
import { parseDocument } from 'yaml';
import { Compile } from 'typebox/compile';
import { Settings as TypeBoxSettings } from 'typebox/system';
import { Value } from 'typebox/value';
import { AppError, errorCode, errorMessage } from '../contracts/errors.ts';
import { isObject } from '../contracts/json.ts';
import { bundleProblems } from './bundle-problems.ts';
import { environmentProblems, withEnvironment } from './environment.ts';
import { crossProblems, type Service } from './cross-checks.ts';
import { LISTEN_PATTERN, SettingsSchema, type Settings } from './schema.ts';
import { DURATION_PATTERN, SIZE_PATTERN } from './units.ts';

export type { Settings, Caller } from './schema.ts';

const MAX_FILE_BYTES = 4 * 1024 * 1024;
const MAX_PROBLEMS = 64;
const MAX_ALIASES = 10;
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
  let value: unknown;
  try {
    value = document.toJS({ maxAliasCount: MAX_ALIASES }) ?? {};
  } catch (cause) {
    // Aliases that multiply, or that name nothing.
    throw invalid([errorMessage(cause)], file);
  }
  if (!isObject(value)) throw invalid(['is not a mapping'], file);
  return value;
};

const PATH_MEMBER = /^(home|bundles)$|_(files?|dir)$/;

/** Paths in a settings file are relative to that file, those in the environment to the working directory. */
const absolutePaths = (value: unknown, base: string, isWhole = true): unknown => {
  if (!isObject(value)) return value;
  return Object.fromEntries(
    Object.entries(value).map(([name, member]) => {
      // No caller has a path, and their properties may have any names.
      if (isWhole && name === 'callers') return [name, member];
      if (PATH_MEMBER.test(name) && typeof member === 'string') return [name, resolve(base, member)];
      if (PATH_MEMBER.test(name) && Array.isArray(member))
        return [name, member.map((item: unknown) => absoluteItem(item, base))];
      return [name, absolutePaths(member, base, false)];
    }),
  );
};

/** A path, or a mapping with paths in it, one of them perhaps in `path`. */
const absoluteItem = (item: unknown, base: string): unknown => {
  if (typeof item === 'string') return resolve(base, item);
  const absolute = absolutePaths(item, base, false);
  if (!isObject(absolute) || typeof absolute['path'] !== 'string') return absolute;
  return { ...absolute, path: resolve(base, absolute['path']) };
};

interface Checked {
  readonly problems: readonly string[];
  /** JSON pointers of the members that are missing or wrong. */
  readonly faulty: ReadonlySet<string>;
}

const namesIn = (params: object, member: string): readonly string[] => {
  const value: unknown = member in params ? Reflect.get(params, member) : undefined;
  return Array.isArray(value) ? value.map(String) : [];
};

/** What a person should have written, where the library's message would only quote a pattern or say nothing. */
const expectation = (keyword: string, schemaPath: string, message: string, params: object): string => {
  if (keyword === 'enum') return `must be one of ${namesIn(params, 'allowedValues').join(', ')}`;
  const schema = schemaPath
    .split('/')
    .slice(1)
    .reduce<unknown>(
      (at, name) => (isObject(at) ? at[name.replaceAll('~1', '/').replaceAll('~0', '~')] : undefined),
      SettingsSchema,
    );
  const pattern = isObject(schema) ? schema['pattern'] : undefined;
  if (pattern === SIZE_PATTERN) return 'must be a size: a number with B, KiB, MiB or GiB, such as 64MiB';
  if (pattern === DURATION_PATTERN) return 'must be a duration: a number with ms, s, m, h or d, such as 5s';
  if (pattern === LISTEN_PATTERN) return 'must be an address and a port, such as 127.0.0.1:7180 or [::1]:7180';
  return message;
};

const checkSchema = (document: unknown): Checked => {
  // The library stops at 8 problems otherwise.
  TypeBoxSettings.Set({ maxErrors: MAX_PROBLEMS });
  const problems: string[] = [];
  const faulty = new Set<string>();
  for (const { keyword, instancePath, schemaPath, message, params } of checker.Errors(document)) {
    // Each unknown member makes an error of its own, and all of one object together the one that is told.
    if (keyword === 'boolean' && message === 'schema is false') continue;
    const at = instancePath === '' ? '/' : instancePath;
    if (keyword === 'additionalProperties') {
      problems.push(`${at}: unknown key ${namesIn(params, 'additionalProperties').join(', ')}`);
      continue;
    }
    problems.push(`${at}: ${expectation(keyword, schemaPath, message, params)}`);
    if (keyword !== 'required') faulty.add(instancePath);
    else for (const name of namesIn(params, 'requiredProperties')) faulty.add(`${instancePath}/${name}`);
  }
  return { problems, faulty };
};

/** False for a member that is faulty itself, or stands in one that is. */
const isSoundIn =
  (faulty: ReadonlySet<string>) =>
  (...pointers: readonly string[]): boolean =>
    pointers.every((pointer) => {
      for (let at = pointer; at !== ''; at = at.slice(0, at.lastIndexOf('/'))) if (faulty.has(at)) return false;
      return true;
    });

const deepFreeze = <T>(value: T): T => {
  if (typeof value === 'object' && value !== null && !Object.isFrozen(value)) {
    Object.freeze(value);
    for (const member of Object.values(value)) deepFreeze(member);
  }
  return value;
};

/**
 * Reads `edict.yaml`, lays the environment over it, adds defaults, checks it whole, and, for the `services` that are to
 * be started with it, that their listeners may be opened and the files that they need are there.
 * Throws `settings_invalid` with every problem found (`details.problems`), each beginning with its JSON pointer
 * or the name of its variable.
 */
export const loadSettings = (
  options: {
    readonly file?: string | undefined;
    readonly environment?: NodeJS.ProcessEnv;
    readonly services?: readonly Service[];
  } = {},
): LoadedSettings => {
  const environment = options.environment ?? process.env;
  const named = options.file ?? environment['EDICT_CONFIG'];
  const file = named === undefined ? undefined : resolve(named);
  const fromFile = file === undefined ? {} : absolutePaths(readYaml(file), dirname(file));
  const merged = withEnvironment(isObject(fromFile) ? fromFile : {}, environment);
  const document: unknown = absolutePaths(Value.Default(SettingsSchema, structuredClone(merged)), process.cwd());
  const { problems, faulty } = checkSchema(document);
  const cross = [
    ...environmentProblems(environment),
    ...crossProblems(document as Settings, options.services ?? [], isSoundIn(faulty)),
    ...([...faulty].some((pointer) => /^\/(pdp|tenants)\b/.test(pointer)) ? [] : bundleProblems(document as Settings)),
  ];
  if (problems.length + cross.length > 0 || !checker.Check(document)) throw invalid([...problems, ...cross], file);
  return { settings: deepFreeze(document), ...(file === undefined ? {} : { file }) };
};

/** The tenants of the settings, without the system tenant; `default` when none is named. */
export const tenantNames = (settings: Settings): readonly string[] => {
  const names = Object.keys(settings.tenants);
  return names.length === 0 ? ['default'] : names;
};

/** True when the database is the embedded one. */
export const isEmbedded = (settings: Settings): boolean => settings.database.writer_url_file === undefined;
