import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { AppError } from '../../shared/contracts/errors.ts';
import type { Sql } from '../core/append.ts';
import { databaseError, type Database } from '../core/database.ts';

/** Plain SQL files `NNNN_name.sql`, applied in the order of their names, each in a transaction, never again. */
export interface MigrationSet {
  readonly directory: string;
  /** Holds the tables, and `migration`: what was applied, with the SHA-256 of each file. */
  readonly schema: string;
  /** Everything is made by and belongs to this role; absent: to the login. */
  readonly owner?: string;
  /** Makes the roles; run when `owner` is missing or the login may not act as it. */
  readonly rolesFile?: string;
}

export interface MigrationResult {
  readonly applied: readonly string[];
  /** Applied before, and unchanged since. */
  readonly present: readonly string[];
}

interface MigrationFile {
  readonly name: string;
  readonly sql: string;
  readonly checksum: string;
}

/** The folder above this file, in the sources or in the build, that holds `migrations`. */
const migrationsFolder = (): string => {
  let folder = dirname(fileURLToPath(import.meta.url));
  for (;;) {
    const candidate = join(folder, 'migrations');
    if (existsSync(join(candidate, '0001_ledger.sql'))) return candidate;
    const above = dirname(folder);
    if (above === folder) throw new AppError('internal', 'the folder `migrations` is not where the program is');
    folder = above;
  }
};

export const ledgerMigrations = (folder: string = migrationsFolder()): MigrationSet => ({
  directory: folder,
  schema: 'edict',
  owner: 'edict_owner',
  rolesFile: join(folder, 'roles.sql'),
});

export const keyStoreMigrations = (folder: string = join(migrationsFolder(), 'keys')): MigrationSet => ({
  directory: folder,
  schema: 'edict_keys',
});

const FILE_NAME = /^\d{4}_[a-z0-9_]+\.sql$/;
/** Two processes that migrate one database at the same time take turns. */
const LOCK_KEY = 7_181_001;

const readMigrations = (directory: string): readonly MigrationFile[] =>
  readdirSync(directory)
    .filter((name) => FILE_NAME.test(name))
    .sort()
    .map((name) => {
      const sql = readFileSync(join(directory, name), 'utf8');
      return { name, sql, checksum: createHash('sha256').update(sql).digest('hex') };
    });

const identifier = (name: string): string => `"${name.replaceAll('"', '""')}"`;

/** What was applied, in order; empty when nothing ever was. */
const readApplied = async (sql: Sql, schema: string): Promise<ReadonlyMap<string, string>> => {
  const [table] = await sql.query<{ found: boolean }>('select to_regclass($1::text) is not null as found', [
    `${identifier(schema)}.migration`,
  ]);
  if (table?.found !== true) return new Map();
  const rows = await sql.query<{ name: string; checksum: string }>(
    `select name, checksum from ${identifier(schema)}.migration order by name`,
    [],
  );
  return new Map(rows.map(({ name, checksum }) => [name, checksum]));
};

const refuse = (message: string): AppError => new AppError('settings_invalid', message);

/** The files still to be applied. Throws when what was applied is not a beginning of what there is. */
const pendingFiles = (
  files: readonly MigrationFile[],
  applied: ReadonlyMap<string, string>,
  schema: string,
): readonly MigrationFile[] => {
  const known = new Map(files.map((file) => [file.name, file]));
  for (const [name, checksum] of applied) {
    const file = known.get(name);
    if (file === undefined)
      throw refuse(`schema ${schema}: migration ${name} was applied by a newer program than this one`);
    if (file.checksum !== checksum)
      throw refuse(`schema ${schema}: migration ${name} was edited after it was applied; add a new file instead`);
  }
  const newest = [...applied.keys()].sort().at(-1) ?? '';
  const pending = files.filter(({ name }) => !applied.has(name));
  const late = pending.find(({ name }) => name < newest);
  if (late !== undefined)
    throw refuse(`schema ${schema}: migration ${late.name} sorts before ${newest}, which is applied`);
  return pending;
};

/** What Postgres says when another process makes the same roles and grants at this moment; they belong to all databases. */
const isRoleRace = ({ details, message }: AppError): boolean =>
  details['sqlstate'] === '23505' || details['sqlstate'] === '42710' || message.includes('tuple concurrently updated');

const ROLE_ATTEMPTS = 10;
const ROLE_RETRY_MS = 100;

const ensureOwner = async (database: Database, set: MigrationSet, attempt = 1): Promise<void> => {
  const { owner, rolesFile, schema } = set;
  if (owner === undefined || rolesFile === undefined) return;
  const rolesSql = readFileSync(rolesFile, 'utf8');
  const names = [...new Set(rolesSql.match(/'edict_[a-z_]+'/g) ?? [])].map((quoted) => quoted.slice(1, -1));
  const [state] = await database.query<{ complete: boolean; database: string }>(
    `select (select count(*) from pg_catalog.pg_roles where rolname = any (string_to_array($1::text, ','))) = $2::int
        and exists (select from pg_catalog.pg_roles where rolname = $3::text and pg_has_role(oid, 'member')
                      and has_database_privilege(oid, current_database(), 'create')) as complete,
        current_database() as database`,
    [names.join(','), names.length, owner],
  );
  if (state?.complete === true) return;
  try {
    await database.transaction((sql) => sql.query(rolesSql));
  } catch (error) {
    const cause = databaseError(error);
    if (attempt < ROLE_ATTEMPTS && isRoleRace(cause)) {
      await sleep(ROLE_RETRY_MS);
      return ensureOwner(database, set, attempt + 1);
    }
    throw new AppError(
      'settings_invalid',
      `schema ${schema}: the roles of the ledger are not complete and this login may not make them; ` +
        `run migrations/roles.sql as an administrator of database ${state?.database ?? ''}, ` +
        `then: grant ${owner} to the login of database.owner_url_file`,
      { cause },
    );
  }
};

/**
 * Brings the schema to this program's state. Any number of processes may do so at once, any number of times.
 * Rejects with `settings_invalid` when an applied file was edited or removed, when the database is newer, or when the
 * roles are missing and cannot be made.
 */
export const migrate = async (database: Database, set: MigrationSet): Promise<MigrationResult> => {
  const files = readMigrations(set.directory);
  await ensureOwner(database, set);
  const applied: string[] = [];
  for (;;) {
    const next = await database.transaction(async (sql) => {
      await sql.query('select pg_advisory_xact_lock($1::bigint)', [String(LOCK_KEY)]);
      const [file] = pendingFiles(files, await readApplied(sql, set.schema), set.schema);
      if (file === undefined) return undefined;
      if (set.owner !== undefined) await sql.query(`set local role ${identifier(set.owner)}`);
      await sql.query(
        `create schema if not exists ${identifier(set.schema)};
         create table if not exists ${identifier(set.schema)}.migration (
           name text primary key, checksum text not null, applied_at timestamptz not null default now());
         grant select on ${identifier(set.schema)}.migration to public`,
      );
      await sql.query(file.sql);
      await sql.query(`insert into ${identifier(set.schema)}.migration (name, checksum) values ($1, $2)`, [
        file.name,
        file.checksum,
      ]);
      return file.name;
    });
    if (next === undefined) break;
    applied.push(next);
  }
  return { applied, present: files.map(({ name }) => name).filter((name) => !applied.includes(name)) };
};

/** Rejects with `settings_invalid` unless the schema is in exactly this program's state: `edict migrate` is to be run. */
export const requireMigrated = async (database: Database, set: MigrationSet): Promise<void> => {
  const pending = pendingFiles(readMigrations(set.directory), await readApplied(database, set.schema), set.schema);
  if (pending.length > 0)
    throw refuse(`schema ${set.schema}: ${pending.length} migrations are not applied; run \`edict migrate\``);
};
