import { tamper, type Tampering } from '../../scripts/demo-tamper.ts';
import { connectPostgres } from '../../services/audit/postgres/connect.ts';
import { createVerifier } from '../../services/audit/postgres/read-verification.ts';
import { createTestDatabase } from '../support/postgres.ts';
import { LEDGER_TEMPLATE, openLedger, searchNames } from '../audit/http/ledger-fixture.ts';

describe('the tampering of the demo', () => {
  it.each<readonly [Tampering, readonly string[]]>([
    ['payload', ['integrity']],
    ['header', ['integrity', 'projection', 'clock']],
    ['search', ['projection']],
    ['delete', ['integrity', 'projection', 'completeness']],
  ])('%s turns %s red, and leaves the triggers on', async (what, red) => {
    const test = await createTestDatabase(LEDGER_TEMPLATE);
    const database = connectPostgres(test.adminUrl, { poolSize: 2 });
    try {
      const { seq, decisionId } = await tamper(database, 'acme', what);
      expect(seq).toBe(8n);
      expect(decisionId).toMatch(/^[0-9a-f-]{36}$/);
      const verify = createVerifier({
        database,
        reports: database,
        keys: openLedger(database).keys,
        nameForSearch: searchNames,
        graceMs: 60_000,
        placeKey: Buffer.alloc(32, 1),
        now: () => Date.now() + 3_600_000,
      });
      const [report] = await verify('acme', {});
      expect(
        Object.entries(report?.verdicts ?? {})
          .filter(([, { status }]) => status === 'failed')
          .map(([name]) => name),
      ).toEqual(red);
      await expect(database.query('delete from edict.entry where seq = 1 and log_id = 2')).rejects.toMatchObject({
        message: expect.stringContaining('append-only') as unknown,
      });
    } finally {
      await database.close();
      await test.close();
    }
  });
});
