import { Command } from 'commander';
import { Value } from 'typebox/value';
import { stringify } from 'yaml';
import { newApiKey } from '../../shared/callers/api-keys.ts';
import { AppError } from '../../shared/contracts/errors.ts';
import { Caller } from '../../shared/settings/schema.ts';

interface NewKeyOptions {
  readonly caller: string;
  readonly tenant: string;
  readonly role?: readonly string[];
  readonly json?: boolean;
}

const collect = (value: string, previous: readonly string[] = []): readonly string[] => [...previous, value];

const newKey = ({ caller: id, tenant, role = ['decide'], json }: NewKeyOptions): void => {
  const { key, stored } = newApiKey();
  const caller = { id, tenant, roles: [...new Set(role)], api_keys: [stored] };
  const [problem] = Value.Errors(Caller, Value.Default(Caller, structuredClone(caller)));
  if (problem !== undefined) {
    const { instancePath, keyword, message, params } = problem;
    const said = keyword === 'enum' ? `must be one of ${params.allowedValues.join(', ')}` : message;
    throw new AppError('usage', `${instancePath.replace('/roles', '/role')}: ${said}`);
  }
  if (json === true) {
    process.stdout.write(`${JSON.stringify({ key, caller }, undefined, 2)}\n`);
    return;
  }
  process.stdout.write(
    [
      '# The key. It is shown this once and stands nowhere else: give it to the caller now.',
      key,
      '',
      '# For the settings file; it holds only a salted hash of the key.',
      stringify({ callers: [caller] }, { lineWidth: 0 }),
    ].join('\n'),
  );
};

export const keysCommand = (): Command => {
  const keys = new Command('keys').description('API keys of callers');
  keys
    .command('new')
    .description('make an API key: print it once, and what the settings need to know of it')
    .requiredOption('--caller <id>', 'who will use it; stands in events and metrics')
    .requiredOption('--tenant <tenant>', 'whose decisions or ledger it opens')
    .option(
      '--role <role>',
      'decide, audit, operate, data or erase; may be given several times (default: decide)',
      collect,
    )
    .option('--json', 'print JSON')
    .addHelpText(
      'after',
      '\nTo replace a key without a pause, put the new hash beside the old one under api_keys, let the caller change over,\nthen remove the old one. Running services read the settings again by themselves.\n',
    )
    .action(newKey);
  return keys;
};
