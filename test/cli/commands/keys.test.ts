import { keysCommand } from '../../../services/cli/commands/keys.ts';

describe('edict keys new', () => {
  it('names the roles that there are when one is not', async () => {
    const args = ['new', '--caller', 'gw', '--tenant', 'acme', '--role', 'decide', '--role', 'nosuch'];
    await expect(keysCommand().parseAsync(args, { from: 'user' })).rejects.toMatchObject({
      code: 'usage',
      message: '/role/1: must be one of decide, audit, operate, data, erase',
    });
  });
});
