#!/usr/bin/env node
import { Command, CommanderError } from 'commander';
import { errorMessage, isAppError } from '../shared/contracts/errors.ts';
import { watchOutput } from './output.ts';

/** Exit codes of every command. */
const EXIT = { ok: 0, failed: 1, usage: 2 } as const;

/** Each group is loaded only when it is asked for: a database client is no part of `edict policy test`. */
const GROUPS: readonly {
  readonly name: string;
  readonly description: string;
  readonly load: () => Promise<Command>;
}[] = [
  {
    name: 'serve',
    description: 'run the policy decision point, the audit service, the signer, or all',
    load: async () => (await import('./commands/serve.ts')).serveCommand(),
  },
  {
    name: 'decide',
    description: 'ask a running decision point',
    load: async () => (await import('./commands/decide.ts')).decideCommand(),
  },
  {
    name: 'policy',
    description: 'check, test, build and inspect policies',
    load: async () => (await import('./commands/policy.ts')).policyCommand(),
  },
  {
    name: 'audit',
    description: 'query and verify the decision ledger',
    load: async () => (await import('./commands/audit.ts')).auditCommand(),
  },
  {
    name: 'witness',
    description: 'cosign the checkpoints of logs, when they only grow',
    load: async () => (await import('./commands/witness.ts')).witnessCommand(),
  },
  {
    name: 'ledger',
    description: 'create ledgers',
    load: async () => (await import('./commands/ledger.ts')).ledgerCommand(),
  },
  {
    name: 'migrate',
    description: 'bring databases and topics to this version',
    load: async () => (await import('./commands/migrate.ts')).migrateCommand(),
  },
  {
    name: 'keys',
    description: 'API keys of callers',
    load: async () => (await import('./commands/keys.ts')).keysCommand(),
  },
];

const overrideExit = (command: Command): void => {
  command.exitOverride();
  for (const child of command.commands) overrideExit(child);
};

const run = async (argv: readonly string[]): Promise<number> => {
  const program = new Command('edict')
    .description('Policy decision point and tamper-evident decision ledger for agentic applications')
    .version('0.1.0')
    .addHelpText('after', '\nExit codes: 0 ok, 1 the check failed, 2 usage or environment.');
  const asked = argv[2];
  for (const { name, description, load } of GROUPS)
    program.addCommand(name === asked ? await load() : new Command(name).description(description));
  overrideExit(program);
  try {
    await program.parseAsync(argv);
    return typeof process.exitCode === 'number' ? process.exitCode : EXIT.ok;
  } catch (error) {
    // Commander has printed its own message; asking for help or the version is no error.
    if (error instanceof CommanderError) return error.exitCode === 0 ? EXIT.ok : EXIT.usage;
    throw error;
  }
};

watchOutput({
  stdout: process.stdout,
  stderr: process.stderr,
  onFailure: (error) => {
    // What serves goes on without a place for its words (a terminal that was closed, a full disk).
    if (process.argv[2] === 'serve' || process.argv[2] === 'witness') return;
    process.stderr.write(`edict: cannot write the output: ${errorMessage(error)}\n`);
    process.exit(EXIT.usage);
  },
});

try {
  process.exitCode = await run(process.argv);
} catch (error) {
  const code = isAppError(error) ? `${error.code}: ` : '';
  process.stderr.write(`edict: ${code}${errorMessage(error)}\n`);
  if (process.env['EDICT_DEBUG'] !== undefined && error instanceof Error) process.stderr.write(`${error.stack}\n`);
  process.exitCode = EXIT.usage;
}
