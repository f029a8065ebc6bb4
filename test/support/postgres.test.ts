import pg from 'pg';
import { createTestDatabase, runStatements, startPostgres } from './postgres.ts';

async function rowsOf(url: string, statement: string): Promise<unknown[]> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    return (await client.query(statement)).rows;
  } finally {
    await client.end();
  }
}

describe('the shared Postgres server', () => {
  it('gives each caller a database of its own', async () => {
    const [one, two] = await Promise.all([createTestDatabase(), createTestDatabase()]);
    try {
      await runStatements(one.adminUrl, 'create table only_here (id int)');
      expect(await rowsOf(two.adminUrl, "select to_regclass('only_here')::text as found")).toEqual([{ found: null }]);
    } finally {
      await Promise.all([one.close(), two.close()]);
    }
  });

  it('fills a template once, however many ask for it at the same time', async () => {
    let fills = 0;
    const template = {
      name: `once_${Date.now()}`,
      fill: async (adminUrl: string) => {
        fills += 1;
        await runStatements(adminUrl, 'create table filled as select 1 as id');
      },
    };
    const databases = await Promise.all([1, 2, 3].map(() => createTestDatabase(template)));
    try {
      expect(fills).toBe(1);
      for (const { adminUrl } of databases) expect(await rowsOf(adminUrl, 'table filled')).toEqual([{ id: 1 }]);
    } finally {
      await Promise.all(databases.map((database) => database.close()));
    }
  });

  it('is durable: fsync and synchronous commit are on', async () => {
    const database = await createTestDatabase();
    try {
      const statement =
        "select current_setting('fsync') fsync, current_setting('synchronous_commit') commit, current_setting('is_superuser') as super";
      expect(await rowsOf(database.url(), statement)).toEqual([{ fsync: 'on', commit: 'on', super: 'on' }]);
    } finally {
      await database.close();
    }
  });
});

describe('a Postgres server of one test', () => {
  it('keeps committed rows and its port when it is killed and restarted at once', async () => {
    const server = await startPostgres();
    try {
      const database = await server.createDatabase();
      await runStatements(server.adminUrl, 'create role reader login');
      await runStatements(
        server.url(undefined, database),
        'create table kept as select generate_series(1, 1000) as id',
        'grant select on kept to reader',
      );
      await server.kill();
      await expect(runStatements(server.adminUrl, 'select 1')).rejects.toMatchObject({ code: 'ECONNREFUSED' });
      await server.restart();
      expect(await rowsOf(server.url('reader', database), 'select count(*)::int as kept from kept')).toEqual([
        { kept: 1000 },
      ]);
      await server.stop();
      await server.restart();
      expect(await rowsOf(server.url('reader', database), 'select max(id) as last from kept')).toEqual([
        { last: 1000 },
      ]);
    } finally {
      await server.close();
    }
  }, 60_000);
});
