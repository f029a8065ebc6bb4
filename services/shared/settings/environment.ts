import type { TSchema } from 'typebox';
import { isObject } from '../contracts/json.ts';
import { SettingsSchema } from './schema.ts';

/** What else this repository reads from the environment. */
const OTHERS = ['EDICT_CONFIG', 'EDICT_DEBUG', 'EDICT_HEALTH_URL', 'EDICT_OPA'];
const TESTS = 'EDICT_TEST_';
/** What Kubernetes tells every container of services whose names begin with `edict`. */
const SERVICE_LINK = /^EDICT_(\w+_)?(SERVICE_(HOST|PORT(_\w+)?)|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)$/;
const SERVICE_URL = /^(tcp|udp|sctp):\/\//;

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

/** A document of settings with what the environment says laid over it. */
export const withEnvironment = (
  document: Readonly<Record<string, unknown>>,
  environment: NodeJS.ProcessEnv,
  schema: TSchema = SettingsSchema,
  path: readonly string[] = [],
): Readonly<Record<string, unknown>> => {
  const out: Record<string, unknown> = { ...document };
  for (const [name, member] of Object.entries(propertiesOf(schema) ?? {})) {
    const here = [...path, name];
    const below = out[name];
    if (propertiesOf(member) !== undefined) {
      if (below !== undefined && !isObject(below)) continue;
      const merged = withEnvironment(below ?? {}, environment, member, here);
      if (below !== undefined || Object.keys(merged).length > 0) out[name] = merged;
      continue;
    }
    const text = environment[variableName(here)];
    if (text !== undefined) out[name] = scalarOf(member, text);
  }
  return out;
};

const variablesOf = (schema: TSchema, path: readonly string[] = []): readonly string[] =>
  Object.entries(propertiesOf(schema) ?? {}).flatMap(([name, member]) =>
    propertiesOf(member) === undefined ? [variableName([...path, name])] : variablesOf(member, [...path, name]),
  );
const KNOWN: ReadonlySet<string> = new Set([...OTHERS, ...variablesOf(SettingsSchema)]);

/** Letters to be put in, taken out or replaced until one text is the other (Levenshtein). */
const distance = (a: string, b: string): number => {
  let above = Array.from({ length: b.length + 1 }, (_, n) => n);
  for (let i = 0; i < a.length; i += 1) {
    const row = [i + 1];
    for (let n = 0; n < b.length; n += 1) {
      const replaced = (above[n] ?? 0) + (a[i] === b[n] ? 0 : 1);
      row.push(Math.min(replaced, (above[n + 1] ?? 0) + 1, (row[n] ?? 0) + 1));
    }
    above = row;
  }
  return above[b.length] ?? 0;
};

const MAX_NAME_CHARS = 128;

const nearestTo = (name: string): string =>
  [...KNOWN]
    .map((known) => ({ known, far: distance(name.slice(0, MAX_NAME_CHARS), known) }))
    .reduce((best, each) => (each.far < best.far ? each : best)).known;

const isKnown = (name: string, value: string): boolean =>
  KNOWN.has(name) ||
  name.startsWith(TESTS) ||
  SERVICE_LINK.test(name) ||
  (name.endsWith('_PORT') && SERVICE_URL.test(value));

/** Variables that nothing reads: a misspelt one must not leave a default in force in silence. */
export const environmentProblems = (environment: NodeJS.ProcessEnv): readonly string[] =>
  Object.entries(environment)
    .filter(([name, value = '']) => name.startsWith('EDICT_') && !isKnown(name, value))
    .map(
      ([name]) => `${name.slice(0, MAX_NAME_CHARS)}: no setting has this variable; the nearest is ${nearestTo(name)}`,
    );
