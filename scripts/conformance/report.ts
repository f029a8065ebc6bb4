import { WASM_DIFFERENCES } from '../../services/cli/wasm-differences.ts';
import { RUNNERS, type JudgedCase, type Runner } from './cases.ts';
import type { Verdict } from './judge.ts';
import { OPEN_CASES } from './open-cases.ts';
import type { Difference, ProbeTally } from './probes/run.ts';

/** How many of some cases ended in each way. */
export interface Count {
  readonly passed: number;
  readonly failed: number;
  readonly refused: number;
}

export interface AreaCounts {
  readonly area: string;
  readonly cases: number;
  readonly by: Readonly<Record<Runner, Count>>;
}

const countOf = (kinds: readonly Verdict['kind'][]): Count => ({
  passed: kinds.filter((kind) => kind === 'passed').length,
  failed: kinds.filter((kind) => kind === 'failed').length,
  refused: kinds.filter((kind) => kind === 'refused').length,
});

const countsOf = (area: string, cases: readonly JudgedCase[]): AreaCounts => {
  const by = Object.fromEntries(
    RUNNERS.map((runner) => [runner, countOf(cases.map(({ verdicts }) => verdicts[runner].kind))]),
  ) as Record<Runner, Count>;
  return { area, cases: cases.length, by };
};

/** The cases of v0 and v1, whose folders have the same names, and the assets apart from them. */
export const isAsset = ({ set }: JudgedCase): boolean => set === 'assets';

export const totalOf = (cases: readonly JudgedCase[]): AreaCounts => countsOf('all', cases);

/** By area, in alphabetical order. */
export const areasOf = (cases: readonly JudgedCase[]): readonly AreaCounts[] => {
  const grouped = new Map<string, JudgedCase[]>();
  for (const test of cases) {
    const group = grouped.get(test.area);
    if (group === undefined) grouped.set(test.area, [test]);
    else group.push(test);
  }
  return [...grouped.keys()].sort().map((area) => countsOf(area, grouped.get(area) ?? []));
};

const pad = (cells: readonly string[], widths: readonly number[]): string =>
  cells
    .map((cell, index) => (index === 0 ? cell.padEnd(widths[index] ?? 0) : cell.padStart(widths[index] ?? 0)))
    .join('  ')
    .trimEnd();

/** Columns of equal width, the first to the left. */
export const columns = (rows: readonly (readonly string[])[]): string => {
  const widths = (rows[0] ?? []).map((_, index) => Math.max(...rows.map((row) => (row[index] ?? '').length)));
  return rows.map((row) => `${pad(row, widths)}\n`).join('');
};

export const areasText = (areas: readonly AreaCounts[]): string =>
  columns([
    ['area', 'cases', 'passed', 'failed', 'refused', 'sdk', 'stubbed', 'topdown'],
    ...areas.map(({ area, cases, by: { ours, sdk, stubbed, topdown } }) =>
      [area, cases, ours.passed, ours.failed, ours.refused, sdk.passed, stubbed.passed, topdown.passed].map(String),
    ),
  ]);

/** Every case that our host did not pass, with why not. */
export const openText = (cases: readonly JudgedCase[]): string =>
  cases
    .flatMap(({ name, verdicts: { ours } }) =>
      ours.kind === 'passed' ? [] : [`${ours.kind}  ${name}\n    ${OPEN_CASES.get(name) ?? ours.reason}\n`],
    )
    .join('');

export const probesText = (tallies: readonly ProbeTally[]): string =>
  columns([
    ['built-in', 'equal', 'probes'],
    ...tallies.map(({ name, total, differences }) => [name, String(total - differences.length), String(total)]),
  ]);

const PRINTED_CHARS = 240;
const LAST_CHARS = 40;

/** Both ends of a text that is too long to be read, such as a power of ten in full; `--json` has all of it. */
const ends = (text: string): string =>
  text.length <= PRINTED_CHARS
    ? text
    : `${text.slice(0, PRINTED_CHARS - LAST_CHARS)} … ${text.slice(-LAST_CHARS)} (${text.length} characters)`;

export const differencesText = (tallies: readonly ProbeTally[]): string =>
  tallies
    .flatMap(({ differences }) => differences)
    .map(({ call, wanted, given }) => `${ends(call)}\n    OPA:  ${ends(wanted)}\n    ours: ${ends(given)}\n`)
    .join('');

const table = (header: readonly string[], rows: readonly (readonly string[])[]): string =>
  [header, header.map((_, index) => (index === 0 ? '---' : '--:')), ...rows]
    .map((cells) => `| ${cells.join(' | ')} |\n`)
    .join('');

const CALL_CHARS = 200;
/** Keys and signatures are other ones in each run, and would say nothing to a reader. */
const LONG_WORD = /(?:[A-Za-z0-9+/_=-]|\\n){48,}/g;

const code = (text: string): string => {
  const short = text.replace(LONG_WORD, '…');
  const cut = short.length > CALL_CHARS ? `${short.slice(0, CALL_CHARS)} …` : short;
  // A fence longer than what is inside; a bar would end the cell of a table.
  const fence = '`'.repeat(Math.max(0, ...[...cut.matchAll(/`+/g)].map(([run]) => run.length)) + 1);
  const room = cut.startsWith('`') || cut.endsWith('`') ? ' ' : '';
  return `${fence}${room}${cut}${room}${fence}`;
};

const differenceLine = ({ call, wanted, given }: Difference): string =>
  `- ${code(call)}: OPA ${code(wanted)}, ours ${code(given)}\n`;

const isDull = ({ cases, by }: AreaCounts): boolean => RUNNERS.every((runner) => by[runner].passed === cases);

const areasTable = (areas: readonly AreaCounts[]): string => {
  const [dull, telling] = [areas.filter(isDull), areas.filter((area) => !isDull(area))];
  const rest = `${dull.length} other areas`;
  const restCases = String(dull.reduce((sum, { cases }) => sum + cases, 0));
  return table(
    ['area', 'cases', 'Edict', 'SDK', 'no built-ins'],
    [
      ...telling.map(({ area, cases, by: { ours, sdk, stubbed } }) =>
        [area, cases, ours.passed, sdk.passed, stubbed.passed].map(String),
      ),
      [rest, restCases, restCases, restCases, restCases],
    ],
  );
};

const totalRow = (title: string, { cases, by: { ours, sdk, stubbed, topdown } }: AreaCounts): readonly string[] =>
  [title, cases, ours.passed, ours.failed, ours.refused, sdk.passed, stubbed.passed, topdown.passed].map(String);

/** What OPA compiles into each module is not the host's: no table of built-ins reaches it. Found by `npm run fuzz`. */
const modulesThemselves = (): string => `## In the modules themselves

Most of Rego, and 98 built-ins, is code that OPA compiles into a module. Where it does otherwise than the interpreter
([differences.md](differences.md) says what, and how to avoid it):

${WASM_DIFFERENCES.map(({ id, title }) => `- [\`${id}\`](differences.md#${id}): ${title}\n`).join('')}`;

/** The page that the command writes: what was measured, nothing of when or where. */
export const conformancePage = (cases: readonly JudgedCase[], tallies: readonly ProbeTally[], seed: number): string => {
  const suite = cases.filter((test) => !isAsset(test));
  const assets = cases.filter(isAsset);
  const probes = tallies.reduce((sum, { total }) => sum + total, 0);
  const different = tallies.reduce((sum, { differences }) => sum + differences.length, 0);
  const share = ((100 * (probes - different)) / probes).toFixed(2);
  const open = tallies.filter(({ differences }) => differences.length > 0);
  return `# Conformance with OPA 1.22.2

Written by \`npm run conformance\`; not edited by hand. It compiles OPA's own conformance cases with OPA, runs each
module on Edict's host, and beside it on the npm package \`@open-policy-agent/opa-wasm\`, on Edict's host with a table
of built-ins that always answer undefined, and the policy itself in OPA's interpreter. An answer must be equal: sets as
sets, numbers by their exact value. From the SDK, which turns sets into arrays, arrays are taken in any order.

The column without built-ins says how much the cases prove: a case that expects an error of a built-in expects, of a
compiled policy, no result. The calls further below are compared one by one for that reason.

## Cases

${table(
  ['set', 'cases', 'passed', 'failed', 'refused', 'SDK', 'no built-ins', 'interpreter'],
  [totalRow('v0 and v1', totalOf(suite)), totalRow("for compiled policies ('assets')", totalOf(assets))],
)}
### By area

${areasTable(areasOf(suite))}
### Open cases

${[...OPEN_CASES].map(([name, reason]) => `- ${code(name)}: ${reason}\n`).join('')}
## Calls of built-ins

${probes} generated calls (seed ${seed}), ${probes - different} equal (${share} %). Each is compiled, runs on Edict's
host and in OPA's interpreter with the same arguments, right and wrong ones; value or undefined must be the same. Where
the interpreter fails or panics, a value is wrong.

${table(
  ['built-in', 'calls', 'equal'],
  tallies.map(({ name, total, differences }) => [code(name), String(total), String(total - differences.length)]),
)}
### Open differences

${open.length === 0 ? 'None.\n' : open.flatMap(({ differences }) => differences.map(differenceLine)).join('')}
${modulesThemselves()}`;
};
