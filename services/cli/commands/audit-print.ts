import type { Finding, Verdict, VerificationReport } from '../../audit/core/verify-report.ts';
import { hasFailed, VERDICTS } from '../../audit/core/verify-report.ts';
import type { Statement } from '../../audit/core/verify-window.ts';
import type { WitnessedVerdict } from '../../audit/core/verify-witnessed.ts';

/** Colours a text, or leaves it as it is. */
export interface Paint {
  readonly red: (text: string) => string;
  readonly green: (text: string) => string;
  readonly yellow: (text: string) => string;
  readonly bold: (text: string) => string;
}

/** Colours on a terminal only, and not when NO_COLOR is set to anything (no-color.org). */
export const paintFor = (stream: { readonly isTTY?: boolean }, environment: NodeJS.ProcessEnv): Paint => {
  const isColoured = stream.isTTY === true && (environment['NO_COLOR'] ?? '') === '' && environment['TERM'] !== 'dumb';
  const paint = (code: number) => (text: string) => (isColoured ? `\u001b[${code}m${text}\u001b[0m` : text);
  return { red: paint(31), green: paint(32), yellow: paint(33), bold: paint(1) };
};

/** Control characters, and what turns the direction of writing or breaks a line: hostile names must not move a cursor. */
// eslint-disable-next-line no-control-regex -- these characters are the point
const UNSAFE = /[\u0000-\u001f\u007f-\u009f\u00ad\u061c\u200b-\u200f\u2028-\u202f\u2060-\u206f\ufeff\ufff9-\ufffb]/gu;
/** As `UNSAFE`, without what JSON escapes by itself or uses between its members. */
const UNSAFE_IN_JSON = /[\u007f-\u009f\u00ad\u061c\u200b-\u200f\u2028-\u202f\u2060-\u206f\ufeff\ufff9-\ufffb]/gu;
const LONE_SURROGATE = /\p{Surrogate}/gu;

const escaped = (character: string): string => `\\u${(character.codePointAt(0) ?? 0).toString(16).padStart(4, '0')}`;

/** JSON text that a terminal cannot obey: the same JSON, with more of it escaped. */
export const printableJson = (json: string): string => json.replaceAll(UNSAFE_IN_JSON, escaped);

/** The text with every character escaped that a terminal could obey; its own backslashes are doubled. */
export const printable = (text: string): string =>
  text.replaceAll('\\', '\\\\').replaceAll(UNSAFE, escaped).replaceAll(LONE_SURROGATE, escaped);

/** One document a line. */
export const jsonLine = (value: unknown): string => `${printableJson(JSON.stringify(value))}\n`;

export const print = (text: string): void => {
  process.stdout.write(text);
};

const MAX_CELL = 40;

/** In code points: near enough to columns for a table. */
const lengthOf = (text: string): number => Array.from(text).length;

const cut = (text: string, max: number): string => {
  const characters = Array.from(text);
  return characters.length <= max ? text : `${characters.slice(0, max - 1).join('')}…`;
};

/** Columns of equal width, two spaces apart; the last is not cut, others have `maxCell` characters at most. `paint` colours a cell that has its width. */
export const table = (
  header: readonly string[],
  rows: readonly (readonly string[])[],
  paint: (column: number, padded: string, row: number) => string = (_column, padded) => padded,
  maxCell = MAX_CELL,
): string => {
  const last = header.length - 1;
  const cells = rows.map((row) => row.map((cell, column) => (column === last ? cell : cut(cell, maxCell))));
  const width = header.map((name, column) =>
    Math.max(lengthOf(name), ...cells.map((row) => lengthOf(row[column] ?? ''))),
  );
  const line = (row: readonly string[], index: number): string =>
    row
      .map((cell, column) => {
        const padding = column === last ? 0 : Math.max(0, (width[column] ?? 0) - lengthOf(cell));
        return paint(column, cell + ' '.repeat(padding), index);
      })
      .join('  ')
      .trimEnd();
  return [line(header, -1), ...cells.map(line)].map((text) => `${text}\n`).join('');
};

const TITLES: Readonly<Record<string, string>> = {
  authenticity: 'authenticity',
  append_only: 'append-only',
};

const statusText = (verdict: Pick<Verdict, 'status'>, paint: Paint): string => {
  switch (verdict.status) {
    case 'ok':
      return paint.green('ok');
    case 'failed':
      return paint.red('FAILED');
    case 'not_checked':
      return paint.yellow('not checked');
    default:
      return verdict.status satisfies never;
  }
};

const checkedText = ({ checked }: Verdict): string =>
  Object.entries(checked)
    .map(([thing, count]) => `${count} ${thing.replaceAll('_', ' ')}`)
    .join(', ');

const findingLines = (finding: Finding, failures: number, paint: Paint): readonly string[] => [
  `      ${paint.bold(finding.seq === null ? 'the log' : `entry ${finding.seq}`)}: ${printable(finding.what)}` +
    `  (${finding.attack.replaceAll('_', ' ')})`,
  `      expected  ${printable(finding.expected)}`,
  `      found     ${printable(finding.actual)}`,
  ...(failures > 1 ? [`      and ${failures - 1} more`] : []),
];

const statementLines = (statement: Statement, paint: Paint): readonly string[] => {
  const { from, to, status, events, streams, missing, missingNumbers, limits } = statement;
  const between = `between ${from} and ${to}`;
  const said = {
    nothing_missing: paint.green(`Nothing is missing ${between}`),
    missing: paint.red(`Missing ${between}: ${missingNumbers} numbers`),
    not_proven: paint.yellow(`Not proven that nothing is missing ${between}`),
  }[status];
  const around = (time: string | null): string => time ?? 'the beginning or end of its stream';
  return [
    `  ${said}  (${events} events of ${streams} streams)`,
    ...missing.map(
      ({ emitter, boot, from: first, to: last, after, before, state }) =>
        `      emitter ${printable(emitter)} boot ${boot}: ${first === last ? `number ${first}` : `numbers ${first}–${last}`}, ` +
        `between ${around(after)} and ${around(before)}, ${state}`,
    ),
    ...limits.map((limit) => `      ${printable(limit)}`),
  ];
};

/** One log's verdicts, with the first bad entry of each that failed. */
export const printReport = (report: VerificationReport, paint: Paint): string => {
  const lines = [
    `${paint.bold(printable(report.origin))}  ${report.size} entries`,
    ...VERDICTS.flatMap((name) => {
      const verdict = report.verdicts[name];
      const checked = checkedText(verdict);
      return [
        `  ${(TITLES[name] ?? name).padEnd(13)} ${statusText(verdict, paint)}${checked === '' ? '' : `  (${checked})`}`,
        ...(verdict.note === undefined ? [] : [`      ${printable(verdict.note)}`]),
        ...(verdict.firstBad === undefined ? [] : findingLines(verdict.firstBad, verdict.failures, paint)),
      ];
    }),
    ...(report.since === undefined
      ? []
      : [
          `  since         entries 0–${BigInt(report.since.size) - 1n} were verified on ${printable(report.since.verifiedAt)}, ` +
            `by root ${printable(report.since.root)}; --full reads them again`,
        ]),
    ...(report.lastGood === undefined || report.lastGood === null || !hasFailed(report)
      ? []
      : [`  last good checkpoint  size ${report.lastGood.size}, root ${printable(report.lastGood.root)}`]),
    ...(report.statement === undefined ? [] : statementLines(report.statement, paint)),
    ...(report.lastLeaf === null ? [] : [`  last leaf     ${printable(report.lastLeaf)}`]),
  ];
  return lines.map((line) => `${line}\n`).join('');
};

/** What witnesses say of the same log. */
export const printWitnessed = (verdict: WitnessedVerdict, paint: Paint): string =>
  `  ${'witnessed'.padEnd(13)} ${statusText(verdict, paint)}\n      ${printable(verdict.note)}\n`;
