import { Command } from 'commander';
import type { CreatedLedger } from '../../audit/postgres/create-ledger.ts';
import { createTenantLedger, openLedgerStore, restartEmbeddedLedgers } from '../../audit/store.ts';
import { isAppError } from '../../shared/contracts/errors.ts';
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

export const ledgerCommand = (): Command => {
  const ledger = new Command('ledger').description('create ledgers');
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
  return ledger;
};
