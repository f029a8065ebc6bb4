/** The audit service's HTTP on a port of its own, over a ledger that a test has. */
import { createServer } from 'node:http';
import { createAuditApp, type AuditApp, type AuditAppDeps } from '../../../services/audit/http/app.ts';
import type { Database } from '../../../services/audit/core/database.ts';
import type { PayloadKeys } from '../../../services/audit/core/payload-keys.ts';
import { createLedgerReader } from '../../../services/audit/postgres/read-ledger.ts';
import { createMetaReader } from '../../../services/audit/postgres/read-meta.ts';
import { createTileReader } from '../../../services/audit/postgres/read-tiles.ts';
import { createVerifier } from '../../../services/audit/postgres/read-verification.ts';
import { listen } from '../../../services/shared/runtime/http-server.ts';
import { createLogger } from '../../../services/shared/runtime/logger.ts';
import { createRegistry } from '../../../services/shared/runtime/metrics.ts';

export interface StartedAudit extends Pick<AuditApp, 'app'> {
  readonly url: string;
  readonly close: () => Promise<void>;
}

/** `reports`: where reports of verifications go; without it every verification finds no log. */
export const startAudit = async ({
  database,
  keys,
  reports,
  ...given
}: Pick<AuditAppDeps, 'access' | 'nameSubject'> &
  Partial<AuditAppDeps> & {
    readonly database: Database;
    readonly keys: PayloadKeys;
    readonly reports?: Database;
  }): Promise<StartedAudit> => {
  const audit = createAuditApp({
    reader: createLedgerReader({ database, keys }),
    tiles: createTileReader(database),
    meta: createMetaReader(database),
    verify:
      reports === undefined
        ? () => Promise.resolve([])
        : createVerifier({
            database,
            reports,
            keys,
            nameForSearch: given.nameSubject,
            graceMs: 60_000,
            placeKey: Buffer.alloc(32, 1),
          }),
    cursorKey: Buffer.alloc(32, 3),
    maskKey: () => undefined,
    checks: {},
    registry: createRegistry({ service: 'audit', processMetrics: false }),
    logger: createLogger({ level: 'silent', service: 'test' }),
    listenHost: '127.0.0.1',
    allowedHosts: [],
    ...given,
  });
  const server = await listen(createServer(audit.app), { host: '127.0.0.1', port: 0 });
  return {
    app: audit.app,
    url: server.url,
    close: async () => {
      await server.close();
      await audit.close();
    },
  };
};
