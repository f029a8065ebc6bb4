import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { pino } from 'pino';
import { sha256Hex } from '../../services/shared/contracts/bytes.ts';
import { DECISIONS_TOPIC } from '../../services/shared/contracts/events.ts';
import { isObject } from '../../services/shared/contracts/json.ts';
import { formatVkey, parseVkey, signingKeyFromPem } from '../../services/shared/contracts/signatures.ts';
import { createRegistry } from '../../services/shared/runtime/metrics.ts';
import type { SourceMessage } from '../../services/audit/core/ingest-source.ts';
import { freshIds } from '../../services/audit/core/own-entry.ts';
import { createSearchNames } from '../../services/audit/core/pseudonym.ts';
import { createIngest } from '../../services/audit/ingest/ingest.ts';
import { createIngestMetrics } from '../../services/audit/ingest/metrics.ts';
import { createSealer } from '../../services/audit/ingest/seals.ts';
import { readNewestLogs } from '../../services/audit/ingest/statements.ts';
import { createPostgresPayloadKeys } from '../../services/audit/keys/postgres-payload-keys.ts';
import { connectPostgres } from '../../services/audit/postgres/connect.ts';
import { createLedger } from '../../services/audit/postgres/create-ledger.ts';
import { createLedgerWriter } from '../../services/audit/postgres/ledger-writer.ts';
import { keyStoreMigrations, ledgerMigrations, migrate } from '../../services/audit/postgres/migrate.ts';
import { createSignerStore } from '../../services/audit/postgres/meta-store.ts';
import { openMemoryFolder } from '../../services/audit/signer/memory-file.ts';
import { createSignerMetrics } from '../../services/audit/signer/metrics.ts';
import { createSigner } from '../../services/audit/signer/signer.ts';
import { startPostgres } from '../../test/support/postgres.ts';
import { rowEntry } from './query-rows.ts';

export const TENANT = 'acme';
const EMITTER = 'ab'.repeat(16);
export const MASTER_KEY = Buffer.alloc(32, 7);
const BATCH = 500;
/** Decisions between two checkpoints: a second of a busy service. */
const CHECKPOINT_EVERY = 5_000;

/** The generated decisions, numbered and linked as one emitter's stream. */
const createStream = (rows: number) => {
  let previous = '00'.repeat(32);
  return (row: number): SourceMessage => {
    const event: unknown = JSON.parse(Buffer.from(rowEntry(row, rows).payload).toString('utf8'));
    const data = isObject(event) && isObject(event['data']) ? event['data'] : {};
    const sequence = String(row + 1);
    const emitter = { id: EMITTER, boot: '1', sequence, previous };
    const value = Buffer.from(JSON.stringify({ ...(event as object), data: { ...data, emitter } }));
    previous = sha256Hex(value);
    const headers = Object.entries({ emitter: EMITTER, boot: '1', tenant: TENANT, sequence });
    return {
      topic: DECISIONS_TOPIC,
      partition: 0,
      offset: BigInt(row),
      headers: headers.map(([name, text]) => [name, Buffer.from(text)]),
      value,
    };
  };
};

/** A real Postgres with a ledger of so many decisions, taken in, sealed and signed by the services' own code. */
export const generateLedger = async (rows: number, log: (line: string) => void) => {
  const folder = mkdtempSync(path.join(os.tmpdir(), 'edict-bench-verification-'));
  const postgres = await startPostgres();
  const database = connectPostgres(postgres.adminUrl, { poolSize: 4, prepares: true, statementTimeoutMs: 600_000 });
  await migrate(database, ledgerMigrations());
  await migrate(database, keyStoreMigrations());
  const keys = createPostgresPayloadKeys(database, { masterKey: MASTER_KEY });
  const nameForSearch = createSearchNames(MASTER_KEY);
  const nowUs = (): bigint => BigInt(Date.now()) * 1_000n;
  const writeLedger = createLedgerWriter({ database, keys, nameForSearch, nowUs });
  const keyFile = (tenant: string, incarnation: number): string => path.join(folder, `${tenant}-${incarnation}.pem`);
  for (const tenant of ['edict', TENANT])
    await createLedger({ write: writeLedger, tenant, authority: 'bench.example', keyFile, nowUs });
  const logger = pino({ level: 'silent' });
  const ingest = createIngest({
    database,
    writeLedger,
    nowUs,
    batch: BATCH,
    gapGraceMs: 60_000,
    pinned: [],
    isCommitDurable: true,
    onCommitted: () => undefined,
    logger,
    metrics: createIngestMetrics(createRegistry({ service: 'audit', processMetrics: false })),
  });
  const sealer = createSealer({ database, writeLedger, logs: () => readNewestLogs(database), ids: freshIds() });
  const signer = createSigner({
    store: createSignerStore({ database, keys, transaction: database.transaction }),
    memory: openMemoryFolder(path.join(folder, 'memory')),
    keyOf: ({ tenant, incarnation, origin }) => {
      const key = signingKeyFromPem(readFileSync(keyFile(tenant, incarnation), 'utf8'));
      return { key, verifier: parseVkey(formatVkey(origin, key.publicKey)) };
    },
    nowUs,
    logger,
    metrics: createSignerMetrics(createRegistry({ service: 'signer', processMetrics: false })),
  });
  const next = createStream(rows);
  for (let first = 0; first < rows; first += CHECKPOINT_EVERY) {
    const length = Math.min(CHECKPOINT_EVERY, rows - first);
    await ingest.take(
      Array.from({ length }, (_, index) => next(first + index)),
      () => Promise.resolve(true),
    );
    await sealer.sealAll();
    await signer.signAll();
    if ((first / CHECKPOINT_EVERY) % 10 === 9) log(`${first + length} of ${rows} decisions`);
  }
  await database.query('vacuum analyze');
  return {
    url: postgres.adminUrl,
    pid: () => postgres.pid(),
    close: async () => {
      ingest.close();
      // The key store's connections are the ledger's here.
      await keys.close();
      await postgres.close();
      rmSync(folder, { recursive: true, force: true });
    },
  };
};
