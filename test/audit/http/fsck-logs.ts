/** Has Tessera's fsck read logs of a ledger over HTTP. */
import path from 'node:path';
import { fsck, type FsckResult } from '../../support/fsck.ts';
import { nameForSearch, type LedgerFixture } from '../postgres/ledger-fixture.ts';
import { startAudit } from './started-audit.ts';

/** What it says of the first incarnation of each tenant's log, in order. */
export const fsckLogs = async (ledger: LedgerFixture, tenants: readonly string[]): Promise<readonly FsckResult[]> => {
  const database = ledger.as('reader_all');
  const caller = {
    id: 'auditor',
    tenant: 'edict',
    roles: ['audit' as const],
    api_keys: [],
    properties: {},
    requires_agent: false,
    believe_unverified: true,
  };
  const audit = await startAudit({
    database,
    keys: ledger.keys,
    access: () => ({ mode: 'open', caller, tenants: new Set(tenants) }),
    nameSubject: nameForSearch,
  });
  try {
    const results: FsckResult[] = [];
    for (const tenant of tenants)
      results.push(await fsck(`${audit.url}/log/${tenant}/0/1`, path.join(ledger.folder, `${tenant}-1.vkey`)));
    return results;
  } finally {
    await audit.close();
  }
};
