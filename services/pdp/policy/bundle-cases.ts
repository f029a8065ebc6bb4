import { Type, type Static } from 'typebox';
import { Compile } from 'typebox/compile';
import { PolicyInput, type PolicyOutput } from '../../shared/contracts/policy-io.ts';
import type { Evaluate } from '../core/evaluate.ts';

const NS_PER_MS = 1_000_000;
const strict = { additionalProperties: false } as const;

/** A file of `cases/`: inputs and what the built bundle must answer on the production engine. */
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
export type Case = CaseFile['cases'][number];
type Expected = Case['expect'];

export const caseFileCheck = Compile(CaseFile);
const inputCheck = Compile(PolicyInput);

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

/** The whole input of a case, and the time of its evaluation; or what is wrong with it. */
export const inputOf = (
  each: Case,
  defaults: Readonly<Record<string, unknown>>,
): { readonly text: string; readonly nowMs: number } | { readonly problems: readonly string[] } => {
  const input: unknown = { ...defaults, ...each.input };
  if (!inputCheck.Check(input)) {
    const faults = inputCheck.Errors(input).slice(0, 5);
    return { problems: faults.map((fault) => `input: ${fault.instancePath || '/'} ${fault.message}`) };
  }
  return { text: JSON.stringify(input), nowMs: Math.floor(input.time.ns / NS_PER_MS) };
};

/** How a case came out on an engine: what differs, a line each; empty when nothing does. */
export const judge = (
  each: Case,
  defaults: Readonly<Record<string, unknown>>,
  evaluate: Evaluate,
): readonly string[] => {
  const input = inputOf(each, defaults);
  if ('problems' in input) return input.problems;
  const result = evaluate(input.text, input.nowMs);
  return result.outcome === 'fault'
    ? [`the policy gave no answer (${result.code}): ${result.message}`]
    : differences(each.expect, result.value);
};
