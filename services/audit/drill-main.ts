import { randomBytes } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { AppError } from '../shared/contracts/errors.ts';
import { formatVkey, parseVkey, signingKeyFromPem } from '../shared/contracts/signatures.ts';
import { SYSTEM_TENANT } from '../shared/contracts/tenant.ts';
import { createLogger } from '../shared/runtime/logger.ts';
import { createRegistry } from '../shared/runtime/metrics.ts';
import type { Sql } from './core/append.ts';
import type { Database } from './core/database.ts';
import { freshIds, ownEntry } from './core/own-entry.ts';
import type { PayloadKeys } from './core/payload-keys.ts';
import { createSearchNames } from './core/pseudonym.ts';
import { VERDICTS, type VerdictName, type VerificationReport } from './core/verify-report.ts';
import { ATTACKS, disarm, type Attack, type AttackedLog } from './drill/attacks.ts';
import { createDrillEmitter } from './drill/scratch-ledger.ts';
import { startEmbeddedPostgres } from './embedded/embedded-postgres.ts';
import { createIngest } from './ingest/ingest.ts';
import { createIngestMetrics } from './ingest/metrics.ts';
import { createSealer } from './ingest/seals.ts';
import { createFilePayloadKeys } from './keys/file-payload-keys.ts';
import { createPostgresPayloadKeys } from './keys/postgres-payload-keys.ts';
import { connectPostgres } from './postgres/connect.ts';
import { createLedger, originOf } from './postgres/create-ledger.ts';
import { createLedgerWriter } from './postgres/ledger-writer.ts';
import { createSignerStore } from './postgres/meta-store.ts';
import { keyStoreMigrations, ledgerMigrations, migrate } from './postgres/migrate.ts';
import { createVerifier } from './postgres/read-verification.ts';
import { openMemoryFolder } from './signer/memory-file.ts';
import { createSignerMetrics } from './signer/metrics.ts';
import { createSigner } from './signer/signer.ts';

const AUTHORITY = 'drill';
const TENANT = 'drill';
const DECISIONS = 40;
const GRACE_MS = 60_000;

export interface DrillResult extends Pick<Attack, 'name' | 'row'> {
  readonly expected: readonly VerdictName[];
  /** What went red. */
  readonly red: readonly VerdictName[];
  /** The first finding, for a person. */
  readonly finding: string | null;
  readonly ok: boolean;
}

export interface DrillReport {
  readonly startedAt: string;
  readonly endedAt: string;
  /** Entries of the log that was attacked. */
  readonly size: string;
  readonly server: 'embedded' | 'given';
  /** True when the ledger as it was made is red nowhere: else no attack proves anything. */
  readonly isCleanBefore: boolean;
  readonly attacks: readonly DrillResult[];
  /** Attacks that need a key store in the database: those of the embedded one lie in files. */
  readonly notRun: readonly string[];
  readonly ok: boolean;
}

export interface DrillOptions {
  /** A database that may be thrown away, under a superuser: nothing may be in it. Absent: an embedded one is made. */
  readonly databaseUrl?: string;
  readonly onAttack?: (result: DrillResult) => void;
}

const redOf = ({ verdicts }: VerificationReport): readonly VerdictName[] =>
  VERDICTS.filter((name) => verdicts[name].status === 'failed');

/** A ledger of its own, through the real ingest, sealed and signed twice. */
const makeLedger = async (database: Database, folder: string, isEmbedded: boolean) => {
  const masterKey = randomBytes(32);
  // The embedded database has one session, so its payload keys lie in files, as they do in a deployment.
  const keys = isEmbedded
    ? createFilePayloadKeys(join(folder, 'keys'), { masterKey })
    : createPostgresPayloadKeys(database, { masterKey });
  const nameForSearch = createSearchNames(masterKey);
  const nowUs = (): bigint => BigInt(Date.now()) * 1_000n;
  const write = createLedgerWriter({ database, keys, nameForSearch, nowUs });
  const keyFile = (tenant: string, incarnation: number): string => join(folder, `${tenant}-${incarnation}.pem`);
  const create = async (tenant: string): Promise<number> =>
    (await createLedger({ write, tenant, authority: AUTHORITY, keyFile, nowUs })).log.id;
  await create(SYSTEM_TENANT);
  const logId = await create(TENANT);
  const logger = createLogger({ service: 'drill', level: 'silent' });
  const ingest = createIngest({
    database,
    writeLedger: write,
    nowUs,
    batch: 100,
    gapGraceMs: GRACE_MS,
    pinned: [],
    isCommitDurable: true,
    onCommitted: () => undefined,
    logger,
    metrics: createIngestMetrics(createRegistry({ service: 'drill', processMetrics: false })),
  });
  const sealer = createSealer({ database, writeLedger: write, logs: ingest.logs, ids: freshIds() });
  const signer = createSigner({
    store: createSignerStore({ database, keys, transaction: database.transaction }),
    memory: openMemoryFolder(join(folder, 'memory')),
    keyOf: ({ tenant, incarnation, origin }) => {
      const key = signingKeyFromPem(readFileSync(keyFile(tenant, incarnation), 'utf8'));
      return { key, verifier: parseVkey(formatVkey(origin, key.publicKey)) };
    },
    nowUs,
    logger,
    metrics: createSignerMetrics(createRegistry({ service: 'drill', processMetrics: false })),
  });
  const emitter = createDrillEmitter(Date.now);
  const signed = async (): Promise<bigint> => {
    await sealer.sealAll();
    await signer.signAll();
    const [head] = await database.query<{ size: bigint }>('select size from edict.log_head where log_id = $1::int', [
      logId,
    ]);
    return head?.size ?? 0n;
  };
  await ingest.take(
    [emitter.start(SYSTEM_TENANT), ...Array.from({ length: DECISIONS }, () => emitter.decision(TENANT))],
    () => Promise.resolve(true),
  );
  const first = await signed();
  // The end has nothing but entries of the audit service, so that it can go without a trace in another table.
  await write(({ append }) =>
    append({ id: logId, tenant: TENANT, origin: originOf(AUTHORITY, TENANT, 1) }, [
      ownEntry(TENANT, 'alert', { alert: 'drill' }, freshIds()),
    ]),
  );
  const size = await signed();
  ingest.close();
  const log: AttackedLog = { logId, victim: 5n, size, signed: [first, size] };
  /** As a transaction sees them: what was taken away in it is gone. */
  const keysIn = (sql: Sql): PayloadKeys =>
    isEmbedded
      ? keys
      : createPostgresPayloadKeys(
          {
            query: sql.query,
            transaction: (work) => work(sql),
            flush: () => Promise.resolve(),
            close: () => Promise.resolve(),
          },
          { masterKey },
        );
  return { keys, keysIn, nameForSearch, log };
};

const UNDONE = Symbol('undone');

/** Does `work` in a transaction and takes it all back, whatever it did. */
const undone = async <T>(database: Database, work: (sql: Sql) => Promise<T>): Promise<T> => {
  let result: { readonly value: T } | undefined;
  await database
    .transaction(async (sql) => {
      result = { value: await work(sql) };
      throw new AppError('internal', 'undone', { cause: UNDONE });
    })
    .catch((error: unknown) => {
      if (result === undefined) throw error;
    });
  if (result === undefined) throw new AppError('internal', 'a transaction ended without a result');
  return result.value;
};

/**
 * Performs every attack on a ledger that is made for it, as a superuser, one after another, each taken back before the
 * next, and verifies after each with the program that auditors use. Rejects when the scratch database cannot be used.
 */
export const runDrill = async ({ databaseUrl, onAttack }: DrillOptions): Promise<DrillReport> => {
  const startedAt = new Date().toISOString();
  const folder = mkdtempSync(join(tmpdir(), 'edict-drill-'));
  let database: Database | undefined;
  let closeKeys: () => Promise<void> = () => Promise.resolve();
  try {
    database =
      databaseUrl === undefined
        ? await startEmbeddedPostgres(join(folder, 'database'))
        : connectPostgres(databaseUrl, { poolSize: 4, applicationName: 'edict-drill' });
    const scratch = database;
    const [known] = await scratch.query("select 1 from pg_namespace where nspname in ('edict', 'edict_keys')");
    if (known !== undefined)
      throw new AppError('usage', 'the scratch database is not empty: it has a schema of Edict; give an empty one');
    await migrate(scratch, ledgerMigrations());
    await migrate(scratch, keyStoreMigrations());
    const isEmbedded = databaseUrl === undefined;
    const { keys, keysIn, nameForSearch, log } = await makeLedger(scratch, folder, isEmbedded);
    // On a server the keys' connection is the ledger's.
    if (isEmbedded) closeKeys = keys.close;
    const verify = async (sql: Sql, remembered: readonly VerificationReport[] = []): Promise<VerificationReport> => {
      const run = createVerifier({
        database: sql,
        reports: sql,
        keys: keysIn(sql),
        nameForSearch,
        graceMs: GRACE_MS,
        placeKey: randomBytes(32),
        now: () => Date.now() + GRACE_MS * 2,
      });
      const [report] = await run(TENANT, {
        remembered: remembered.map(({ origin, size, lastLeaf }) => ({
          origin,
          size: BigInt(size),
          leaf: Buffer.from(lastLeaf ?? '', 'hex'),
        })),
      });
      if (report === undefined) throw new AppError('internal', 'the ledger of the drill is gone');
      return report;
    };
    const before = await undone(scratch, (sql) => verify(sql));
    const attacks: DrillResult[] = [];
    for (const attack of ATTACKS.filter(({ needsKeyTable }) => !isEmbedded || needsKeyTable !== true)) {
      const report = await undone(scratch, async (sql) => {
        await sql.query(`${disarm(log)}${attack.sql(log)}`);
        return verify(sql, attack.isRemembered === true ? [before] : []);
      });
      const red = redOf(report);
      const [finding] = report.findings;
      const result: DrillResult = {
        name: attack.name,
        row: attack.row,
        expected: attack.red,
        red,
        finding:
          finding === undefined
            ? null
            : `entry ${finding.seq ?? '-'}, ${finding.what}: expected ${finding.expected}, found ${finding.actual}`,
        ok: red.join() === attack.red.join(),
      };
      attacks.push(result);
      onAttack?.(result);
    }
    const isCleanBefore = redOf(before).length === 0;
    return {
      startedAt,
      endedAt: new Date().toISOString(),
      size: String(log.size),
      server: isEmbedded ? 'embedded' : 'given',
      notRun: isEmbedded ? ATTACKS.filter(({ needsKeyTable }) => needsKeyTable === true).map(({ name }) => name) : [],
      isCleanBefore,
      attacks,
      ok: isCleanBefore && attacks.every(({ ok }) => ok),
    };
  } finally {
    await closeKeys();
    await database?.close();
    rmSync(folder, { recursive: true, force: true });
  }
};
