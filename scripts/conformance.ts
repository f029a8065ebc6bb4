// Runs OPA's conformance cases and generated calls of built-ins on Edict's policy engine, and compares with OPA itself.
// Usage: npm run conformance -- [--only cases|probes] [--area NAME] [--limit N] [--builtin NAME] [--probes N] [--json]
import { writeFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { SingleBar } from 'cli-progress';
import { Command, InvalidArgumentError, Option } from 'commander';
import { format, resolveConfig } from 'prettier';
import { BUILTINS } from '../services/pdp/policy/engine/builtins.ts';
import { judgedCases, surpriseOf, type JudgedCase } from './conformance/cases.ts';
import { startOracle } from './conformance/oracle.ts';
import { PROBED_BUILTINS } from './conformance/probes/generate.ts';
import { makeMaterial } from './conformance/probes/material.ts';
import { probe, type ProbeTally } from './conformance/probes/run.ts';
import {
  areasOf,
  areasText,
  conformancePage,
  differencesText,
  isAsset,
  openText,
  probesText,
  totalOf,
} from './conformance/report.ts';

const ALL_CASES = 4427 + 369;
/** Of the calls of built-ins that must be equal. */
const LEAST_EQUAL = 0.98;
const LEAST_PROBES = 3000;
const PROGRESS_EVERY = 500;

const page = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '..', 'docs', 'conformance.md');

interface Options {
  readonly only?: 'cases' | 'probes';
  readonly area?: string;
  readonly limit?: number;
  readonly builtin?: string;
  readonly probes: number;
  readonly seed: number;
  readonly workers: number;
  readonly json?: boolean;
}

const positive = (text: string): number => {
  const value = Number(text);
  if (!Number.isInteger(value) || value < 1) throw new InvalidArgumentError('a whole number above zero');
  return value;
};

/** A bar on a terminal, else a line now and then, on standard error. */
const progressOf = (title: string, total: number): { readonly tick: () => void; readonly end: () => void } => {
  let done = 0;
  if (process.stderr.isTTY) {
    const bar = new SingleBar({ format: `${title} {bar} {value}/{total}`, stream: process.stderr, hideCursor: true });
    bar.start(total, 0);
    return { tick: () => bar.increment(), end: () => bar.stop() };
  }
  return {
    tick: () => {
      done += 1;
      if (done % PROGRESS_EVERY === 0) process.stderr.write(`conformance: ${done} of ${total} ${title}\n`);
    },
    end: () => undefined,
  };
};

const runCases = async ({ area, limit, workers }: Options): Promise<readonly JudgedCase[]> => {
  const cases: JudgedCase[] = [];
  const progress = progressOf('cases', limit ?? ALL_CASES);
  for await (const test of judgedCases({ area, limit, workers }, BUILTINS)) {
    cases.push(test);
    progress.tick();
  }
  progress.end();
  return cases;
};

const runProbes = async ({ builtin, probes: count, seed }: Options): Promise<readonly ProbeTally[]> => {
  const oracle = startOracle();
  try {
    const material = makeMaterial();
    const names = PROBED_BUILTINS.filter((name) => builtin === undefined || name === builtin);
    const progress = progressOf('built-ins', names.length);
    const tallies: ProbeTally[] = [];
    for (const name of names) {
      tallies.push(await probe(name, { oracle, builtins: BUILTINS, material, count, seed }));
      progress.tick();
    }
    progress.end();
    return tallies;
  } finally {
    oracle.close();
  }
};

const probeProblems = (tallies: readonly ProbeTally[], isWhole: boolean): readonly string[] => {
  const total = tallies.reduce((sum, tally) => sum + tally.total, 0);
  const equal = total - tallies.reduce((sum, { differences }) => sum + differences.length, 0);
  const problems: string[] = [];
  if (equal < LEAST_EQUAL * total)
    problems.push(`${equal} of ${total} calls are equal, ${LEAST_EQUAL * 100} % must be`);
  if (isWhole && total < LEAST_PROBES) problems.push(`${total} calls, at least ${LEAST_PROBES} are needed`);
  return problems;
};

const writePage = async (cases: readonly JudgedCase[], tallies: readonly ProbeTally[], seed: number): Promise<void> => {
  const text = conformancePage(cases, tallies, seed);
  writeFileSync(page, await format(text, { ...(await resolveConfig(page)), parser: 'markdown' }));
};

const run = async (options: Options): Promise<void> => {
  const { only, json } = options;
  const cases = only === 'probes' ? [] : await runCases(options);
  const tallies = only === 'cases' ? [] : await runProbes(options);
  const isWholeProbing = only !== 'cases' && options.builtin === undefined;
  const isWhole = isWholeProbing && only === undefined && options.area === undefined && options.limit === undefined;
  const problems = [
    ...cases.flatMap((test) => surpriseOf(test) ?? []),
    ...probeProblems(tallies, isWholeProbing),
    ...(isWhole && cases.length !== ALL_CASES ? [`${cases.length} cases, ${ALL_CASES} expected`] : []),
  ];
  if (isWhole) await writePage(cases, tallies, options.seed);

  const suite = totalOf(cases.filter((test) => !isAsset(test)));
  const assets = totalOf(cases.filter(isAsset));
  if (json === true) {
    process.stdout.write(`${JSON.stringify({ suite, assets, areas: areasOf(cases), cases, tallies, problems })}\n`);
  } else {
    const { sdk, stubbed, topdown, ours } = suite.by;
    if (cases.length > 0) process.stdout.write(`${areasText(areasOf(cases))}\n${openText(cases)}\n`);
    if (tallies.length > 0) {
      const total = tallies.reduce((sum, tally) => sum + tally.total, 0);
      const different = tallies.reduce((sum, { differences }) => sum + differences.length, 0);
      process.stdout.write(`${probesText(tallies)}\n${differencesText(tallies)}\n`);
      process.stdout.write(`calls of built-ins: ${total - different} of ${total} equal\n`);
    }
    for (const problem of problems) process.stdout.write(`not as promised: ${problem}\n`);
    if (cases.length > 0) {
      const { passed, failed, refused } = assets.by.ours;
      process.stdout.write(
        `assets: ${passed} passed, ${failed} failed, ${refused} refused, of ${assets.cases}\n` +
          `beside: SDK ${sdk.passed}, without built-ins ${stubbed.passed}, interpreter ${topdown.passed}, ` +
          `of ${suite.cases}\n` +
          `${ours.passed} passed, ${ours.failed} failed, ${ours.refused} refused\n`,
      );
    }
  }
  if (problems.length > 0) process.exitCode = 1;
};

await new Command('conformance')
  .description("OPA's conformance cases, and generated calls of built-ins, against OPA itself")
  .addOption(new Option('--only <what>', 'one half of the run').choices(['cases', 'probes']))
  .option('--area <name>', 'only the cases of this area')
  .option('--limit <n>', 'at most so many cases', positive)
  .option('--builtin <name>', 'only calls of this built-in')
  .option('--probes <n>', 'calls of each built-in', positive, 60)
  .option('--seed <n>', 'for the generated calls', positive, 1)
  .addOption(new Option('--workers <n>', 'how many cases OPA compiles at a time').argParser(positive).default(1))
  .option('--json', 'everything as one JSON object')
  .action(run)
  .parseAsync();
