// Looks for policies that Edict's engine evaluates otherwise than OPA's interpreter.
// Usage: npm run fuzz -- engine [--minutes N] [--seed N] [--most N]
import { Command, InvalidArgumentError } from 'commander';
import type { DifferenceId } from '../services/cli/wasm-differences.ts';
import { BUILTINS } from '../services/pdp/policy/engine/builtins.ts';
import { printValue } from '../services/pdp/policy/engine/value-text.ts';
import { startOracle } from './conformance/oracle.ts';
import { randomOf } from './conformance/probes/random.ts';
import { compareOn, NOT_GENERATED, shrink, type Comparison } from './fuzz/engine.ts';
import { fuzzCaseOf, sourceOf, type FuzzCase } from './fuzz/policy.ts';

const MS_PER_MINUTE = 60_000;
const PROGRESS_MS = 10_000;

interface Options {
  readonly minutes: number;
  readonly seed: number;
  readonly most: number;
}

const positive = (text: string): number => {
  const value = Number(text);
  if (!(value > 0)) throw new InvalidArgumentError('a number above zero');
  return value;
};

const describe = (seed: number, { rules, data, input }: FuzzCase, comparison: Comparison): string =>
  [
    `--- seed ${seed} (npm run fuzz -- engine --seed ${seed} --most 1)`,
    sourceOf(rules),
    `data:  ${printValue(data)}`,
    `input: ${printValue(input)}`,
    ...(comparison.kind === 'different' ? [`OPA:   ${comparison.wanted}`, `ours:  ${comparison.given}`] : []),
    '',
  ].join('\n');

const fuzzEngine = async ({ minutes, seed: first, most }: Options): Promise<void> => {
  const oracle = startOracle();
  const counts: Record<Comparison['kind'], number> = { same: 0, documented: 0, different: 0, skipped: 0 };
  const passedOver: Partial<Record<DifferenceId, number>> = {};
  const compare = (test: FuzzCase): Promise<Comparison> => compareOn(oracle, BUILTINS, test);
  const endsMs = performance.now() + minutes * MS_PER_MINUTE;
  let toldMs = performance.now();
  for (let seed = first; seed < first + most && performance.now() < endsMs; seed += 1) {
    const test = fuzzCaseOf(randomOf(seed));
    const comparison = await compare(test);
    counts[comparison.kind] += 1;
    if (comparison.kind === 'documented') for (const id of comparison.by) passedOver[id] = (passedOver[id] ?? 0) + 1;
    if (comparison.kind === 'different') {
      const smallest = await shrink(test, async (candidate) => (await compare(candidate)).kind === 'different');
      process.stdout.write(`${describe(seed, smallest, await compare(smallest))}\n`);
    }
    if (performance.now() - toldMs > PROGRESS_MS) {
      toldMs = performance.now();
      process.stderr.write(`fuzz: ${seed - first + 1} policies, ${counts.different} different\n`);
    }
  }
  oracle.close();
  const { same, documented, different, skipped } = counts;
  const names = Object.entries(passedOver).map(([id, count]) => `${id} ${count}`);
  process.stdout.write(`passed over (docs/differences.md): ${names.join(', ') || 'none'}\n`);
  process.stdout.write(`not generated: ${NOT_GENERATED.join(', ')}\n`);
  process.stdout.write(
    `${same} same, ${documented} with documented differences, ${skipped} that do not load, ${different} different\n`,
  );
  if (different > 0) process.exitCode = 1;
};

const program = new Command('fuzz').description('generated cases, against a second implementation');
program
  .command('engine')
  .description("small policies with their documents, on Edict's engine and in OPA's interpreter")
  .option('--minutes <n>', 'how long', positive, 1)
  .option('--seed <n>', 'where to begin', positive, 1)
  .option('--most <n>', 'at most so many policies', positive, Number.MAX_SAFE_INTEGER)
  .action(fuzzEngine);
await program.parseAsync();
