import { type Command, CommanderError } from 'commander';
import { policyCommand } from '../../services/cli/commands/policy.ts';
import { isAppError } from '../../services/shared/contracts/errors.ts';

export interface Ran {
  readonly exitCode: number;
  readonly stdout: string;
  readonly stderr: string;
}

const prepare = (command: Command, write: (text: string) => void): Command => {
  command.exitOverride().configureOutput({ writeOut: write, writeErr: write });
  for (const child of command.commands) prepare(child, write);
  return command;
};

/** `edict policy ARGS` in this process, which starts a hundred times faster than one of its own. */
export const edict = async (args: readonly string[]): Promise<Ran> => {
  let stdout = '';
  const write = process.stdout.write.bind(process.stdout);
  const { exitCode } = process;
  process.exitCode = 0;
  const keep = (text: string | Uint8Array): boolean => {
    stdout += String(text);
    return true;
  };
  process.stdout.write = keep;
  try {
    await prepare(policyCommand(), keep).parseAsync([...args], { from: 'user' });
    return { exitCode: process.exitCode, stdout, stderr: '' };
  } catch (error) {
    if (error instanceof CommanderError) return { exitCode: error.exitCode === 0 ? 0 : 2, stdout, stderr: stdout };
    if (isAppError(error)) return { exitCode: 2, stdout, stderr: error.message };
    throw error;
  } finally {
    process.stdout.write = write;
    process.exitCode = exitCode;
  }
};
