// Builds scripts/conformance/oracle, which answers what OPA itself does, unless that very source is built already.
// Usage: node scripts/test-parts/oracle.mjs
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync } from 'node:fs';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { cacheFolder, outputOf, root, run, say, SetupError, step } from './run.mjs';

const sourceFolder = path.join(root, 'scripts', 'conformance', 'oracle');

function sourceHash() {
  const hash = createHash('sha256');
  const files = readdirSync(sourceFolder).filter((name) => /^go\.(mod|sum)$|\.go$/.test(name));
  for (const name of files.sort()) hash.update(`${name}\0`).update(readFileSync(path.join(sourceFolder, name)));
  return hash.digest('hex').slice(0, 16);
}

/** @returns {Promise<string>} the command to run */
export async function prepareOracle() {
  const folder = path.join(cacheFolder, `oracle-${sourceHash()}`);
  const command = path.join(folder, process.platform === 'win32' ? 'oracle.exe' : 'oracle');
  if (existsSync(command)) return command;
  if (outputOf('go', ['version']) === undefined) {
    throw new SetupError('the conformance run compares with OPA itself: Go is needed so that it can be built');
  }
  mkdirSync(folder, { recursive: true });
  const unfinished = `${command}.unfinished-${process.pid}`;
  await step('building the oracle', () => run('go', ['build', '-o', unfinished, '.'], { cwd: sourceFolder }));
  renameSync(unfinished, command);
  return command;
}

/** The folder of OPA's source, as Go unpacked it: it holds the conformance cases. */
export function opaSourceFolder() {
  const told = outputOf('go', ['list', '-C', sourceFolder, '-m', '-f', '{{.Dir}}', 'github.com/open-policy-agent/opa']);
  const folder = told?.trim();
  if (!folder) throw new SetupError('go does not tell where the source of OPA is');
  return folder;
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  prepareOracle().then(say, (error) => {
    process.stderr.write(`setup: ${error instanceof SetupError ? error.message : (error?.stack ?? error)}\n`);
    process.exitCode = 1;
  });
}
