import { Command } from 'commander';
import { serveWitness } from '../../witness/main.ts';

interface WitnessCommandOptions {
  readonly log: readonly string[];
  readonly state: string;
  readonly listen: string;
  readonly name?: string;
}

export const witnessCommand = (): Command =>
  new Command('witness')
    .description('cosign the checkpoints of logs, when they only grow (C2SP tlog-witness)')
    .requiredOption('--log <file...>', 'verifier keys of the logs that it watches; may be given several times')
    .requiredOption('--state <folder>', 'what it may not forget: made at the first start, with its key')
    .option('--listen <address>', 'where it takes checkpoints', '127.0.0.1:7183')
    .option('--name <name>', 'what it is called in cosignatures, like witness.example.org/w1; at the first start only')
    .addHelpText(
      'after',
      '\nThe first start makes STATE/witness.pem (keep it secret) and STATE/witness.vkey (give it to the operator of the\n' +
        'log and to whoever verifies). Never put an older copy of the folder back: a witness that forgot cosigns a second\n' +
        'history. Make a new one in its place.\n' +
        '\nIt runs until SIGTERM or SIGINT. POST /add-checkpoint takes checkpoints, GET /logs shows the newest of each log.\n' +
        '\nExit codes: 0 stopped, 2 usage or environment.\n',
    )
    .action(async (options: WitnessCommandOptions) => {
      await serveWitness({
        logFiles: options.log,
        folder: options.state,
        listen: options.listen,
        name: options.name,
      });
    });
