import { appendFileSync, cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { connectPostgres } from '../../../services/audit/postgres/connect.ts';
import {
  keyStoreMigrations,
  ledgerMigrations,
  migrate,
  requireMigrated,
} from '../../../services/audit/postgres/migrate.ts';
import type { Database } from '../../../services/audit/core/database.ts';
import { createTestDatabase, type TestDatabase } from '../../support/postgres.ts';
import { repositoryRoot } from '../../support/prepared-parts.ts';

describe('migrate', () => {
  let test: TestDatabase;
  let database: Database;
  let folder: string;

  beforeEach(async () => {
    test = await createTestDatabase();
    database = connectPostgres(test.adminUrl, { poolSize: 2 });
    folder = mkdtempSync(path.join(os.tmpdir(), 'edict-migrations-'));
    cpSync(path.join(repositoryRoot, 'migrations'), folder, { recursive: true });
  });
  afterEach(async () => {
    await database.close();
    await test.close();
    rmSync(folder, { recursive: true, force: true });
  });

  it('applies every file once, also when several processes start at once', async () => {
    const others = Array.from({ length: 3 }, () => connectPostgres(test.adminUrl, { poolSize: 1 }));
    const results = await Promise.all([database, ...others].map((each) => migrate(each, ledgerMigrations())));
    await Promise.all(others.map((each) => each.close()));
    const files = readdirSync(folder).filter((name) => /^\d/.test(name));
    expect(results.flatMap(({ applied }) => applied).sort()).toEqual(files);
    const again = await migrate(database, ledgerMigrations());
    expect(again.applied).toEqual([]);
    expect(again.present).toEqual(files);
    await expect(requireMigrated(database, ledgerMigrations())).resolves.toBeUndefined();
  });

  it('puts the key store into a schema of its own', async () => {
    await expect(requireMigrated(database, keyStoreMigrations())).rejects.toMatchObject({ code: 'settings_invalid' });
    expect((await migrate(database, keyStoreMigrations())).applied).toContain('0001_payload_keys.sql');
    await expect(requireMigrated(database, keyStoreMigrations())).resolves.toBeUndefined();
  });

  it('refuses a file that was edited after it was applied', async () => {
    await migrate(database, ledgerMigrations(folder));
    appendFileSync(path.join(folder, '0001_ledger.sql'), '\n-- a later thought\n');
    await expect(migrate(database, ledgerMigrations(folder))).rejects.toMatchObject({
      code: 'settings_invalid',
      message: expect.stringContaining('0001_ledger.sql was edited'),
    });
  });

  it('refuses a database that a newer program migrated', async () => {
    writeFileSync(path.join(folder, '9999_later.sql'), 'create table edict.later (id integer)');
    await migrate(database, ledgerMigrations(folder));
    await expect(requireMigrated(database, ledgerMigrations())).rejects.toMatchObject({
      message: expect.stringContaining('newer program'),
    });
  });

  it('refuses a file that sorts before one that is applied', async () => {
    await migrate(database, ledgerMigrations(folder));
    writeFileSync(path.join(folder, '0000_forgotten.sql'), 'select 1');
    await expect(migrate(database, ledgerMigrations(folder))).rejects.toMatchObject({
      message: expect.stringContaining('sorts before'),
    });
  });

  it('leaves nothing of a file that fails half way', async () => {
    writeFileSync(path.join(folder, '9999_bad.sql'), 'create table edict.half (id integer); select 1 / 0');
    await expect(migrate(database, ledgerMigrations(folder))).rejects.toMatchObject({ code: 'internal' });
    const rows = await database.query(
      "select to_regclass('edict.half') as half, count(*)::int as n from edict.migration where name like '9999%'",
    );
    expect(rows).toEqual([{ half: null, n: 0 }]);
  });

  it('names the SQL for an administrator when the login may not make the roles', async () => {
    const login = `plain_${test.name.slice(-8)}`;
    await database.query(`create role ${login} login`);
    const plain = connectPostgres(test.url(login), { poolSize: 1 });
    try {
      await expect(migrate(plain, ledgerMigrations())).rejects.toMatchObject({
        code: 'settings_invalid',
        message: expect.stringContaining('migrations/roles.sql'),
      });
    } finally {
      await plain.close();
      await database.query(`drop role ${login}`);
    }
  });

  it('runs under a login that may do no more than act as the owner', async () => {
    const login = `owner_${test.name.slice(-8)}`;
    await database.query(readFileSync(path.join(folder, 'roles.sql'), 'utf8'));
    await database.query(`create role ${login} login in role edict_owner`);
    const owner = connectPostgres(test.url(login), { poolSize: 1 });
    try {
      expect((await migrate(owner, ledgerMigrations())).applied).toContain('0001_ledger.sql');
    } finally {
      await owner.close();
    }
    await database.query(`drop role ${login}`);
  });
});
