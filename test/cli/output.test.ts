import { spawn } from 'node:child_process';
import { EventEmitter, once } from 'node:events';
import { closeSync, openSync } from 'node:fs';
import { isOutputGone, watchOutput } from '../../services/cli/output.ts';
import { repositoryRoot } from '../support/prepared-parts.ts';

const KEYS_NEW = ['keys', 'new', '--caller', 'gw-1', '--tenant', 'acme'];

describe('standard output of edict', () => {
  it('may be closed by its reader: the command ends as if it had been read', async () => {
    const child = spawn(process.execPath, ['--import', 'tsx', 'services/cli/main.ts', ...KEYS_NEW], {
      cwd: repositoryRoot,
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    child.stdout.destroy();
    let said = '';
    child.stderr.on('data', (chunk: Buffer) => {
      said += chunk.toString();
    });
    const [code] = await once(child, 'close');
    expect(said).toBe('');
    expect(code).toBe(0);
  }, 60_000);

  it('fails loudly when it cannot be written for another reason', async () => {
    // Every write to this device fails for want of room.
    const full = openSync('/dev/full', 'w');
    try {
      const child = spawn(process.execPath, ['--import', 'tsx', 'services/cli/main.ts', ...KEYS_NEW], {
        cwd: repositoryRoot,
        stdio: ['ignore', full, 'pipe'],
      });
      let said = '';
      child.stderr?.on('data', (chunk: Buffer) => {
        said += chunk.toString();
      });
      const [code] = await once(child, 'close');
      expect(said).toMatch(/^edict: cannot write the output: .*ENOSPC.*\n$/);
      expect(code).toBe(2);
    } finally {
      closeSync(full);
    }
  }, 60_000);

  it('is known to be gone, so that nothing more is fetched for it', () => {
    const stdout = new EventEmitter();
    const failures: unknown[] = [];
    watchOutput({ stdout, stderr: new EventEmitter(), onFailure: (error) => failures.push(error) });
    expect(isOutputGone()).toBe(false);
    stdout.emit('error', Object.assign(new Error('write EPIPE'), { code: 'EPIPE' }));
    stdout.emit('error', Object.assign(new Error('destroyed'), { code: 'ERR_STREAM_DESTROYED' }));
    expect(isOutputGone()).toBe(true);
    expect(failures).toEqual([]);
  });
});
