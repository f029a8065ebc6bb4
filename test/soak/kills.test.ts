import { killAtStatements } from '../audit/ingest/kills.ts';
import { openSigningFixture } from '../audit/signer/signing-fixture.ts';

describe('a writer that is killed', () => {
  it('at any statement leaves a ledger that the next one continues: nothing lost, nothing twice', async () => {
    const fixture = await openSigningFixture();
    try {
      // The statements of a batch and of three seals, in the ledger and in the key store; before and after each commit.
      expect(await killAtStatements(fixture, { first: 1, every: 1 })).toBeGreaterThan(40);
    } finally {
      await fixture.ledger.close();
    }
  }, 3_600_000);
});
