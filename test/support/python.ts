import { execFile } from 'node:child_process';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { errorMessage } from '../../services/shared/contracts/errors.ts';

const SCRIPT = path.join(path.dirname(fileURLToPath(import.meta.url)), '../../scripts/verify-ledger.py');

export interface SecondOpinion {
  readonly code: number;
  /** `ok`, `failed` or `not_checked`, by the name of the verdict. */
  readonly verdicts: Readonly<Record<string, string>>;
  readonly said: string;
}

/** What scripts/verify-ledger.py says of a bundle. Rejects when there is no Python. */
export const verifyWithPython = (file: string, vkeyFile: string | undefined): Promise<SecondOpinion> =>
  new Promise((resolve, reject) => {
    const args = [SCRIPT, file, ...(vkeyFile === undefined ? [] : ['--vkey', vkeyFile])];
    // Isolated: neither the user's packages nor variables may matter.
    execFile('python3', ['-I', ...args], { timeout: 60_000 }, (error, stdout, stderr) => {
      const code = error === null ? 0 : typeof error.code === 'number' ? error.code : -1;
      if (code === -1) return reject(new Error(`python3 could not be run: ${errorMessage(error)}`));
      const lines = [...stdout.matchAll(/^ {2}(\w+) +(ok|failed|not_checked)/gm)];
      resolve({
        code,
        verdicts: Object.fromEntries(lines.map(([, name = '', verdict = '']) => [name, verdict])),
        said: `${stdout}${stderr}`,
      });
    });
  });
