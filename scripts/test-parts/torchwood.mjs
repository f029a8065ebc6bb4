// Builds litewitness, a witness of others, and what else the tests need of torchwood, and writes down where they are.
import path from 'node:path';
import { buildGoProgram, recordPart } from './go-program.mjs';
import { root, say } from './run.mjs';

const sourceFolder = path.join(root, 'scripts', 'torchwood');

/** Leaves a record, `{command, litewitness}`, of commands made of this very source. */
export async function prepareTorchwood() {
  const why = 'the tests compare with a witness of others: Go is needed so that it can be built';
  const command = await buildGoProgram('torchwood', sourceFolder, why);
  const litewitness = await buildGoProgram('litewitness', sourceFolder, why, 'filippo.io/torchwood/cmd/litewitness');
  recordPart('torchwood', { command, litewitness });
  say(`torchwood: ${command}`);
}
