import { openSigningFixture } from '../signer/signing-fixture.ts';
import { killAtStatements } from './kills.ts';

describe('a writer that is killed', () => {
  // At every statement: `npm run test:soak`.
  it('at a statement leaves a ledger that the next one continues: nothing lost, nothing twice', async () => {
    const fixture = await openSigningFixture();
    try {
      expect(await killAtStatements(fixture, { first: 3, every: 9 })).toBeGreaterThan(3);
    } finally {
      await fixture.ledger.close();
    }
  }, 120_000);
});
