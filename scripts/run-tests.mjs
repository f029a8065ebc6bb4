// Runs a test suite and judges the result: a run without tests fails, and so does a skipped test in CI.
// Usage: node scripts/run-tests.mjs suite|system [JEST OPTIONS…]
//        node scripts/run-tests.mjs soak NAME [--times N]
import { mkdirSync, readFileSync, rmSync } from 'node:fs';
import { spawnSync } from 'node:child_process';
import os from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { cacheFolder, root } from './test-parts/run.mjs';

/** One JSON report a suite; `.ci/run` adds them up. */
const reportFolder = path.join(cacheFolder, 'test-reports');

/** Real servers are started by the tests: more workers than this only wait for each other. */
const workers = Math.max(1, Math.min(4, os.availableParallelism()));

/** @returns {string[]} what is wrong with the run, besides failed tests */
function faultsOf(reportFile) {
  let report;
  try {
    report = JSON.parse(readFileSync(reportFile, 'utf8'));
  } catch {
    return ['the tests left no report'];
  }
  const faults = report.numTotalTests === 0 ? ['no test ran'] : [];
  const left = report.numPendingTests + report.numTodoTests + report.numPendingTestSuites;
  if (left > 0 && process.env['CI'] === 'true') faults.push(`${left} tests or suites were skipped`);
  if (report.numRuntimeErrorTestSuites > 0) faults.push(`${report.numRuntimeErrorTestSuites} suites did not run`);
  return faults;
}

/** Runs Jest once. Returns whether all is well. */
function runJest(suite, options) {
  mkdirSync(reportFolder, { recursive: true });
  const reportFile = path.join(reportFolder, `${suite}.json`);
  rmSync(reportFile, { force: true });
  const jest = path.join(root, 'node_modules', 'jest', 'bin', 'jest.js');
  const flags = ['--experimental-vm-modules', '--disable-warning=ExperimentalWarning'];
  const done = spawnSync(process.execPath, [...flags, jest, '--json', `--outputFile=${reportFile}`, ...options], {
    cwd: root,
    stdio: 'inherit',
  });
  const faults = faultsOf(reportFile);
  for (const fault of faults) process.stderr.write(`${suite}: ${fault}\n`);
  return done.status === 0 && faults.length === 0;
}

function soak(args) {
  const { values, positionals } = parseArgs({
    args,
    allowPositionals: true,
    options: { times: { type: 'string', default: '10' } },
  });
  const times = Number(values.times);
  const [name] = positionals;
  if (name === undefined || positionals.length > 1 || !Number.isInteger(times) || times < 1) {
    process.stderr.write('usage: npm run test:soak -- NAME [--times N]\n');
    return false;
  }
  const pattern = `test/(system|soak)/.*${name}[^/]*\\.test\\.ts$`;
  for (let time = 1; time <= times; time += 1) {
    process.stdout.write(`${name}: run ${time} of ${times}\n`);
    if (!runJest(`soak-${name}`, ['--runInBand', pattern])) {
      process.stdout.write(`${name}: failed in run ${time} of ${times}\n`);
      return false;
    }
  }
  process.stdout.write(`${name}: passed ${times} times in a row\n`);
  return true;
}

function main() {
  const [suite, ...options] = process.argv.slice(2);
  switch (suite) {
    case 'suite':
      // Jest takes every word after an option that may be repeated as its value: these come last.
      return runJest(suite, [
        ...options,
        `--maxWorkers=${workers}`,
        '--testMatch=<rootDir>/test/**/*.test.ts',
        '--testMatch=!**/test/{system,soak}/**',
      ]);
    case 'system':
      return runJest(suite, [...options, '--runInBand', '--testMatch=<rootDir>/test/system/**/*.test.ts']);
    case 'soak':
      return soak(options);
    default:
      process.stderr.write('usage: node scripts/run-tests.mjs suite|system|soak …\n');
      return false;
  }
}

process.exitCode = main() ? 0 : 1;
