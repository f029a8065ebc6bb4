import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { repositoryRoot } from '../../support/prepared-parts.ts';
import { createFolders, openWriter, readAll } from './spool-fixture.ts';

const folders = createFolders();
afterEach(() => folders.removeAll());

/** Runs a writer until it has said `count` numbers, kills it at once, and gives the last number it said. */
const killAfter = async (directory: string, count: number): Promise<bigint> => {
  const child = spawn(process.execPath, ['--import', 'tsx', 'test/shared/spool/writer-child.ts', directory], {
    cwd: repositoryRoot,
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const exit = once(child, 'exit');
  let said = '';
  let lines = 0;
  child.stdout.on('data', (chunk: Buffer) => {
    said += chunk.toString();
    lines += chunk.filter((byte) => byte === 10).length;
    if (lines >= count) child.kill('SIGKILL');
  });
  const ended = once(child.stdout, 'end');
  await exit;
  await ended;
  return BigInt(said.trimEnd().split('\n').at(-1) ?? '0');
};

describe('a writer that is killed in the middle of load', () => {
  it('left every record that it called written, without a gap, over and over', async () => {
    const directory = folders.create();
    for (const count of [5, 150, 260]) {
      const said = await killAfter(directory, count);
      const writer = openWriter(directory);
      const first = writer.segments()[0]?.base ?? 0n;
      await writer.close();
      const records = await readAll(directory, first);
      expect(records.at(-1)?.sequence).toBeGreaterThanOrEqual(said);
      expect(records.map(({ sequence }) => sequence)).toEqual(records.map(({ number }) => number + 1n));
    }
  }, 60_000);
});
