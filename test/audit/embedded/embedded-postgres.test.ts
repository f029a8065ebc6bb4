import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import type { Database } from '../../../services/audit/core/database.ts';
import { startEmbeddedPostgres } from '../../../services/audit/embedded/embedded-postgres.ts';
import { connectPostgres } from '../../../services/audit/postgres/connect.ts';
import { ledgerMigrations, migrate } from '../../../services/audit/postgres/migrate.ts';
import { childrenOf } from '../../support/child-process.ts';
import { createTestDatabase, type TestDatabase } from '../../support/postgres.ts';

describe('the embedded Postgres', () => {
  let home: string;
  let folder: string;
  let database: Database;

  beforeAll(async () => {
    home = mkdtempSync(path.join(os.tmpdir(), 'edict-embedded-'));
    folder = path.join(home, 'database');
    database = await startEmbeddedPostgres(folder);
  }, 120_000);
  afterAll(async () => {
    await database.close();
    rmSync(home, { recursive: true, force: true });
  });

  it('takes the same migrations as a real server', async () => {
    expect((await migrate(database, ledgerMigrations())).applied).toContain('0001_ledger.sql');
    expect((await migrate(database, ledgerMigrations())).applied).toEqual([]);
  });

  it('answers the same types as a real server, and takes the same parameters', async () => {
    const real: TestDatabase = await createTestDatabase();
    const client = connectPostgres(real.adminUrl, { poolSize: 1 });
    const ask = (each: Database) =>
      each.query(
        `select $1::bytea as bytes, $2::bigint as big, $3::int as small, $4::text as text, $5::boolean as flag,
                $6::text::jsonb as json, $7::numeric(20,0) as u64, $8::uuid as id, $9::text::int[] as list,
                array['a','b'] as texts, null::bytea as nothing, $10::text as none, 1.5::float8 as float,
                timestamptz '2026-01-01 00:00:00Z' at time zone 'UTC' as time, $11::int as from_text`,
        [
          Buffer.from([0, 255, 92]),
          9007199254740993n,
          7,
          'Ünï\u2028code \\ \' "',
          true,
          JSON.stringify({ a: [1, 'x\u2029'] }),
          '18446744073709551615',
          '01970000-0000-7000-8000-000000000000',
          '{1,2,3}',
          null,
          '12',
        ],
      );
    try {
      const [row] = await ask(database);
      expect(row).toEqual((await ask(client))[0]);
      expect(row).toMatchObject({
        big: 9007199254740993n,
        u64: '18446744073709551615',
        bytes: Buffer.from([0, 255, 92]),
      });
      expect(await database.query('select 1 as a; select 2 as b')).toEqual(
        await client.query('select 1 as a; select 2 as b'),
      );
    } finally {
      await client.close();
      await real.close();
    }
  });

  it('names errors as a real server does', async () => {
    await expect(database.query('select 1 / 0')).rejects.toMatchObject({ details: { sqlstate: '22012' } });
    await database.query('create table kept (id int primary key); insert into kept values (1)');
    await expect(database.query('insert into kept values ($1::int)', [1])).rejects.toMatchObject({
      code: 'database_conflict',
      details: { sqlstate: '23505', constraint: 'kept_pkey' },
    });
  });

  it('lets nobody into a transaction', async () => {
    const order: string[] = [];
    const transaction = database.transaction(async (sql) => {
      await sql.query('insert into kept values (2)', []);
      await new Promise((resolve) => {
        setImmediate(resolve);
      });
      order.push('transaction');
      throw new Error('changed my mind');
    });
    const outside = database.query('select id from kept order by id', []).then((rows) => {
      order.push('query');
      return rows;
    });
    await expect(transaction).rejects.toThrow('changed my mind');
    expect(await outside).toEqual([{ id: 1 }]);
    expect(order).toEqual(['transaction', 'query']);
  });

  it('refuses a second process the folder', async () => {
    await expect(startEmbeddedPostgres(folder, { lockTimeoutMs: 0 })).rejects.toMatchObject({
      code: 'database_locked',
    });
  });

  it('comes back with all that was committed when its process is killed', async () => {
    const child = childrenOf(process.pid).find((pid) => readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes(folder));
    await database.query('insert into kept select generate_series(10, 500)', []);
    const cutOff = database.transaction(async (sql) => {
      await sql.query('insert into kept values (1000)', []);
      process.kill(child!, 'SIGKILL');
      await sql.query('insert into kept values (1001)', []);
    });
    await expect(cutOff).rejects.toMatchObject({ code: 'database_unavailable' });
    expect(await database.query('select count(*)::int as n, max(id) as last from kept', [])).toEqual([
      { n: 492, last: 500 },
    ]);
  }, 30_000);

  it('continues the same data after a clean stop', async () => {
    await database.flush();
    await database.close();
    await expect(database.query('select 1')).rejects.toMatchObject({ code: 'database_unavailable' });
    database = await startEmbeddedPostgres(folder);
    expect(await database.query('select count(*)::int as n from kept', [])).toEqual([{ n: 492 }]);
  }, 30_000);
});
