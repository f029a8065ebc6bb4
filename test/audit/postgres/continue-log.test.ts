import { rootInDatabase } from '../../../services/audit/postgres/continue-log.ts';
import { newDecision, openLedgerFixture } from './ledger-fixture.ts';

describe('the log that a new incarnation continues', () => {
  it('is refused when entries are missing at its end', async () => {
    const ledger = await openLedgerFixture();
    try {
      const admin = ledger.as('admin');
      await ledger.write(({ append }) => append(ledger.log, [newDecision(), newDecision()]));
      expect(await rootInDatabase(admin, ledger.log)).toMatchObject({ size: 3n });
      await admin.query('alter table edict.entry_l1_s0 disable trigger user');
      await admin.query('delete from edict.entry where log_id = 1 and seq = 2');
      const refusal = { code: 'ledger_corrupt', message: expect.stringContaining('entry 2 is missing') };
      await expect(rootInDatabase(admin, ledger.log)).rejects.toMatchObject(refusal);
      await expect(ledger.createTenant('acme', true)).rejects.toMatchObject(refusal);
    } finally {
      await ledger.close();
    }
  });
});
