// Where the OPA command is: the one version that policies are checked, tested and built with.
import { existsSync } from 'node:fs';
import path from 'node:path';
import { cacheFolder, outputOf } from './test-parts/run.mjs';

/** The version of OPA that builds the bundles; another version may build other bytes. */
export const opaVersion = '1.22.2';

/** The folder that `install-opa.mjs` installs into. */
export const opaFolder = path.join(cacheFolder, `opa-${opaVersion}`);

const cachedOpa = path.join(opaFolder, process.platform === 'win32' ? 'opa.exe' : 'opa');

/** @param {string} command */
function isRightVersion(command) {
  return outputOf(command, ['version'])?.match(/^Version:\s*(\S+)/m)?.[1] === opaVersion;
}

/**
 * The OPA command to run: `EDICT_OPA`, else the cached one, else the `opa` on PATH.
 * @returns {string | undefined} undefined when none of them is there in the right version
 */
export function findOpa() {
  const named = process.env['EDICT_OPA'];
  if (named !== undefined && named !== '') return isRightVersion(named) ? named : undefined;
  if (existsSync(cachedOpa) && isRightVersion(cachedOpa)) return cachedOpa;
  return isRightVersion('opa') ? 'opa' : undefined;
}
