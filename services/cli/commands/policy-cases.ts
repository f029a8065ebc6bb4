import { readdir, readFile } from 'node:fs/promises';
import path from 'node:path';
import type { Evaluate } from '../../pdp/core/evaluate.ts';
import { caseFileCheck, judge, type CaseFile } from '../../pdp/policy/bundle-cases.ts';
import { AppError, errorCode } from '../../shared/contracts/errors.ts';
import type { TestResult } from './policy-report.ts';

export interface CasesOfFile {
  readonly file: string;
  readonly cases: CaseFile;
}

/** All `cases/*.json` of a policies folder, sorted; none when there is no such folder. Throws `usage` on a bad file. */
export const readCases = async (policiesFolder: string): Promise<readonly CasesOfFile[]> => {
  const folder = path.join(policiesFolder, 'cases');
  const names = await readdir(folder).catch((cause: unknown) => {
    if (errorCode(cause) === 'ENOENT') return [];
    throw new AppError('usage', `cannot read ${folder}`, { cause });
  });
  const files: CasesOfFile[] = [];
  for (const name of names.filter((each) => each.endsWith('.json')).sort()) {
    const file = path.join(folder, name);
    let parsed: unknown;
    try {
      parsed = JSON.parse(await readFile(file, 'utf8'));
    } catch (cause) {
      throw new AppError('usage', `${file} is no JSON`, { cause });
    }
    if (!caseFileCheck.Check(parsed)) {
      const [fault] = caseFileCheck.Errors(parsed);
      throw new AppError('usage', `${file}: ${fault?.instancePath || '/'} ${fault?.message ?? 'is wrong'}`);
    }
    files.push({ file, cases: parsed });
  }
  return files;
};

/** Runs every case on the evaluator of a built bundle. */
export const runCases = (files: readonly CasesOfFile[], evaluate: Evaluate): readonly TestResult[] =>
  files.flatMap(({ file, cases: { defaults = {}, cases } }) =>
    cases.map((each) => {
      const failures = judge(each, defaults, evaluate);
      return { suite: file, name: each.name, passed: failures.length === 0, failures };
    }),
  );
