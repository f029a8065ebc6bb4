import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { Compile } from 'typebox/schema';
import { AppError, errorCode } from '../../shared/contracts/errors.ts';
import { isObject } from '../../shared/contracts/json.ts';
import type { RunOpa } from '../opa-binary.ts';
import { ALL_ERRORS, capabilitiesFile, problemsOf } from './opa-problems.ts';
import { NOT_IN_BUNDLE } from './policy-build.ts';
import { findDifferences, type PolicyWarning } from './policy-warnings.ts';
import { programOf } from './rego-kinds.ts';
import { parseModules } from './rego-syntax.ts';
import type { CoverageOfFile, CoverageReport, TestResult } from './policy-report.ts';

/** Everything but the tests is left out as in a build. */
const IGNORED = NOT_IN_BUNDLE.filter((pattern) => pattern !== '*_test.rego').flatMap((pattern) => [
  '--ignore',
  pattern,
]);

const schemaArgs = (policiesFolder: string): readonly string[] =>
  existsSync(path.join(policiesFolder, 'schemas')) ? ['--schema', 'schemas'] : [];

const readJsonFile = async (file: string): Promise<unknown> => {
  try {
    return JSON.parse(await readFile(file, 'utf8'));
  } catch (cause) {
    if (errorCode(cause) === 'ENOENT') return undefined;
    throw new AppError('usage', `${file} is no JSON`, { cause });
  }
};

/** `data.json`, member by member, against `schemas/<member>.json` where there is one. */
const checkData = async (policiesFolder: string): Promise<readonly string[]> => {
  const data = await readJsonFile(path.join(policiesFolder, 'data.json'));
  if (!isObject(data)) return data === undefined ? [] : ['data.json: not an object'];
  const problems: string[] = [];
  for (const [member, value] of Object.entries(data)) {
    if (!/^[a-z0-9_]+$/.test(member)) continue;
    const schema = await readJsonFile(path.join(policiesFolder, 'schemas', `${member}.json`));
    if (!isObject(schema)) continue;
    const [, faults] = Compile(schema).Errors(value);
    for (const fault of faults.slice(0, 20)) {
      problems.push(`data.json: /${member}${fault.instancePath} ${fault.message}`);
    }
  }
  return problems;
};

/**
 * Strict compilation against schemas and capabilities, and data against its schema. Gives the problems, a text each; those
 * of Rego begin with `file:row:col`.
 */
export const checkPolicies = async (runOpa: RunOpa, policiesFolder: string): Promise<readonly string[]> => {
  const args = ['check', '--strict', '--bundle', '--format', 'json', ...ALL_ERRORS, ...schemaArgs(policiesFolder)];
  const checked = await runOpa([...args, '--capabilities', capabilitiesFile(), ...IGNORED, '.'], {
    cwd: policiesFolder,
  });
  return [...problemsOf(checked), ...(await checkData(policiesFolder))];
};

/**
 * What of sound policies a module may do otherwise than OPA's interpreter, by their syntax trees, `data.json` and the
 * schema of the input.
 */
export const warnOfPolicies = async (runOpa: RunOpa, policiesFolder: string): Promise<readonly PolicyWarning[]> => {
  const modules = await parseModules(runOpa, policiesFolder, NOT_IN_BUNDLE);
  const [data, inputSchema, capabilities] = await Promise.all([
    readJsonFile(path.join(policiesFolder, 'data.json')),
    readJsonFile(path.join(policiesFolder, 'schemas', 'input.json')),
    readJsonFile(capabilitiesFile()),
  ]);
  return findDifferences(programOf(modules, { data, inputSchema, capabilities }));
};

/** Formats in place, or only lists what is not formatted. Gives those files, relative to the folder. */
export const formatPolicies = async (
  runOpa: RunOpa,
  policiesFolder: string,
  { write }: { readonly write: boolean },
): Promise<readonly string[]> => {
  const listed = await runOpa(['fmt', '--list', '.'], { cwd: policiesFolder });
  if (listed.exitCode !== 0) throw new AppError('bundle_invalid', (listed.stderr || listed.stdout).trim());
  if (write) {
    const written = await runOpa(['fmt', '--write', '.'], { cwd: policiesFolder });
    if (written.exitCode !== 0) throw new AppError('bundle_invalid', (written.stderr || written.stdout).trim());
  }
  return listed.stdout.split('\n').filter((line) => line !== '');
};

/** Of one test; OPA's own default is too short for a busy machine. */
const TEST_TIMEOUT = '120s';

interface OpaTest {
  readonly package: string;
  readonly name: string;
  readonly fail?: boolean;
  readonly skip?: boolean;
  readonly error?: unknown;
  readonly location?: { readonly file: string; readonly row: number };
}

const isTest = (value: unknown): value is OpaTest =>
  isObject(value) && typeof value['package'] === 'string' && typeof value['name'] === 'string';

const failuresOf = (test: OpaTest): readonly string[] => {
  if (test.error !== undefined && test.error !== null) return [`error: ${JSON.stringify(test.error)}`];
  if (test.skip === true) return ['skipped: a test that does not run proves nothing'];
  return test.fail === true ? ['the test has no true value'] : [];
};

const testArgs = (policiesFolder: string): readonly string[] => [
  'test',
  '--bundle',
  '.',
  '--timeout',
  TEST_TIMEOUT,
  ...schemaArgs(policiesFolder),
  ...IGNORED,
];

/** Runs `opa test`. Throws `bundle_invalid` when the policies do not compile. */
export const runOpaTests = async (runOpa: RunOpa, policiesFolder: string): Promise<readonly TestResult[]> => {
  const ran = await runOpa([...testArgs(policiesFolder), '--format', 'json'], { cwd: policiesFolder });
  let parsed: unknown;
  try {
    parsed = JSON.parse(ran.stdout || 'null');
  } catch {
    parsed = undefined;
  }
  // OPA prints nothing, or null, when it found no test; exit code 2 is a failed test.
  if (ran.exitCode !== 0 && !Array.isArray(parsed)) {
    throw new AppError('bundle_invalid', `opa test failed:\n${(ran.stderr || ran.stdout).trim()}`);
  }
  return (Array.isArray(parsed) ? parsed : []).filter(isTest).map((test) => {
    const failures = failuresOf(test);
    const location = test.location === undefined ? {} : { location: `${test.location.file}:${test.location.row}` };
    return { suite: test.package, name: test.name, passed: failures.length === 0, failures, ...location };
  });
};

const rowOf = (range: unknown, end: 'start' | 'end'): number => {
  const at = isObject(range) ? range[end] : undefined;
  return isObject(at) && typeof at['row'] === 'number' ? at['row'] : 0;
};

/** OPA names nested expressions one by one; a person wants stretches of rows. */
const mergeGaps = (ranges: readonly (readonly [number, number])[]): readonly (readonly [number, number])[] => {
  const merged: [number, number][] = [];
  for (const [from, to] of [...ranges].sort((a, b) => a[0] - b[0])) {
    const last = merged.at(-1);
    if (last !== undefined && from <= last[1] + 1) last[1] = Math.max(last[1], to);
    else merged.push([from, to]);
  }
  return merged;
};

const numberOf = (value: unknown): number => (typeof value === 'number' ? value : 0);

/**
 * Runs `opa test --coverage` and counts the lines of policies, tests left out. For tests that all pass: OPA reports no
 * coverage otherwise. Throws `bundle_invalid` when it does not report.
 */
export const measureCoverage = async (
  runOpa: RunOpa,
  policiesFolder: string,
  threshold: number,
): Promise<CoverageReport> => {
  const ran = await runOpa([...testArgs(policiesFolder), '--coverage', '--format', 'json'], { cwd: policiesFolder });
  let parsed: unknown;
  try {
    parsed = JSON.parse(ran.stdout);
  } catch {
    parsed = undefined;
  }
  if (!isObject(parsed)) {
    throw new AppError('bundle_invalid', `opa test --coverage failed:\n${(ran.stderr || ran.stdout).trim()}`);
  }
  const byFile = isObject(parsed['files']) ? parsed['files'] : {};
  const files: readonly CoverageOfFile[] = Object.entries(byFile)
    .filter(([file]) => !file.endsWith('_test.rego'))
    .map(([file, report]) => {
      const { covered_lines, not_covered_lines, not_covered } = isObject(report) ? report : {};
      const gaps = Array.isArray(not_covered) ? not_covered : [];
      return {
        file: file.replace(/^\.?\//, ''),
        covered: numberOf(covered_lines),
        notCovered: numberOf(not_covered_lines),
        gaps: mergeGaps(gaps.map((range) => [rowOf(range, 'start'), rowOf(range, 'end')])),
      };
    })
    .sort((a, b) => (a.file < b.file ? -1 : 1));
  const covered = files.reduce((sum, file) => sum + file.covered, 0);
  const all = files.reduce((sum, file) => sum + file.covered + file.notCovered, 0);
  // No line at all means that nothing was measured, which is no proof of anything.
  return { percent: all === 0 ? 0 : (covered / all) * 100, threshold, files };
};
