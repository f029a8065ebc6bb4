// Builds scripts/conformance/oracle, which answers what OPA itself does, and writes down where it is.
// Usage: node scripts/test-parts/oracle.mjs
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { buildGoProgram, recordPart } from './go-program.mjs';
import { outputOf, root, say, SetupError } from './run.mjs';

const sourceFolder = path.join(root, 'scripts', 'conformance', 'oracle');

/**
 * Leaves a record of a command made of this very source, read by scripts/conformance/oracle.ts: `{command, opaSource}`;
 * OPA's source holds the conformance cases.
 */
export async function prepareOracle() {
  const why = 'the conformance run compares with OPA itself: Go is needed so that it can be built';
  const command = await buildGoProgram('oracle', sourceFolder, why);
  const module = 'github.com/open-policy-agent/opa';
  const opaSource = outputOf('go', ['list', '-C', sourceFolder, '-m', '-f', '{{.Dir}}', module])?.trim();
  if (!opaSource) throw new SetupError('go does not tell where the source of OPA is');
  recordPart('oracle', { command, opaSource });
  say(`oracle: ${command}`);
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  prepareOracle().catch((error) => {
    process.stderr.write(`setup: ${error instanceof SetupError ? error.message : (error?.stack ?? error)}\n`);
    process.exitCode = 1;
  });
}
