import { ATTACKS } from '../../../services/audit/drill/attacks.ts';
import { runDrill } from '../../../services/audit/drill-main.ts';
import { createTestDatabase } from '../../support/postgres.ts';

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
});
