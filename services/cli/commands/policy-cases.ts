import { readdir, readFile } from 'node:fs/promises';
import path from 'node:path';
import { Type, type Static } from 'typebox';
import { Compile } from 'typebox/compile';
import type { Evaluate } from '../../pdp/core/evaluate.ts';
import { AppError, errorCode } from '../../shared/contracts/errors.ts';
import { PolicyInput, type PolicyOutput } from '../../shared/contracts/policy-io.ts';
import type { TestResult } from './policy-report.ts';

const NS_PER_MS = 1_000_000;
const strict = { additionalProperties: false } as const;

/** A file of `policies/cases/`: inputs and what the built bundle must answer on the production engine. */
export const CaseFile = Type.Object(
  {
    /** Members of the policy input that every case has unless it gives its own; whole members, not merged. */
    defaults: Type.Optional(Type.Record(Type.String(), Type.Unknown())),
    cases: Type.Array(
      Type.Object(
        {
          name: Type.String({ minLength: 1 }),
          input: Type.Record(Type.String(), Type.Unknown()),
          expect: Type.Object(
            {
              allow: Type.Boolean(),
              /** All reasons, in any order; members that are left out are not compared. */
              reasons: Type.Optional(
                Type.Array(
                  Type.Object(
                    { code: Type.String(), leg: Type.Optional(Type.String()), rule: Type.Optional(Type.String()) },
                    strict,
                  ),
                ),
              ),
              /** Types of all obligations, in any order. */
              obligations: Type.Optional(Type.Array(Type.String())),
              legs: Type.Optional(Type.Record(Type.String(), Type.Boolean())),
            },
            strict,
          ),
        },
        strict,
      ),
      { minItems: 1 },
    ),
  },
  strict,
);
export type CaseFile = Static<typeof CaseFile>;
type Case = CaseFile['cases'][number];
type Expected = Case['expect'];

const caseFileCheck = Compile(CaseFile);
const inputCheck = Compile(PolicyInput);

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

const sameReasons = (expected: NonNullable<Expected['reasons']>, found: PolicyOutput['reasons']): boolean => {
  const left = [...found];
  for (const { code, leg, rule } of expected) {
    const at = left.findIndex(
      (reason) =>
        reason.code === code &&
        (leg === undefined || reason.leg === leg) &&
        (rule === undefined || reason.rule === rule),
    );
    if (at === -1) return false;
    left.splice(at, 1);
  }
  return left.length === 0;
};

const sorted = (list: readonly string[]): string => JSON.stringify([...list].sort());
const legsText = (legs: Readonly<Record<string, boolean>>): string =>
  sorted(Object.entries(legs).map(([leg, permitted]) => `${leg}=${permitted}`));

const differences = (expected: Expected, found: PolicyOutput): readonly string[] => {
  const lines: string[] = [];
  const differ = (what: string, want: unknown, got: unknown): void => {
    lines.push(`${what}: expected ${JSON.stringify(want)}, got ${JSON.stringify(got)}`);
  };
  if (found.allow !== expected.allow) differ('allow', expected.allow, found.allow);
  if (expected.reasons !== undefined && !sameReasons(expected.reasons, found.reasons)) {
    const shown = found.reasons.map(({ code, leg, rule }) => ({ code, leg, rule }));
    differ('reasons', expected.reasons, shown);
  } else if (lines.length > 0 && expected.reasons === undefined) {
    lines.push(`reasons given: ${JSON.stringify(found.reasons)}`);
  }
  const types = found.obligations.map((obligation) => obligation.type);
  if (expected.obligations !== undefined && sorted(expected.obligations) !== sorted(types)) {
    differ('obligations', expected.obligations, types);
  }
  if (expected.legs !== undefined && legsText(expected.legs) !== legsText(found.legs)) {
    differ('legs', expected.legs, found.legs);
  }
  return lines;
};

const judge = (each: Case, defaults: Readonly<Record<string, unknown>>, evaluate: Evaluate): readonly string[] => {
  const input: unknown = { ...defaults, ...each.input };
  if (!inputCheck.Check(input)) {
    return inputCheck
      .Errors(input)
      .slice(0, 5)
      .map((fault) => `input: ${fault.instancePath || '/'} ${fault.message}`);
  }
  const result = evaluate(JSON.stringify(input), Math.floor(input.time.ns / NS_PER_MS));
  return result.outcome === 'fault'
    ? [`the policy gave no answer (${result.code}): ${result.message}`]
    : differences(each.expect, result.value);
};

/** Runs every case on the evaluator of a built bundle. */
export const runCases = (files: readonly CasesOfFile[], evaluate: Evaluate): readonly TestResult[] =>
  files.flatMap(({ file, cases: { defaults = {}, cases } }) =>
    cases.map((each) => {
      const failures = judge(each, defaults, evaluate);
      return { suite: file, name: each.name, passed: failures.length === 0, failures };
    }),
  );
