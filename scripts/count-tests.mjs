// Adds up the reports of test suites and prints `N passed, N failed`. Fails when a report is missing or shows a failure.
// Usage: node scripts/count-tests.mjs SUITE…
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { cacheFolder } from './test-parts/run.mjs';

let passed = 0;
let failed = 0;
for (const suite of process.argv.slice(2)) {
  try {
    const report = JSON.parse(readFileSync(path.join(cacheFolder, 'test-reports', `${suite}.json`), 'utf8'));
    passed += report.numPassedTests;
    // A file that could not be loaded holds no test to count, but it is a failure.
    failed += report.numFailedTests + report.numRuntimeErrorTestSuites;
  } catch {
    process.stdout.write(`${suite}: no report\n`);
    failed += 1;
  }
}
process.stdout.write(`${passed} passed, ${failed} failed\n`);
if (failed > 0 || passed === 0) process.exitCode = 1;
