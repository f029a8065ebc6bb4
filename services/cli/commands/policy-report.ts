import type { PolicyWarning } from './policy-warnings.ts';

/** One test, of OPA or of the production engine. */
export interface TestResult {
  /** Where it stands: a file, or a Rego package. */
  readonly suite: string;
  readonly name: string;
  readonly passed: boolean;
  /** Why not, a line each; empty when passed. */
  readonly failures: readonly string[];
  /** `file:row` where known. */
  readonly location?: string;
}

export interface CoverageOfFile {
  readonly file: string;
  readonly covered: number;
  readonly notCovered: number;
  /** First and last row of each stretch that no test reached. */
  readonly gaps: readonly (readonly [number, number])[];
}

export interface CoverageReport {
  /** Of lines in policies, tests left out; 0 when there are none. */
  readonly percent: number;
  readonly threshold: number;
  readonly files: readonly CoverageOfFile[];
}

const escapeXml = (text: string): string =>
  text
    .replaceAll('&', '&amp;')
    .replaceAll('<', '&lt;')
    .replaceAll('>', '&gt;')
    .replaceAll('"', '&quot;')
    // XML 1.0 has no form for most control characters.
    // eslint-disable-next-line no-control-regex
    .replaceAll(/[\u0000-\u0008\u000b\u000c\u000e-\u001f\ufffe\uffff]/g, '\ufffd');

/** JUnit XML, one suite for each file or package. */
export const junitXml = (results: readonly TestResult[]): string => {
  const suites = new Map<string, TestResult[]>();
  for (const result of results) suites.set(result.suite, [...(suites.get(result.suite) ?? []), result]);
  const parts = [...suites].map(([suite, tests]) => {
    const failed = tests.filter((test) => !test.passed).length;
    const cases = tests.map((test) => {
      const open = `    <testcase classname="${escapeXml(suite)}" name="${escapeXml(test.name)}"`;
      return test.passed
        ? `${open}/>`
        : `${open}><failure message="${escapeXml(test.failures[0] ?? 'failed')}">${escapeXml(test.failures.join('\n'))}</failure></testcase>`;
    });
    return [
      `  <testsuite name="${escapeXml(suite)}" tests="${tests.length}" failures="${failed}">`,
      ...cases,
      '  </testsuite>',
    ].join('\n');
  });
  return `<?xml version="1.0" encoding="UTF-8"?>\n<testsuites>\n${parts.join('\n')}\n</testsuites>\n`;
};

/** What a person reads: failures first, then what is not covered, then one line that counts. */
export const testText = (results: readonly TestResult[], coverage: CoverageReport | undefined): string => {
  const lines: string[] = [];
  const failed = results.filter((result) => !result.passed);
  for (const { suite, name, failures, location } of failed) {
    lines.push(`FAIL ${suite}: ${name}${location === undefined ? '' : ` (${location})`}`);
    for (const failure of failures) lines.push(`  ${failure.replaceAll('\n', '\n  ')}`);
  }
  for (const { file, gaps } of coverage?.files.filter((each) => each.gaps.length > 0) ?? []) {
    const rows = gaps.map(([from, to]) => (from === to ? `${from}` : `${from}-${to}`)).join(', ');
    lines.push(`not covered: ${file}:${rows}`);
  }
  lines.push(
    coverage === undefined
      ? 'coverage not measured: there are no Rego tests, or not all passed'
      : `coverage ${coverage.percent.toFixed(1)} % (at least ${coverage.threshold} %)`,
    `${results.length - failed.length} passed, ${failed.length} failed`,
  );
  return lines.join('\n');
};

/** A line a warning; without `all` those that depend on values are counted only. */
export const warningLines = (warnings: readonly PolicyWarning[], all: boolean): readonly string[] => {
  const shown = warnings.filter(({ certain }) => certain || all);
  const rest = warnings.length - shown.length;
  const lines = shown.map(
    ({ file, row, col, id, what, certain }) =>
      `warning: ${file}:${row}:${col}: ${what}${certain ? '' : ', perhaps'} (docs/differences.md#${id})`,
  );
  return rest === 0
    ? lines
    : [...lines, `${rest} more may differ from OPA's interpreter, depending on their values: --all names them`];
};
