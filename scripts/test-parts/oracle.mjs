// Builds scripts/conformance/oracle, which answers what OPA itself does, and writes down where it is.
// Usage: node scripts/test-parts/oracle.mjs
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { cacheFolder, outputOf, root, run, say, SetupError, step } from './run.mjs';

const sourceFolder = path.join(root, 'scripts', 'conformance', 'oracle');

/** Read by scripts/conformance/oracle.ts: `{command, opaSource}`; OPA's source holds the conformance cases. */
const recordFile = path.join(cacheFolder, 'test-parts', 'oracle.json');

function sourceHash() {
  const hash = createHash('sha256');
  const files = readdirSync(sourceFolder).filter((name) => /^go\.(mod|sum)$|\.go$/.test(name));
  for (const name of files.sort()) hash.update(`${name}\0`).update(readFileSync(path.join(sourceFolder, name)));
  return hash.digest('hex').slice(0, 16);
}

/** Leaves a record of a command made of this very source. */
export async function prepareOracle() {
  if (outputOf('go', ['version']) === undefined) {
    throw new SetupError('the conformance run compares with OPA itself: Go is needed so that it can be built');
  }
  const folder = path.join(cacheFolder, `oracle-${sourceHash()}`);
  const command = path.join(folder, process.platform === 'win32' ? 'oracle.exe' : 'oracle');
  if (!existsSync(command)) {
    mkdirSync(folder, { recursive: true });
    const unfinished = `${command}.unfinished-${process.pid}`;
    await step('building the oracle', () => run('go', ['build', '-o', unfinished, '.'], { cwd: sourceFolder }));
    renameSync(unfinished, command);
  }
  const module = 'github.com/open-policy-agent/opa';
  const opaSource = outputOf('go', ['list', '-C', sourceFolder, '-m', '-f', '{{.Dir}}', module])?.trim();
  if (!opaSource) throw new SetupError('go does not tell where the source of OPA is');
  mkdirSync(path.dirname(recordFile), { recursive: true });
  writeFileSync(`${recordFile}.new`, `${JSON.stringify({ command, opaSource }, undefined, 2)}\n`);
  renameSync(`${recordFile}.new`, recordFile);
  say(`oracle: ${command}`);
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  prepareOracle().catch((error) => {
    process.stderr.write(`setup: ${error instanceof SetupError ? error.message : (error?.stack ?? error)}\n`);
    process.exitCode = 1;
  });
}
