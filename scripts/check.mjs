// All checks of the tree besides its tests. Each is run, all results are reported, one failure fails all.
// Usage: node scripts/check.mjs [NAME…]
import { readdirSync, readFileSync } from 'node:fs';
import { spawnSync } from 'node:child_process';
import path from 'node:path';
import { root } from './test-parts/run.mjs';

const longestFileLines = 500;

/** A program from node_modules, run by this Node. */
function tool(script, ...args) {
  return command(process.execPath, path.join('node_modules', script), ...args);
}

/** @returns {boolean} whether it exited with 0 */
function command(program, ...args) {
  return spawnSync(program, args, { cwd: root, stdio: ['ignore', 'inherit', 'inherit'] }).status === 0;
}

/** A program in TypeScript, from its sources. */
function source(script, ...args) {
  return command(process.execPath, '--import', 'tsx', script, ...args);
}

function edict(...args) {
  return source('services/cli/main.ts', ...args);
}

/** Long files hide the shape of a thing; generated ones are not kept here. */
function fileLengths() {
  const tooLong = ['services', 'scripts', 'test', 'policies', 'migrations'].flatMap((folder) =>
    readdirSync(path.join(root, folder), { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile() && /\.(ts|mjs|rego|sql)$/.test(entry.name))
      .map((entry) => path.join(entry.parentPath, entry.name))
      .map((file) => ({ file, lines: readFileSync(file, 'utf8').split('\n').length - 1 }))
      .filter(({ lines }) => lines > longestFileLines),
  );
  for (const { file, lines } of tooLong) {
    process.stdout.write(`${path.relative(root, file)}: ${lines} lines, ${longestFileLines} are allowed\n`);
  }
  return tooLong.length === 0;
}

const checks = {
  types: () => tool('typescript/bin/tsc', '--noEmit'),
  lint: () => tool('oxlint/bin/oxlint', '--type-aware', '--deny-warnings', 'services', 'scripts', 'test'),
  format: () => tool('prettier/bin/prettier.cjs', '--check', '--log-level=warn', '.'),
  'dead-code': () => tool('knip/bin/knip.js'),
  'file-lengths': fileLengths,
  'rego-format': () => edict('policy', 'fmt', '--check'),
  'rego-check': () => edict('policy', 'check'),
  'rego-test': () => edict('policy', 'test'),
  // The bundle in git is what a newcomer runs: it must be what the policies give.
  bundle: () => edict('policy', 'build', '--check'),
  schemas: () => source('scripts/generate-schemas.ts', '--check'),
};

const wanted = process.argv.length > 2 ? process.argv.slice(2) : Object.keys(checks);
const unknown = wanted.filter((name) => !Object.hasOwn(checks, name));
if (unknown.length > 0) {
  process.stderr.write(`unknown: ${unknown.join(', ')}; there are ${Object.keys(checks).join(', ')}\n`);
  process.exit(2);
}
const results = wanted.map((name) => {
  const startedMs = performance.now();
  process.stdout.write(`── ${name}\n`);
  return { name, passed: checks[name](), tookS: (performance.now() - startedMs) / 1000 };
});
process.stdout.write('\n');
for (const { name, passed, tookS } of results) {
  process.stdout.write(`${passed ? 'ok    ' : 'FAILED'} ${name} (${tookS.toFixed(1)} s)\n`);
}
if (results.some(({ passed }) => !passed)) process.exitCode = 1;
