import { setTimeout as sleep } from 'node:timers/promises';
import { inOrder, type Sql } from '../../../services/audit/core/append.ts';
import { connectPostgres } from '../../../services/audit/postgres/connect.ts';
import { createTestDatabase, runStatements, type TestDatabase } from '../../support/postgres.ts';

describe('connections to a Postgres server', () => {
  let test: TestDatabase;
  beforeAll(async () => {
    test = await createTestDatabase();
  });
  afterAll(async () => {
    await test.close();
  });

  it('send the statements of a transaction at once, and none of them outlives a failure', async () => {
    const database = connectPostgres(test.adminUrl, { poolSize: 1, prepares: true });
    try {
      await database.query('create table sent (n integer primary key)');
      const insert = (sql: Sql, n: number) => sql.query('insert into sent values ($1::int)', [n]);
      for (let round = 0; round < 2; round += 1)
        await expect(
          database.transaction((sql) => inOrder([insert(sql, 1), insert(sql, 1), insert(sql, 2)])),
        ).rejects.toMatchObject({ details: { sqlstate: '23505' } });
      // A failure that nobody passes on is none that was committed.
      await expect(
        database.transaction((sql) => Promise.allSettled([insert(sql, 3), insert(sql, 3)])),
      ).rejects.toMatchObject({ code: 'internal' });
      expect(await database.query('select n from sent')).toEqual([]);
      await database.transaction((sql) => inOrder([insert(sql, 4), insert(sql, 5)]));
      expect(await database.query('select n from sent order by n')).toEqual([{ n: 4 }, { n: 5 }]);
    } finally {
      await database.close();
    }
  });

  it('prepare a statement anew when its result has another type', async () => {
    const database = connectPostgres(test.adminUrl, { poolSize: 1, prepares: true });
    try {
      await database.query('create table shape (n integer); insert into shape values (1)');
      const read = () => database.query('select * from shape where n = $1::int', [1]);
      expect(await read()).toEqual([{ n: 1 }]);
      await runStatements(test.adminUrl, 'alter table shape add column more text');
      await expect(read()).rejects.toMatchObject({ code: 'database_unavailable' });
      expect(await read()).toEqual([{ n: 1, more: null }]);
    } finally {
      await database.close();
    }
  });

  it('that are ended by the server between two statements fail their transaction and nothing else', async () => {
    const database = connectPostgres(test.adminUrl, { poolSize: 1 });
    try {
      const transaction = database.transaction(async (sql) => {
        const [own] = await sql.query<{ pid: number }>('select pg_backend_pid() as pid');
        await runStatements(test.adminUrl, `select pg_terminate_backend(${own?.pid})`);
        // The end of the connection is noticed while no statement waits for an answer.
        await sleep(200);
        await sql.query('select 1');
      });
      await expect(transaction).rejects.toMatchObject({ code: 'database_unavailable' });
      expect(await database.query('select 1 as one')).toEqual([{ one: 1 }]);
    } finally {
      await database.close();
    }
  });
});
