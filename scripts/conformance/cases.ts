import type { Builtins } from '../../services/pdp/policy/engine/builtin.ts';
import { answersUndefined, runOwn, runSdk, type Evaluation, type TestBuiltins } from './engines.ts';
import type { Value } from '../../services/pdp/policy/engine/value.ts';
import { judge, judgeTopdown, type Verdict } from './judge.ts';
import { nameOf, OPEN_CASES } from './open-cases.ts';
import { compiledCases, type CaseSelection, type CompiledCase } from './oracle.ts';

/** Who runs a case: our host, the SDK, our host with a table that is always undefined, OPA's interpreter. */
export const RUNNERS = ['ours', 'sdk', 'stubbed', 'topdown'] as const;
export type Runner = (typeof RUNNERS)[number];

export interface JudgedCase {
  readonly name: string;
  readonly set: CompiledCase['set'];
  readonly area: string;
  readonly verdicts: Readonly<Record<Runner, Verdict>>;
}

/** What the runners of OPA's cases supply beside OPA's own built-ins; a table serves one evaluation. */
const testBuiltins = (): TestBuiltins => {
  let isMemoized = false;
  return {
    'test.sleep': () => null,
    custom_builtin_test: (value) => Number(value) + 1,
    custom_builtin_test_impure: () => 'foo',
    custom_builtin_test_memoization: () => {
      if (isMemoized) throw new Error('called a second time');
      isMemoized = true;
      return 100;
    },
  };
};

const withTestBuiltins = (builtins: Builtins): Builtins => ({
  ...builtins,
  ...Object.fromEntries(
    Object.entries(testBuiltins()).map(([name, call]) => [
      name,
      (_context: unknown, ...args: readonly Value[]) => call(args[0]),
    ]),
  ),
});

const NOT_COMPILED = 'OPA did not compile it: ';

const judgeCase = async (test: CompiledCase, builtins: Builtins): Promise<JudgedCase> => {
  const { set, area } = test;
  const name = nameOf(test);
  if (test.wasm === undefined) {
    const verdict: Verdict = { kind: 'failed', reason: `${NOT_COMPILED}${test.compileError ?? ''}` };
    return { name, set, area, verdicts: { ours: verdict, sdk: verdict, stubbed: verdict, topdown: verdict } };
  }
  const evaluation: Evaluation = { wasm: Buffer.from(test.wasm, 'base64'), data: test.data, input: test.input };
  const { outcome: ours, asksHost } = await runOwn(evaluation, withTestBuiltins(builtins));
  const sdk = await runSdk(evaluation, testBuiltins());
  // A module that asks for nothing cannot tell the tables apart.
  const stubbed = asksHost === false ? ours : (await runOwn(evaluation, answersUndefined)).outcome;
  return {
    name,
    set,
    area,
    verdicts: {
      ours: judge(test, ours),
      sdk: judge(test, sdk, { anyOrder: true }),
      stubbed: judge(test, stubbed),
      topdown: judgeTopdown(test),
    },
  };
};

/** Compiles, runs and judges case after case. */
export const judgedCases = async function* (selection: CaseSelection, builtins: Builtins): AsyncGenerator<JudgedCase> {
  for await (const test of compiledCases(selection)) yield await judgeCase(test, builtins);
};

/** Where the outcome is not the promised one: a case outside the list did not pass, or a listed one did. */
export const surpriseOf = ({ name, verdicts: { ours } }: JudgedCase): string | undefined => {
  const listed = OPEN_CASES.get(name);
  if (listed === undefined) return ours.kind === 'passed' ? undefined : `${name}: ${ours.kind}: ${ours.reason}`;
  return ours.kind === 'passed' ? `${name}: passes, but is listed as open (${listed})` : undefined;
};
