// Builds scripts/fsck, which checks a log that is served with Tessera's fsck, and writes down where it is.
import path from 'node:path';
import { buildGoProgram, recordPart } from './go-program.mjs';
import { root, say } from './run.mjs';

/** Leaves a record, `{command}`, of a command made of this very source. */
export async function prepareFsck() {
  const why = 'the tests have logs checked by a program of others: Go is needed so that it can be built';
  const command = await buildGoProgram('fsck', path.join(root, 'scripts', 'fsck'), why);
  recordPart('fsck', { command });
  say(`fsck: ${command}`);
}
