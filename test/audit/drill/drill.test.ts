import { ATTACKS } from '../../../services/audit/drill/attacks.ts';
import { runDrill } from '../../../services/audit/drill-main.ts';
import { connectPostgres } from '../../../services/audit/postgres/connect.ts';
import { createTestDatabase, runStatements } from '../../support/postgres.ts';

describe('edict audit drill', () => {
  it('turns exactly the expected verdicts red on a real server, and wants an empty database', async () => {
    const scratch = await createTestDatabase();
    try {
      const report = await runDrill({ databaseUrl: scratch.adminUrl });
      expect(report.attacks.filter(({ ok }) => !ok)).toEqual([]);
      expect(report).toMatchObject({ server: 'given', isCleanBefore: true, notRun: [], ok: true });
      expect(report.attacks.map(({ name }) => name)).toEqual(ATTACKS.map(({ name }) => name));
      await expect(runDrill({ databaseUrl: scratch.adminUrl })).rejects.toMatchObject({ code: 'usage' });
    } finally {
      await scratch.close();
    }
  }, 120_000);

  it('leaves a database with something of Edict in it as it is', async () => {
    const given = await createTestDatabase();
    try {
      await runStatements(given.adminUrl, 'create schema edict_keys');
      await expect(runDrill({ databaseUrl: given.adminUrl })).rejects.toMatchObject({ code: 'usage' });
      const database = connectPostgres(given.adminUrl, { poolSize: 1 });
      expect(await database.query("select from pg_namespace where nspname = 'edict'", [])).toEqual([]);
      expect(await database.query("select from pg_class where relnamespace = 'edict_keys'::regnamespace", [])).toEqual(
        [],
      );
      await database.close();
    } finally {
      await given.close();
    }
  });
});
