import { Command } from 'commander';
import type { Database } from '../../audit/core/database.ts';
import { connectPostgres, readDatabaseUrl } from '../../audit/postgres/connect.ts';
import { keyStoreMigrations, ledgerMigrations, migrate, type MigrationSet } from '../../audit/postgres/migrate.ts';
import { applyRetentionFloor, openLedgerStore } from '../../audit/store.ts';
import { AppError } from '../../shared/contracts/errors.ts';
import { createKafkaClient } from '../../shared/kafka/client.ts';
import { createTopics } from '../../shared/kafka/topics.ts';
import { createLogger } from '../../shared/runtime/logger.ts';
import { isEmbedded, loadSettings, type Settings } from '../../shared/settings/settings.ts';

interface Report {
  readonly target: string;
  readonly applied: readonly string[];
  readonly present: readonly string[];
}

/** Migrations wait for locks of a running service, and may rewrite tables. */
const STATEMENT_TIMEOUT_MS = 3_600_000;
const LOCK_TIMEOUT_MS = 60_000;

const migrateDatabase = async (
  target: string,
  member: string,
  urlFile: string | undefined,
  set: MigrationSet,
  isPooled: boolean,
  then: (database: Database) => Promise<void> = () => Promise.resolve(),
): Promise<Report> => {
  if (urlFile === undefined) throw new AppError('settings_invalid', `${member}: is needed by \`edict migrate\``);
  const database = connectPostgres(readDatabaseUrl(urlFile), {
    isPooled,
    poolSize: 1,
    applicationName: 'edict-migrate',
    statementTimeoutMs: STATEMENT_TIMEOUT_MS,
    lockTimeoutMs: LOCK_TIMEOUT_MS,
  });
  try {
    const result = await migrate(database, set);
    await then(database);
    return { target, ...result };
  } finally {
    await database.close();
  }
};

const migrateAll = async (settings: Settings): Promise<readonly Report[]> => {
  const reports: Report[] = [];
  if (isEmbedded(settings)) {
    // Opening it migrates it.
    await (await openLedgerStore(settings)).close();
    reports.push({ target: 'embedded database', applied: [], present: ['all'] });
  } else {
    const { owner_url_file: owner, keys_url_file: keys, pooler } = settings.database;
    reports.push(
      await migrateDatabase('ledger', '/database/owner_url_file', owner, ledgerMigrations(), pooler, (database) =>
        applyRetentionFloor(database, settings),
      ),
    );
    reports.push(await migrateDatabase('key store', '/database/keys_url_file', keys, keyStoreMigrations(), pooler));
  }
  if (settings.kafka.brokers.length > 0) {
    const logger = createLogger({ service: 'migrate', level: 'warn' });
    const kafka = createKafkaClient(settings.kafka, 'edict-migrate', logger);
    reports.push({ target: 'topics', applied: await createTopics(kafka, settings.kafka), present: [] });
  }
  return reports;
};

export const migrateCommand = (): Command =>
  new Command('migrate')
    .description('bring databases and topics to this version; run again, it changes nothing')
    .option('-c, --config <file>', 'settings file (default: the environment variable EDICT_CONFIG)')
    .option('--json', 'print JSON')
    .addHelpText(
      'after',
      '\nNeeds database.owner_url_file and database.keys_url_file; makes the topics when kafka.brokers is set.\n' +
        'Sets the floor of retention in the database: 183 days, or none with audit.retention_below_floor.\n' +
        'When the owner may not make roles, an administrator runs migrations/roles.sql first.\n',
    )
    .action(async (options: { readonly config?: string; readonly json?: boolean }) => {
      const reports = await migrateAll(loadSettings({ file: options.config }).settings);
      if (options.json === true) {
        process.stdout.write(`${JSON.stringify({ migrated: reports }, undefined, 2)}\n`);
        return;
      }
      for (const { target, applied } of reports)
        process.stdout.write(`${target}: ${applied.length === 0 ? 'up to date' : applied.join(', ')}\n`);
    });
