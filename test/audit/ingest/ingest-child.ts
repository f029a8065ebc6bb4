/** An audit service's writer that kills itself: `ingest-child.js URL KEYS MASTER_KEY MESSAGES STEP`. */
import { readFileSync } from 'node:fs';
import { createSearchNames } from '../../../services/audit/core/pseudonym.ts';
import type { Sql } from '../../../services/audit/core/append.ts';
import type { Database } from '../../../services/audit/core/database.ts';
import type { SourceMessage } from '../../../services/audit/core/ingest-source.ts';
import { freshIds } from '../../../services/audit/core/own-entry.ts';
import { createIngest } from '../../../services/audit/ingest/ingest.ts';
import { createIngestMetrics } from '../../../services/audit/ingest/metrics.ts';
import { createSealer } from '../../../services/audit/ingest/seals.ts';
import { createPostgresPayloadKeys } from '../../../services/audit/keys/postgres-payload-keys.ts';
import { connectPostgres } from '../../../services/audit/postgres/connect.ts';
import { createLedgerWriter } from '../../../services/audit/postgres/ledger-writer.ts';
import { createRegistry } from '../../../services/shared/runtime/metrics.ts';
import { silent } from './fixtures.ts';
import { readMessages } from './message-file.ts';

const [url = '', keysUrl = '', masterKeyHex = '', file = '', step = ''] = process.argv.slice(2);
const masterKey = Buffer.from(masterKeyHex, 'hex');
const messages: readonly SourceMessage[] = readMessages(readFileSync(file, 'utf8'));

/** The statement at which it dies, counted from 1, of both databases; what was sent before it may have happened. */
let left = Number(step);
const dieAtLast = (): void => {
  left -= 1;
  if (left === 0) process.kill(process.pid, 'SIGKILL');
};

const mortal = (database: Database): Database => {
  const counted = (sql: Pick<Sql, 'query'>): Sql => ({
    query: (...statement) => {
      dieAtLast();
      return sql.query(...statement);
    },
  });
  return {
    ...database,
    ...counted(database),
    transaction: async (work) => {
      dieAtLast();
      const result = await database.transaction(async (sql) => {
        const done = await work(counted(sql));
        // Everything was sent, and the commit was not.
        dieAtLast();
        return done;
      });
      // It is committed, and nobody knows.
      dieAtLast();
      return result;
    },
  };
};

const database = mortal(connectPostgres(url, { poolSize: 2, prepares: true }));
const keys = createPostgresPayloadKeys(mortal(connectPostgres(keysUrl, { poolSize: 1 })), { masterKey });
const nowUs = (): bigint => BigInt(Date.now()) * 1_000n;
const writeLedger = createLedgerWriter({ database, keys, nameForSearch: createSearchNames(masterKey), nowUs });
const ingest = createIngest({
  database,
  writeLedger,
  nowUs,
  batch: 100,
  gapGraceMs: 60_000,
  pinned: [],
  isCommitDurable: true,
  onCommitted: () => undefined,
  logger: silent,
  metrics: createIngestMetrics(createRegistry({ service: 'audit', processMetrics: false })),
});
await ingest.take(messages, () => Promise.resolve(true));
await createSealer({ database, writeLedger, logs: ingest.logs, ids: freshIds() }).sealAll();
process.exit(0);
