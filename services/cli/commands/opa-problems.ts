import path from 'node:path';
import { isObject } from '../../shared/contracts/json.ts';
import { packageFolder, type OpaResult } from '../opa-binary.ts';

/** OPA's built-ins less those that the production host would refuse. */
export const capabilitiesFile = (): string => path.join(packageFolder(), 'services', 'cli', 'opa-capabilities.json');

/** OPA stops after ten. */
export const ALL_ERRORS = ['--max-errors', '1000'] as const;

const DETAIL_CHARS = 500;

/** What OPA has and Edict does not, deprecated ones aside, and why. */
export const NOT_SUPPLIED: Readonly<Record<string, string>> = {
  'http.send': 'a decision waits for no network',
  'net.lookup_ip_addr': 'a decision waits for no network',
  'rego.parse_module': 'a decision compiles nothing',
};

/** OPA knows only the built-ins that it is told of, and calls the others undefined, as it does what nobody has. */
const whyUndefined = (message: unknown): string => {
  const name = /^undefined function (\S+)$/.exec(String(message))?.[1];
  const why = name === undefined || !Object.hasOwn(NOT_SUPPLIED, name) ? undefined : NOT_SUPPLIED[name];
  return why === undefined ? '' : `; Edict does not supply it: ${why} (docs/engine.md)`;
};

const problemOf = (error: unknown): string => {
  if (!isObject(error)) return String(error);
  const { message, code, location, details } = error;
  const { file, row, col } = isObject(location) ? location : {};
  const where = typeof file === 'string' && file !== '' ? `${file}:${String(row)}:${String(col)}: ` : '';
  const more = details === undefined || details === null ? '' : ` (${JSON.stringify(details).slice(0, DETAIL_CHARS)})`;
  return `${where}${String(code)}: ${String(message)}${whyUndefined(message)}${more}`;
};

/** What `opa check --format json` found, `file:row:col: code: message` each; its own text where it wrote no JSON. */
export const problemsOf = ({ exitCode, stdout, stderr }: OpaResult): readonly string[] => {
  if (exitCode === 0) return [];
  const text = (stderr || stdout).trim();
  try {
    const document: unknown = JSON.parse(text);
    const errors = isObject(document) ? document['errors'] : undefined;
    if (Array.isArray(errors) && errors.length > 0) return errors.map(problemOf);
  } catch {
    // A failure before anything was compiled is told in words.
  }
  return [text];
};
