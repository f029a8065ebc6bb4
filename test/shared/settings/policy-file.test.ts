import { mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { AppError } from '../../../services/shared/contracts/errors.ts';
import { readPolicyFile } from '../../../services/shared/settings/policy-file.ts';

describe('a policy file', () => {
  let folder: string;
  const file = (): string => path.join(folder, 'policy');
  const read = () => readPolicyFile(file(), (what, cause) => new AppError('usage', what, { cause }));
  beforeEach(() => {
    folder = mkdtempSync(path.join(tmpdir(), 'edict-policy-file-'));
  });
  afterEach(() => rmSync(folder, { recursive: true, force: true }));

  it('is read', () => {
    writeFileSync(file(), 'quorum none\n');
    expect(read()).toEqual({ logs: [], witnesses: [], quorum: { kind: 'none' } });
  });

  it('that is none is named, with what is wrong', () => {
    expect(read).toThrow(/policy cannot be read \(ENOENT\)/);
    writeFileSync(file(), 'quorum w\n');
    expect(read).toThrow(/policy: line 1: /);
  });

  it('that is too long is not read: this one would be more than a buffer holds', () => {
    writeFileSync(file(), '');
    truncateSync(file(), 2 ** 33);
    expect(read).toThrow(/cannot be read \(longer than 262144 bytes\)/);
  });
});
