/** Has Tessera's fsck read logs of a ledger over HTTP. */
import { createServer } from 'node:http';
import path from 'node:path';
import { createAuditApp } from '../../../services/audit/http/app.ts';
import { createLedgerReader } from '../../../services/audit/postgres/read-ledger.ts';
import { createMetaReader } from '../../../services/audit/postgres/read-meta.ts';
import { createTileReader } from '../../../services/audit/postgres/read-tiles.ts';
import { listen } from '../../../services/shared/runtime/http-server.ts';
import { createRegistry } from '../../../services/shared/runtime/metrics.ts';
import { fsck, type FsckResult } from '../../support/fsck.ts';
import { silent } from '../ingest/fixtures.ts';
import { nameForSearch, type LedgerFixture } from '../postgres/ledger-fixture.ts';

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
  const app = createAuditApp({
    reader: createLedgerReader({ database, keys: ledger.keys }),
    tiles: createTileReader(database),
    meta: createMetaReader(database),
    verify: () => Promise.resolve([]),
    access: () => ({ mode: 'open', caller, tenants: new Set(tenants) }),
    cursorKey: Buffer.alloc(32),
    nameSubject: nameForSearch,
    maskKey: () => undefined,
    checks: {},
    registry: createRegistry({ service: 'audit', processMetrics: false }),
    logger: silent,
    listenHost: '127.0.0.1',
    allowedHosts: [],
  });
  const server = await listen(createServer(app.app), { host: '127.0.0.1', port: 0 });
  try {
    const results: FsckResult[] = [];
    for (const tenant of tenants)
      results.push(await fsck(`${server.url}/log/${tenant}/0/1`, path.join(ledger.folder, `${tenant}-1.vkey`)));
    return results;
  } finally {
    await server.close();
    await app.close();
  }
};
