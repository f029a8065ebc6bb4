import { writeFileSync } from 'node:fs';
import { Command } from 'commander';
import { runDrill, type DrillReport } from '../../audit/drill-main.ts';
import { readDatabaseUrl } from '../../audit/postgres/connect.ts';
import { AppError, errorCode, errorMessage } from '../../shared/contracts/errors.ts';
import { jsonLine, paintFor, print, printable } from './audit-print.ts';

interface DrillCommandOptions {
  readonly databaseUrlFile?: string;
  readonly report?: string;
  readonly json?: boolean;
}

const writeReport = (file: string, report: DrillReport): void => {
  try {
    writeFileSync(file, `${JSON.stringify(report, undefined, 2)}\n`, { mode: 0o600 });
  } catch (cause) {
    throw new AppError('usage', `--report: ${file} cannot be written (${errorCode(cause) ?? errorMessage(cause)})`, {
      cause,
    });
  }
};

const drill = async ({ databaseUrlFile, report: file, json }: DrillCommandOptions): Promise<void> => {
  const paint = paintFor(process.stdout, process.env);
  const report = await runDrill({
    ...(databaseUrlFile === undefined ? {} : { databaseUrl: readDatabaseUrl(databaseUrlFile) }),
    onAttack: ({ name, row, expected, red, ok }) => {
      if (json === true) return;
      const mark = ok ? paint.green('ok    ') : paint.red('FAILED');
      const shown = red.length === 0 ? 'nothing' : red.join(', ');
      print(
        printable(`${name.padEnd(32)} ${row}`).padEnd(80) +
          ` ${mark} red: ${shown}${ok ? '' : `; expected: ${expected.join(', ')}`}\n`,
      );
    },
  });
  if (file !== undefined) writeReport(file, report);
  if (json === true) print(jsonLine(report));
  else {
    if (!report.isCleanBefore) print(`${paint.red('FAILED')} the ledger was red before anything was done to it\n`);
    for (const name of report.notRun) print(`${name.padEnd(32)} not run: its keys lie in files here, not in a table\n`);
    const detected = report.attacks.filter(({ ok }) => ok).length;
    print(`${detected} of ${report.attacks.length} attacks turned exactly the expected verdicts red\n`);
  }
  if (!report.ok) process.exitCode = 1;
};

export const auditDrillCommand = (): Command =>
  new Command('drill')
    .description('attack a ledger that is made for it, and show that each attack is detected')
    .option(
      '--database-url-file <file>',
      'file with the URL of an empty database, under a superuser, that may be thrown away (default: an embedded one)',
    )
    .option('--report <file>', 'write the report there, as JSON')
    .option('--json', 'one JSON document')
    .addHelpText(
      'after',
      '\nA small ledger is made through the real ingest, sealed and signed; then each attack is performed as a superuser with\n' +
        'triggers and checks off, the verifier runs, and the attack is taken back. No ledger of yours is touched.\n' +
        '\nExit codes: 0 every attack turned exactly the expected verdicts red, 1 one did not, 2 usage or environment.\n',
    )
    .action(drill);
