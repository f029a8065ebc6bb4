import { execFile } from 'node:child_process';
import { isObject } from '../../services/shared/contracts/json.ts';
import { preparedPart } from './prepared-parts.ts';

export interface FsckResult {
  /** 0: the whole log was read and is good. */
  readonly code: number;
  /** Its first words: what it found is followed by whole tiles. */
  readonly said: string;
}

/** Has Tessera's fsck check a log that is served under `url`; `authorizationFile` holds the header's value. */
export async function fsck(url: string, vkeyFile: string, authorizationFile?: string): Promise<FsckResult> {
  const part = preparedPart('fsck');
  if (!isObject(part) || typeof part['command'] !== 'string') throw new Error('the test part "fsck" is malformed');
  const { command } = part;
  const args = ['-url', url, '-vkey', vkeyFile];
  if (authorizationFile !== undefined) args.push('-authorization', authorizationFile);
  return await new Promise((resolve) => {
    execFile(command, args, { timeout: 60_000, maxBuffer: 64 * 1024 * 1024 }, (error, stdout, stderr) => {
      const code = error === null ? 0 : typeof error.code === 'number' ? error.code : -1;
      resolve({ code, said: `${stdout}${stderr}`.slice(0, 400) });
    });
  });
}
