import { readServerWarnings } from '../../../services/audit/postgres/read-server.ts';
import { openLedgerFixture, type LedgerFixture } from './ledger-fixture.ts';

describe('what a server lacks', () => {
  let ledger: LedgerFixture;
  beforeAll(async () => {
    ledger = await openLedgerFixture();
  });
  afterAll(() => ledger.close());

  it('is nothing for a writer with its own role on a server with its defaults', async () => {
    expect(await readServerWarnings(ledger.as('writer'))).toEqual([]);
  });

  it('a login that may do more than write is named', async () => {
    expect(await readServerWarnings(ledger.as('owner'))).toEqual([
      'the writer’s login may act as edict_owner: its role is void',
    ]);
    expect(await readServerWarnings(ledger.as('admin'))).toEqual([
      'the writer’s login is a superuser or passes by row-level security: its role is void',
    ]);
  });

  it('commits that do not wait for the disk are named', async () => {
    expect(
      await ledger.as('writer').transaction(async (sql) => {
        await sql.query('set local synchronous_commit = off');
        return readServerWarnings(sql);
      }),
    ).toEqual(['synchronous_commit is off: a crash may take entries that were acknowledged']);
  });
});
