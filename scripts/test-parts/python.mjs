// Looks for Python, which runs scripts/verify-ledger.py in the tests. That needs its standard library only.
import { outputOf, say, SetupError } from './run.mjs';

const OLDEST_MINOR = 8;

export async function findPython() {
  const version = outputOf('python3', ['--version'])?.trim() ?? '';
  const [, minor] = /^Python 3\.(\d+)\./.exec(version) ?? [];
  if (minor === undefined || Number(minor) < OLDEST_MINOR) {
    throw new SetupError(
      `the tests compare two verifiers of bundles: python3 from 3.${OLDEST_MINOR} on is needed; this is ${version || 'none'}`,
    );
  }
  say(version);
}
