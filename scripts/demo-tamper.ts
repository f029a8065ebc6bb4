/**
 * Alters one stored row of the embedded ledger behind its back, as an administrator of a database could, so that
 * `edict audit verify` has something to find. Edict must be stopped: an embedded database has one user at a time.
 *
 *   npm run demo:tamper -- [--what payload|header|search|delete] [--tenant default] [--config edict.yaml]
 */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { Command, Option } from 'commander';
import { startEmbeddedPostgres } from '../services/audit/embedded/embedded-postgres.ts';
import type { Sql } from '../services/audit/core/append.ts';
import type { Database } from '../services/audit/core/database.ts';
import { AppError, errorMessage, isAppError } from '../services/shared/contracts/errors.ts';
import { homePaths } from '../services/shared/settings/home.ts';
import { isEmbedded, loadSettings, tenantNames } from '../services/shared/settings/settings.ts';

const ATTACKS = ['payload', 'header', 'search', 'delete'] as const;
export type Tampering = (typeof ATTACKS)[number];

export interface Tampered {
  readonly seq: bigint;
  readonly decisionId: string;
  readonly origin: string;
  /** What was done, for a person. */
  readonly did: string;
}

interface Target {
  readonly log_id: number;
  readonly seq: bigint;
  readonly event_id: string;
  readonly decision: string;
  readonly origin: string;
}

/** The newest denied decision, else the newest: the one that somebody would like to be otherwise. */
const findTarget = async (sql: Sql, tenant: string): Promise<Target> => {
  const [target] = await sql.query<Target>(
    `select d.log_id, d.seq, d.event_id::text as event_id, d.decision, l.origin
     from edict.decision d join edict.log l on l.id = d.log_id and l.tenant = $1
     order by (d.decision = 'deny') desc, d.log_id desc, d.seq desc limit 1`,
    [tenant],
  );
  if (target === undefined)
    throw new AppError('not_found', `tenant ${tenant} has no decision yet: start Edict, ask for one, stop it`);
  return target;
};

/** Runs `work` while the triggers of the entry's partitions are off, and puts them back as they were. */
const withoutTriggers = async (sql: Sql, { log_id: log, seq }: Target, work: () => Promise<void>): Promise<void> => {
  const tables = ['entry', 'payload'].map((kind) => `edict.${kind}_l${log}_s${seq >> 16n}`);
  for (const table of tables) await sql.query(`alter table ${table} disable trigger all`);
  await work();
  for (const table of tables)
    await sql.query(
      `alter table ${table} enable always trigger append_only; alter table ${table} enable always trigger no_truncate`,
    );
};

const alter = async (sql: Sql, what: Tampering, target: Target): Promise<string> => {
  const place = [target.log_id, Number(target.seq >> 16n), String(target.seq)];
  const row = 'log_id = $1::int and segment = $2::int and seq = $3::bigint';
  switch (what) {
    case 'payload':
      await sql.query(
        `update edict.payload set ciphertext = set_byte(ciphertext, 64, get_byte(ciphertext, 64) # 1) where ${row}`,
        place,
      );
      return 'flipped one bit of its encrypted payload';
    case 'header':
      // E_i: the ingest time stands at bytes 11 to 18, in microseconds. Who can do this can also mend the leaf hash.
      await sql.query(
        `update edict.entry set header = changed.header, leaf = sha256('\\x00'::bytea || changed.header)
         from (select overlay(header placing int8send(
                 ('x' || encode(substr(header, 11, 8), 'hex'))::bit(64)::bigint - 3600000000) from 11 for 8) as header
               from edict.entry where ${row}) changed
         where ${row}`,
        place,
      );
      return 'dated its header back by an hour, and mended its leaf hash';
    case 'search': {
      const other = target.decision === 'deny' ? 'allow' : 'deny';
      await sql.query('update edict.decision set decision = $3 where log_id = $1::int and seq = $2::bigint', [
        target.log_id,
        String(target.seq),
        other,
      ]);
      return `changed ${target.decision} to ${other} in the search table`;
    }
    case 'delete':
      await sql.query(`delete from edict.entry where ${row}`, place);
      await sql.query(`delete from edict.payload where ${row}`, place);
      await sql.query('delete from edict.decision where log_id = $1::int and seq = $2::bigint', [
        target.log_id,
        String(target.seq),
      ]);
      return 'deleted its header, its payload and its search row';
    default:
      return what satisfies never;
  }
};

/** Needs a superuser. Rejects with `not_found` when the tenant has no decision. */
export const tamper = (database: Database, tenant: string, what: Tampering): Promise<Tampered> =>
  database.transaction(async (sql) => {
    const target = await findTarget(sql, tenant);
    let did = '';
    await withoutTriggers(sql, target, async () => {
      did = await alter(sql, what, target);
    });
    return { seq: target.seq, decisionId: target.event_id, origin: target.origin, did };
  });

interface TamperOptions {
  readonly what: Tampering;
  readonly tenant?: string;
  readonly config?: string;
}

const run = async (): Promise<void> => {
  const program = new Command('npm run demo:tamper --')
    .description('Alters one stored row of the embedded ledger, so that `edict audit verify` has something to find.')
    .addOption(new Option('--what <what>', 'what to alter').choices(ATTACKS).default('payload'))
    .option('-t, --tenant <name>', 'whose ledger (default: the first tenant of the settings)')
    .option('-c, --config <file>', 'settings file (default: the environment variable EDICT_CONFIG)')
    .addHelpText('after', '\nEdict must be stopped. Remove its home folder (.edict) to have a sound ledger again.\n')
    .parse();
  const values = program.opts<TamperOptions>();
  const { what } = values;
  const { settings } = loadSettings({ file: values.config });
  if (!isEmbedded(settings))
    throw new AppError('usage', 'the settings name a Postgres server; this script only opens the embedded database');
  const folder = homePaths(settings.home).database;
  if (!existsSync(join(folder, 'PG_VERSION')))
    throw new AppError('usage', `${folder} holds no database yet: run npm start, ask for a decision, stop it`);
  const tenant = values.tenant ?? tenantNames(settings)[0] ?? 'default';
  let database: Database;
  try {
    database = await startEmbeddedPostgres(folder, { lockTimeoutMs: 2_000 });
  } catch (error) {
    if (isAppError(error) && error.code === 'database_locked')
      throw new AppError(
        'database_locked',
        'Edict is running and holds the database: stop it (Ctrl-C), then try again',
        {
          cause: error,
        },
      );
    throw error;
  }
  try {
    const { seq, decisionId, origin, did } = await tamper(database, tenant, what);
    await database.flush();
    process.stdout.write(
      [
        `Took the triggers off, ${did}, put them back:`,
        `  log       ${origin}`,
        `  entry     ${seq}`,
        `  decision  ${decisionId}`,
        '',
        'See it found:',
        '  npm start                  # in a terminal of its own',
        `  npx edict audit verify${values.tenant === undefined ? '' : ` --tenant ${tenant}`}     # what it finds decides its exit code`,
        '',
        `A ledger never mends itself: to have a sound one again, stop Edict and remove ${settings.home}`,
        '',
      ].join('\n'),
    );
  } finally {
    await database.close();
  }
};

if (process.argv[1] === import.meta.filename) {
  try {
    await run();
  } catch (error) {
    process.stderr.write(`demo:tamper: ${errorMessage(error)}\n`);
    process.exitCode = 2;
  }
}
