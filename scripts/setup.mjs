// Makes what a command needs, from nothing but the toolchains. npm runs it before `start`, `test`, `check` and others.
// Node's own modules only: it runs before any package is installed.
// Usage: node scripts/setup.mjs packages|start|check|test
import { installOpa } from './install-opa.mjs';
import { prepareKafka } from './test-parts/kafka-jars.mjs';
import { compile, installPackages } from './test-parts/packages.mjs';
import { preparePostgres } from './test-parts/postgres-binaries.mjs';
import { SetupError } from './test-parts/run.mjs';

const steps = {
  packages: [installPackages],
  start: [installPackages, compile],
  check: [installPackages, compile, installOpa],
  test: [installPackages, compile, installOpa, preparePostgres, prepareKafka],
};

async function main() {
  const [major = 0, minor = 0] = process.versions.node.split('.').map(Number);
  if (major < 20 || (major === 20 && minor < 19)) {
    throw new SetupError(`Node 20.19 or later is needed; this is ${process.versions.node}`);
  }
  const purpose = process.argv[2] ?? '';
  if (!Object.hasOwn(steps, purpose)) {
    throw new SetupError(`usage: node scripts/setup.mjs ${Object.keys(steps).join('|')}`);
  }
  for (const prepare of steps[purpose]) await prepare();
}

main().catch((error) => {
  process.stderr.write(`setup: ${error instanceof SetupError ? error.message : (error?.stack ?? error)}\n`);
  process.exitCode = 1;
});
