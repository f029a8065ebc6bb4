// Puts the OPA command into .cache/ with `go install`, unless the right version is there already.
// Usage: node scripts/install-opa.mjs
import { mkdirSync } from 'node:fs';
import { pathToFileURL } from 'node:url';
import { findOpa, opaFolder, opaVersion } from './opa-path.mjs';
import { outputOf, run, say, SetupError, step } from './test-parts/run.mjs';

/** @returns {Promise<string>} the command to run */
export async function installOpa() {
  const there = findOpa();
  if (there !== undefined) {
    say(`OPA ${opaVersion}: ${there}`);
    return there;
  }
  if (process.env['EDICT_OPA']) {
    throw new SetupError(`EDICT_OPA names ${process.env['EDICT_OPA']}, which is not OPA ${opaVersion}`);
  }
  if (outputOf('go', ['version']) === undefined) {
    throw new SetupError(`OPA ${opaVersion} is needed: put it on PATH, or install Go so that it can be built`);
  }
  mkdirSync(opaFolder, { recursive: true });
  await step(`building OPA ${opaVersion} (a few minutes the first time)`, () =>
    run('go', ['install', `github.com/open-policy-agent/opa@v${opaVersion}`], {
      env: { ...process.env, GOBIN: opaFolder, GOFLAGS: '-mod=mod' },
    }),
  );
  const built = findOpa();
  if (built === undefined) throw new SetupError(`go install made no OPA ${opaVersion} in ${opaFolder}`);
  return built;
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  installOpa().catch((error) => {
    process.stderr.write(`setup: ${error instanceof SetupError ? error.message : (error?.stack ?? error)}\n`);
    process.exitCode = 1;
  });
}
