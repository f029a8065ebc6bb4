import path from 'node:path';
import { isObject } from '../../shared/contracts/json.ts';
import { packageFolder, type OpaResult } from '../opa-binary.ts';

/** OPA's built-ins less those that the production host would refuse. */
export const capabilitiesFile = (): string => path.join(packageFolder(), 'services', 'cli', 'opa-capabilities.json');

/** OPA stops after ten. */
export const ALL_ERRORS = ['--max-errors', '1000'] as const;

const DETAIL_CHARS = 500;

const problemOf = (error: unknown): string => {
  if (!isObject(error)) return String(error);
  const { message, code, location, details } = error;
  const { file, row, col } = isObject(location) ? location : {};
  const where = typeof file === 'string' && file !== '' ? `${file}:${String(row)}:${String(col)}: ` : '';
  const more = details === undefined || details === null ? '' : ` (${JSON.stringify(details).slice(0, DETAIL_CHARS)})`;
  return `${where}${String(code)}: ${String(message)}${more}`;
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
