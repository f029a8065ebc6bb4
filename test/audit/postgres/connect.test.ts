import { setTimeout as sleep } from 'node:timers/promises';
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
