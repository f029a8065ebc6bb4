import { readFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

/** The repository's root folder. */
export const repositoryRoot = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '..', '..');

/** What the set-up wrote down about one part; throws with the command to run when it did not. */
export function preparedPart(part: 'postgres' | 'kafka' | 'fsck' | 'torchwood' | 'debian'): unknown {
  const file = path.join(repositoryRoot, '.cache', 'test-parts', `${part}.json`);
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch (cause) {
    throw new Error(
      `the test part "${part}" is not prepared: run \`node scripts/setup.mjs ${part === 'debian' ? 'system' : 'test'}\``,
      { cause },
    );
  }
  return JSON.parse(text);
}
