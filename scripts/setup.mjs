// Makes what a command needs, from nothing but the toolchains. npm runs it before `start`, `test`, `check` and others.
// Node's own modules only: it runs before any package is installed.
// Usage: node scripts/setup.mjs packages|start|check|test|system|conformance
import { installOpa } from './install-opa.mjs';
import { prepareDebianPrograms } from './test-parts/debian.mjs';
import { prepareFsck } from './test-parts/fsck.mjs';
import { prepareKafka } from './test-parts/kafka-jars.mjs';
import { prepareOracle } from './test-parts/oracle.mjs';
import { compile, installPackages } from './test-parts/packages.mjs';
import { preparePostgres } from './test-parts/postgres-binaries.mjs';
import { findPython } from './test-parts/python.mjs';
import { SetupError } from './test-parts/run.mjs';
import { prepareTorchwood } from './test-parts/torchwood.mjs';

const test = [
  [findPython],
  [installPackages, compile, preparePostgres, prepareKafka],
  [installOpa, prepareFsck, prepareTorchwood],
];
/** For each purpose what is done side by side: building OPA takes minutes, and the others mostly wait for the network. */
const lanes = {
  packages: [[installPackages]],
  start: [[installPackages, compile]],
  check: [[installPackages], [installOpa]],
  test,
  system: [...test, [prepareDebianPrograms]],
  conformance: [[installPackages], [prepareOracle]],
};

function report(error) {
  process.stderr.write(`setup: ${error instanceof SetupError ? error.message : (error?.stack ?? error)}\n`);
  process.exitCode = 1;
}

async function main() {
  const [major = 0, minor = 0] = process.versions.node.split('.').map(Number);
  if (major < 20 || (major === 20 && minor < 19)) {
    throw new SetupError(`Node 20.19 or later is needed; this is ${process.versions.node}`);
  }
  const purpose = process.argv[2] ?? '';
  if (!Object.hasOwn(lanes, purpose)) {
    throw new SetupError(`usage: node scripts/setup.mjs ${Object.keys(lanes).join('|')}`);
  }
  const done = await Promise.allSettled(
    lanes[purpose].map(async (lane) => {
      for (const prepare of lane) await prepare();
    }),
  );
  const failures = done.filter(({ status }) => status === 'rejected').map(({ reason }) => reason);
  for (const failure of failures) report(failure);
}

main().catch(report);
