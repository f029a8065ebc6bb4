import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { pino } from 'pino';
import type { WriteLedger } from '../../../services/audit/core/append.ts';
import type { Database } from '../../../services/audit/core/database.ts';
import { decodeEntry, entryKindName, leafHash } from '../../../services/audit/core/entry.ts';
import type { PayloadKeys } from '../../../services/audit/core/payload-keys.ts';
import { createSearchNames, type NameSubject } from '../../../services/audit/core/pseudonym.ts';
import type { Stream } from '../../../services/audit/core/ingest-stream.ts';
import { createIngest, type Ingest } from '../../../services/audit/ingest/ingest.ts';
import { createIngestMetrics } from '../../../services/audit/ingest/metrics.ts';
import { createPostgresPayloadKeys } from '../../../services/audit/keys/postgres-payload-keys.ts';
import { connectPostgres } from '../../../services/audit/postgres/connect.ts';
import { createLedger } from '../../../services/audit/postgres/create-ledger.ts';
import { createLedgerWriter } from '../../../services/audit/postgres/ledger-writer.ts';
import { keyStoreMigrations, ledgerMigrations, migrate } from '../../../services/audit/postgres/migrate.ts';
import { createRegistry } from '../../../services/shared/runtime/metrics.ts';
import { bytesEqual } from '../../../services/shared/contracts/bytes.ts';
import { createTestDatabase, type TestDatabase } from '../../support/postgres.ts';

export const silent = pino({ level: 'silent' });

export interface Clock {
  ms: number;
}

export interface LedgerHarness {
  readonly database: Database;
  readonly writeLedger: WriteLedger;
  readonly clock: Clock;
  readonly home: string;
  readonly keys: PayloadKeys;
  readonly nameForSearch: NameSubject;
  readonly committed: Stream[];
  /** Another ingest on the same database. */
  readonly newIngest: (options?: { readonly pinned?: readonly string[]; readonly batch?: number }) => Ingest;
  readonly create: (tenant: string) => Promise<void>;
  /** Kinds of a tenant's entries in order; throws when the chain is broken. */
  readonly kinds: (tenant: string) => Promise<readonly string[]>;
  readonly streams: () => Promise<readonly Record<string, unknown>[]>;
  readonly close: () => Promise<void>;
}

/** A ledger on `url`, as `edict migrate` and `edict ledger create` make it. */
export const openHarness = async (url: string): Promise<LedgerHarness> => {
  const home = mkdtempSync(path.join(os.tmpdir(), 'edict-ingest-'));
  const database = connectPostgres(url, { poolSize: 4, connectTimeoutMs: 1_000, prepares: true });
  await migrate(database, ledgerMigrations());
  await migrate(database, keyStoreMigrations());
  const masterKey = randomBytes(32);
  const clock: Clock = { ms: Date.now() };
  const nowUs = (): bigint => BigInt(clock.ms) * 1_000n;
  const keys = createPostgresPayloadKeys(database, { masterKey });
  const nameForSearch = createSearchNames(masterKey);
  const writeLedger = createLedgerWriter({ database, keys, nameForSearch, nowUs });
  const committed: Stream[] = [];
  return {
    database,
    writeLedger,
    clock,
    home,
    keys,
    nameForSearch,
    committed,
    newIngest: (options = {}) =>
      createIngest({
        database,
        writeLedger,
        nowUs,
        batch: options.batch ?? 50,
        gapGraceMs: 60_000,
        pinned: options.pinned ?? [],
        isCommitDurable: true,
        onCommitted: (streams) => committed.push(...streams),
        logger: silent,
        metrics: createIngestMetrics(createRegistry({ service: 'audit', processMetrics: false })),
      }),
    create: async (tenant) => {
      await createLedger({
        write: writeLedger,
        tenant,
        authority: 'ledger.test',
        keyFile: (name, incarnation) => path.join(home, `${name}-${incarnation}.pem`),
        nowUs,
      });
    },
    kinds: async (tenant) => {
      const rows = await database.query<{ header: Buffer; leaf: Buffer }>(
        `select e.header, e.leaf from edict.entry e join edict.log l on l.id = e.log_id
         where l.tenant = $1::text order by e.seq`,
        [tenant],
      );
      rows.forEach(({ header, leaf }, index) => {
        const before = rows[index - 1];
        const entry = decodeEntry(header);
        if (!bytesEqual(leaf, leafHash(header))) throw new Error(`entry ${index}: leaf`);
        if (before !== undefined && !bytesEqual(entry.prev, before.leaf)) throw new Error(`entry ${index}: link`);
      });
      return rows.map(({ header }) => entryKindName(decodeEntry(header).kind) ?? '?');
    },
    streams: () =>
      database.query(
        `select l.tenant::text as tenant, s.emitter::text as emitter, s.boot::text as boot,
                s.complete_to::text as complete_to, s.highest::text as highest, s.covered_to::text as covered_to, s.holes, s.state
         from edict.stream s join edict.log l on l.id = s.log_id order by 1, 2, 3`,
      ),
    close: async () => {
      await keys.close();
      await database.close().catch(() => undefined);
      rmSync(home, { recursive: true, force: true });
    },
  };
};

export const openTestLedger = async (
  tenants: readonly string[],
): Promise<{ readonly harness: LedgerHarness; readonly test: TestDatabase; readonly close: () => Promise<void> }> => {
  const test = await createTestDatabase();
  const harness = await openHarness(test.adminUrl);
  for (const tenant of tenants) await harness.create(tenant);
  return {
    harness,
    test,
    close: async () => {
      await harness.close();
      await test.close();
    },
  };
};
