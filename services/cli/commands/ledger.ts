import { readFileSync } from 'node:fs';
import { userInfo } from 'node:os';
import { Command } from 'commander';
import type { CreatedLedger } from '../../audit/postgres/create-ledger.ts';
import { resumeLedger, tenantsToResume, type ResumedLedger } from '../../audit/resume.ts';
import { createTenantLedger, openLedgerStore, restartEmbeddedLedgers } from '../../audit/store.ts';
import { AppError, errorCode, errorMessage, isAppError } from '../../shared/contracts/errors.ts';
import { isEmbedded, loadSettings, type Settings } from '../../shared/settings/settings.ts';

interface CreateOptions {
  readonly newIncarnation?: boolean;
  readonly config?: string;
  readonly json?: boolean;
}

interface Outcome {
  readonly created: readonly CreatedLedger[];
  /** Folders of a ledger that could not go on; nothing in them was deleted. */
  readonly aside: readonly string[];
}

/** What the embedded database says when it cannot go on as it was. */
const isLost = (error: unknown): boolean =>
  isAppError(error) && (error.code === 'ledger_corrupt' || error.code === 'journal_corrupt');

const create = async (settings: Settings, tenant: string, isNewIncarnation: boolean): Promise<Outcome> => {
  let store;
  try {
    store = await openLedgerStore(settings, { role: 'owner' });
  } catch (error) {
    if (!isNewIncarnation || !isEmbedded(settings) || !isLost(error)) throw error;
    const { aside, ledgers } = await restartEmbeddedLedgers(settings);
    return { created: ledgers, aside };
  }
  try {
    const created = await createTenantLedger(settings, store, tenant, { newIncarnation: isNewIncarnation });
    return { created: [created], aside: [] };
  } finally {
    await store.close();
  }
};

const describe = ({ isNew, log, meta }: CreatedLedger) => ({
  created: isNew,
  tenant: log.tenant,
  origin: log.origin,
  incarnation: log.incarnation,
  vkey: log.vkey,
  ...(meta === undefined ? {} : { meta: { created: meta.isNew, origin: meta.origin, vkey: meta.vkey } }),
});

interface ResumeOptions {
  readonly all?: boolean;
  readonly reason: string;
  readonly by?: string;
  readonly checkpoint?: string;
  readonly config?: string;
  readonly json?: boolean;
}

const MAX_REASON = 1_000;

const readNote = (file: string): Buffer => {
  try {
    return readFileSync(file);
  } catch (cause) {
    throw new AppError('usage', `--checkpoint: ${file} cannot be read (${errorCode(cause) ?? errorMessage(cause)})`, {
      cause,
    });
  }
};

const describeResumed = ({ created, source }: ResumedLedger) => {
  const { log, continued } = created;
  if (continued === undefined) throw new AppError('internal', `${log.origin} continues nothing`);
  const { previous, kept, found, streams } = continued;
  const holes = streams.flatMap((stream) => stream.holes);
  return {
    ...describe(created),
    continues: { origin: previous.origin, size: String(previous.size), from: source },
    kept: String(kept),
    found: String(found),
    asked_again: String(holes.reduce((sum, { from, to }) => sum + to - from + 1n, 0n)),
  };
};

const resume = async (tenant: string | undefined, options: ResumeOptions): Promise<void> => {
  const { reason, by = userInfo().username, checkpoint, all = false } = options;
  if (all === (tenant !== undefined)) throw new AppError('usage', 'a tenant, or --all for all that the signer refuses');
  if (all && checkpoint !== undefined) throw new AppError('usage', '--checkpoint: is of one log; give its tenant');
  if (reason.trim() === '' || reason.length > MAX_REASON)
    throw new AppError('usage', `--reason: 1 to ${MAX_REASON} characters, for whoever reads the ledger`);
  const note = checkpoint === undefined ? {} : { checkpoint: readNote(checkpoint) };
  const { settings } = loadSettings({ file: options.config });
  const store = await openLedgerStore(settings, { role: 'owner' });
  const ledgers: ReturnType<typeof describeResumed>[] = [];
  try {
    const tenants = tenant === undefined ? await tenantsToResume(store) : [tenant];
    for (const each of tenants)
      ledgers.push(describeResumed(await resumeLedger(settings, store, each, { reason, by, ...note })));
  } finally {
    await store.close();
  }
  if (options.json === true) process.stdout.write(`${JSON.stringify({ ledgers }, undefined, 2)}\n`);
  else {
    if (ledgers.length === 0) process.stdout.write('the signer refuses no log: there is nothing to resume\n');
    for (const { origin, vkey, continues, kept, found, asked_again: again } of ledgers)
      process.stdout.write(
        `created: ${origin}\n${vkey}\n` +
          `  continues ${continues.origin}, ${continues.size} entries by ${continues.from}\n` +
          `  kept ${kept} of the ${found} entries in the database; ${again} events so far are asked for again\n`,
      );
  }
};

export const ledgerCommand = (): Command => {
  const ledger = new Command('ledger').description('create ledgers, and go on after a restore');
  ledger
    .command('create')
    .description('create the ledger of a tenant: key pair, origin, first entry')
    .argument('<tenant>', 'the tenant; `edict` is the system tenant, which emitters need besides their own')
    .option('--new-incarnation', 'go on in a new log that names the end of the one before')
    .option('-c, --config <file>', 'settings file (default: the environment variable EDICT_CONFIG)')
    .option('--json', 'print JSON')
    .addHelpText(
      'after',
      '\nThe private key goes to keys/ledger under home, with the verifier key (.vkey) beside it. Auditors get the\n' +
        'verifier key; the private key is for the signer alone. With the ledger of `edict` comes the meta log over the\n' +
        'checkpoints of all ledgers, and its key @meta-<incarnation>.pem.\n' +
        '\nWhen the embedded ledger cannot go on (lost journal, lost events), --new-incarnation puts it aside and begins\n' +
        'a new incarnation of every ledger in it.\n' +
        '\nExit codes: 0 created, 1 the ledger exists, 2 usage or environment.\n',
    )
    .action(async (tenant: string, options: CreateOptions) => {
      const { settings } = loadSettings({ file: options.config });
      const { created, aside } = await create(settings, tenant, options.newIncarnation === true);
      const ledgers = created.map(describe);
      if (options.json === true) process.stdout.write(`${JSON.stringify({ ledgers, aside }, undefined, 2)}\n`);
      else {
        for (const { meta, ...log } of ledgers)
          for (const { created: isNew, origin, vkey } of meta === undefined ? [log] : [log, meta])
            process.stdout.write(`${isNew ? 'created' : 'exists already'}: ${origin}\n${vkey}\n`);
        for (const path of aside) process.stdout.write(`put aside: ${path}\n`);
      }
      if (ledgers.some(({ created: isNew }) => !isNew)) process.exitCode = 1;
    });
  ledger
    .command('resume')
    .description('go on after the database was restored from an older copy')
    .argument('[tenant]', 'the tenant whose log the signer refuses (log_rewound, log_forked)')
    .option('--all', 'every tenant whose newest log the signer refuses because it went back')
    .requiredOption('--reason <text>', 'why the database went back; it stays in the ledger')
    .option('--by <name>', 'who says so (default: the user of this process)')
    .option('--checkpoint <file>', 'the newest checkpoint of the log that anybody holds, when the signer cannot tell')
    .option('-c, --config <file>', 'settings file (default: the environment variable EDICT_CONFIG)')
    .option('--json', 'print JSON')
    .addHelpText(
      'after',
      '\nThe log is closed for ever, and a new incarnation begins, with a key pair of its own, whose first entry names\n' +
        'the largest checkpoint that was signed of it: as the signer says in its alarm, as its memory has it when that\n' +
        'lies on this machine, or by --checkpoint. What the signer signed and the database lost stays red in every\n' +
        'verification. Events behind the newest checkpoint that the database still has are asked for again, and the\n' +
        'spools of the emitters have them for spool.keep.\n' +
        '\nWith the embedded database stop the services first. The new private key is for the signer, as always.\n' +
        '\nExit codes: 0 done, or nothing to do with --all; 2 usage (nothing was lost) or environment.\n',
    )
    .action(resume);
  return ledger;
};
