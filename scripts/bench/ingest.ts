import { fork } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import { createSearchNames } from '../../services/audit/core/pseudonym.ts';
import { proofOf } from '../../services/audit/http/proofs.ts';
import { createPostgresPayloadKeys } from '../../services/audit/keys/postgres-payload-keys.ts';
import { connectPostgres } from '../../services/audit/postgres/connect.ts';
import { createLedger } from '../../services/audit/postgres/create-ledger.ts';
import { createLedgerWriter } from '../../services/audit/postgres/ledger-writer.ts';
import { keyStoreMigrations, ledgerMigrations, migrate } from '../../services/audit/postgres/migrate.ts';
import { createTileReader } from '../../services/audit/postgres/read-tiles.ts';
import { AppError } from '../../services/shared/contracts/errors.ts';
import { spawnLogged, stopChild } from '../../test/support/child-process.ts';
import { repositoryRoot } from '../../test/support/prepared-parts.ts';
import { startPostgres, type PostgresServer } from '../../test/support/postgres.ts';
import type { IngestAnswer, IngestCommand, IngestOrder } from './ingest-child.ts';
import { measureInsertLimit, readRowSizes } from './insert-limit.ts';
import { builtScript, median, treeCpuUsOf } from './measure.ts';
import { pick } from './query-rows.ts';

export interface IngestOptions {
  /** Decisions in the ledger at the end. */
  readonly rows: number;
  /** Of ingest and plain INSERT in turns. */
  readonly rounds: number;
  readonly batch: number;
  readonly nodeOptions?: readonly string[];
  readonly log: (line: string) => void;
}

export interface IngestFigures {
  readonly rows: number;
  readonly ingest_per_s: number;
  /** Of the same bytes: header, payload, search row, received row, key. */
  readonly insert_per_s: number;
  /** Plain INSERT over ingest, the median of the rounds. */
  readonly ratio: number;
  readonly insert_entries_per_s: number;
  readonly ratio_to_entries: number;
  readonly audit_cpu_us: number;
  readonly postgres_cpu_us: number;
  readonly checkpoints: number;
  /** From the entry's place in the log to the signature of the first checkpoint that covers it. */
  readonly checkpoint_lag_p50_ms: number;
  readonly checkpoint_lag_p99_ms: number;
  readonly proof_p50_ms: number;
  readonly proof_p99_ms: number;
  readonly bytes: Readonly<Record<string, number>>;
}

const TENANT = 'acme';
/** The defaults of `audit.seal_interval` and `signer.interval`. */
const SEAL_MS = 5_000;
const PROOFS = 2_000;
const COVER_LIMIT_MS = 600_000;
const nowUs = (): bigint => BigInt(Date.now()) * 1_000n;

const ROLES = ['owner', 'writer', 'reader_all', 'signer'] as const;

const quantile = (values: readonly number[], share: number): number =>
  values.toSorted((a, b) => a - b)[Math.ceil(values.length * share) - 1] ?? Number.NaN;

interface Parts {
  readonly folder: string;
  readonly postgres: PostgresServer;
  /** The superuser's URLs. */
  readonly ledgerUrl: string;
  readonly keyUrl: string;
  readonly loginUrl: (role: (typeof ROLES)[number]) => string;
  readonly keysUrl: string;
  readonly masterKey: Buffer;
  readonly logId: number;
}

const prepare = async (postgres: PostgresServer, folder: string): Promise<Parts> => {
  const [ledger, keyStore] = [await postgres.createDatabase(), await postgres.createDatabase()];
  const ledgerUrl = postgres.url(undefined, ledger);
  const keyUrl = postgres.url(undefined, keyStore);
  const admin = connectPostgres(ledgerUrl, { poolSize: 1 });
  const keyAdmin = connectPostgres(keyUrl, { poolSize: 1 });
  try {
    await admin.query(readFileSync(path.join(repositoryRoot, 'migrations', 'roles.sql'), 'utf8'));
    for (const role of ROLES) await admin.query(`create role bench_${role} login in role edict_${role}`);
    await admin.query('create role bench_keys login');
    await admin.query(`alter database "${keyStore}" owner to bench_keys`);
    await migrate(admin, ledgerMigrations());
    const masterKey = randomBytes(32);
    const keysUrl = postgres.url('bench_keys', keyStore);
    const keyOwner = connectPostgres(keysUrl, { poolSize: 1 });
    await migrate(keyOwner, keyStoreMigrations());
    await keyOwner.close();
    const write = createLedgerWriter({
      database: admin,
      keys: createPostgresPayloadKeys(keyAdmin, { masterKey }),
      nameForSearch: createSearchNames(masterKey),
      nowUs,
    });
    mkdirSync(path.join(folder, 'keys'));
    const keyFile = (name: string, incarnation: number) => path.join(folder, 'keys', `${name}-${incarnation}.pem`);
    await createLedger({ write, tenant: 'edict', authority: 'bench.example', keyFile, nowUs });
    const { log } = await createLedger({ write, tenant: TENANT, authority: 'bench.example', keyFile, nowUs });
    const loginUrl = (role: (typeof ROLES)[number]) => postgres.url(`bench_${role}`, ledger);
    return { folder, postgres, ledgerUrl, keyUrl, loginUrl, keysUrl, masterKey, logId: log.id };
  } finally {
    await admin.close();
    await keyAdmin.close();
  }
};

/** `edict serve signer` as it is installed, on the bench's databases. */
const startSigner = async ({ folder, loginUrl, keysUrl, masterKey }: Parts) => {
  const secret = (name: string, content: string | Buffer): string => {
    const file = path.join(folder, name);
    writeFileSync(file, content, { mode: 0o600 });
    return file;
  };
  const config = secret(
    'edict.yaml',
    JSON.stringify({
      home: path.join(folder, 'home'),
      log: { level: 'warn' },
      database: {
        writer_url_file: secret('writer.url', loginUrl('writer')),
        reader_url_file: secret('reader.url', loginUrl('reader_all')),
        signer_url_file: secret('signer.url', loginUrl('signer')),
        keys_url_file: secret('keys.url', keysUrl),
      },
      audit: { master_key_file: secret('master.key', masterKey) },
      ledger: { authority: 'bench.example' },
      signer: { keys_dir: path.join(folder, 'keys') },
    }),
  );
  const main = process.env['EDICT_TEST_MAIN'] ?? path.join(repositoryRoot, 'dist/services/cli/main.js');
  return await spawnLogged(process.execPath, [main, 'serve', 'signer', '--config', config], {
    cwd: folder,
    logFile: path.join(folder, 'signer.log'),
    env: { PATH: process.env['PATH'] },
  });
};

const startIngest = (order: IngestOrder, nodeOptions: readonly string[]) => {
  const child = fork(builtScript('ingest-child'), [JSON.stringify(order)], { execArgv: [...nodeOptions] });
  const ask = (command: IngestCommand): Promise<IngestAnswer> =>
    new Promise((resolve, reject) => {
      const onExit = (): void => reject(new AppError('internal', 'the ingest process ended'));
      child.once('exit', onExit);
      child.once('message', (answer: IngestAnswer) => {
        child.off('exit', onExit);
        if (answer.kind === 'failed') reject(new AppError('internal', answer.message));
        else resolve(answer);
      });
      child.send(command);
    });
  return {
    prepare: (events: number) => ask({ kind: 'prepare', events }),
    take: async () => {
      const taken = await ask({ kind: 'take' });
      if (taken.kind !== 'taken') throw new AppError('internal', 'the ingest process took nothing');
      return taken;
    },
    end: () =>
      new Promise<void>((resolve) => {
        child.once('exit', () => resolve());
        child.send({ kind: 'end' } satisfies IngestCommand);
      }),
    kill: () => void child.kill('SIGKILL'),
  };
};

const withClient = async <T>(url: string, work: (client: pg.Client) => Promise<T>): Promise<T> => {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    return await work(client);
  } finally {
    await client.end();
  }
};

/** Waits until a checkpoint covers `size` entries; then every hundredth entry's way there, ms. */
const readLags = async ({ ledgerUrl, logId }: Parts, size: number, isSigning: () => boolean) =>
  await withClient(ledgerUrl, async (client) => {
    const deadline = Date.now() + COVER_LIMIT_MS;
    for (;;) {
      const { rows } = await client.query<{ size: string; n: string }>(
        'select coalesce(max(size), 0) as size, count(*) as n from edict.checkpoint where log_id = $1',
        [logId],
      );
      if (Number(rows[0]?.size) >= size) {
        const { rows: lags } = await client.query<{ us: string }>(
          `select (select min(c.signed_us) from edict.checkpoint c where c.log_id = e.log_id and c.size > e.seq)
                  - ('x' || encode(substr(e.header, 11, 8), 'hex'))::bit(64)::bigint as us
           from edict.entry e where e.log_id = $1 and e.seq % 100 = 0 and e.seq < $2`,
          [logId, size],
        );
        return { checkpoints: Number(rows[0]?.n), lags: lags.map(({ us }) => Number(us) / 1_000) };
      }
      if (!isSigning() || Date.now() > deadline) throw new AppError('internal', `no checkpoint covers ${size} entries`);
      await sleep(200);
    }
  });

/** Inclusion in the newest checkpoint and consistency with an older one, as `GET /v1/decisions/{id}` makes them; ms. */
const measureProofs = async ({ loginUrl, logId }: Parts, rows: number): Promise<readonly number[]> => {
  const reader = connectPostgres(loginUrl('reader_all'), { poolSize: 4 });
  try {
    const tiles = createTileReader(reader);
    const times: number[] = [];
    for (let call = 0; call < PROOFS; call += 1) {
      const seq = pick(call, 200, rows);
      const startedMs = performance.now();
      const proof = await proofOf(tiles, logId, BigInt(seq), BigInt(pick(call, 201, rows - 1) + 1));
      times.push(performance.now() - startedMs);
      if (proof?.proof === undefined || proof.proof === null)
        throw new AppError('internal', `no proof of entry ${seq}`);
    }
    return times;
  } finally {
    await reader.close();
  }
};

/** What lies on disk for each decision, by table with its indexes. */
const readBytes = async ({ ledgerUrl, keyUrl }: Parts, rows: number): Promise<Readonly<Record<string, number>>> => {
  const sizes = (url: string, schema: string) =>
    withClient(url, async (client) => {
      const { rows: found } = await client.query<{ name: string; bytes: string }>(
        `select regexp_replace(c.relname, '_l[0-9]+(_s[0-9]+)?$', '') as name, sum(pg_total_relation_size(c.oid)) as bytes
         from pg_class c join pg_namespace n on n.oid = c.relnamespace
         where n.nspname = $1 and c.relkind = 'r' group by 1 order by 2 desc`,
        [schema],
      );
      return found.map(({ name, bytes }) => [`${schema}.${name}`, Number(bytes) / rows] as const);
    });
  const all = [...(await sizes(ledgerUrl, 'edict')), ...(await sizes(keyUrl, 'edict_keys'))];
  return Object.fromEntries(all.filter(([, bytes]) => bytes >= 1));
};

/**
 * Rows a second that the audit service's ingest takes into a real Postgres (tree, seals, a running signer, encryption,
 * search table), in turns with plain INSERT of the same bytes; then proofs, lag of checkpoints, bytes on disk.
 */
export const measureIngest = async (options: IngestOptions): Promise<IngestFigures> => {
  const { rows, rounds, batch, log } = options;
  const folder = mkdtempSync(path.join(os.tmpdir(), 'edict-bench-ingest-'));
  const postgres = await startPostgres();
  let signer: Awaited<ReturnType<typeof startSigner>> | undefined;
  let ingest: ReturnType<typeof startIngest> | undefined;
  try {
    const parts = await prepare(postgres, folder);
    const signing = await startSigner(parts);
    signer = signing;
    const { loginUrl, keysUrl, masterKey } = parts;
    ingest = startIngest(
      {
        writerUrl: loginUrl('writer'),
        keysUrl,
        masterKeyHex: masterKey.toString('hex'),
        batch,
        sealMs: SEAL_MS,
        rows,
      },
      options.nodeOptions ?? [],
    );
    const each = Math.ceil(rows / rounds);
    // Connections, prepared statements and compiled code are warm before the clock runs.
    const warmUp = 2 * batch;
    await ingest.prepare(warmUp);
    await ingest.take();
    const taken: { perS: number; cpuUs: number; postgresUs: number; allPerS: number; entriesPerS: number }[] = [];
    for (let round = 1; round <= rounds; round += 1) {
      await ingest.prepare(each);
      const before = treeCpuUsOf(postgres.pid());
      const { ms, cpuUs } = await ingest.take();
      const postgresUs = treeCpuUsOf(postgres.pid()) - before;
      const limit = await measureInsertLimit(postgres.adminUrl, await readRowSizes(parts.ledgerUrl), {
        events: Math.min(each, 20_000),
        batch,
      });
      taken.push({ perS: (each * 1_000) / ms, cpuUs: cpuUs / each, postgresUs: postgresUs / each, ...limit });
      log(`round ${round}: ${((each * 1_000) / ms).toFixed(0)} rows/s, INSERT ${limit.allPerS.toFixed(0)} rows/s`);
    }
    const size = warmUp + each * rounds;
    const { checkpoints, lags } = await readLags(parts, size, () => !signing.hasExited());
    const proofs = await measureProofs(parts, size);
    const of = (value: (round: (typeof taken)[number]) => number): number => median(taken.map(value));
    return {
      rows: size,
      ingest_per_s: of(({ perS }) => perS),
      insert_per_s: of(({ allPerS }) => allPerS),
      ratio: of(({ perS, allPerS }) => allPerS / perS),
      insert_entries_per_s: of(({ entriesPerS }) => entriesPerS),
      ratio_to_entries: of(({ perS, entriesPerS }) => entriesPerS / perS),
      audit_cpu_us: of(({ cpuUs }) => cpuUs),
      postgres_cpu_us: of(({ postgresUs }) => postgresUs),
      checkpoints,
      checkpoint_lag_p50_ms: quantile(lags, 0.5),
      checkpoint_lag_p99_ms: quantile(lags, 0.99),
      proof_p50_ms: quantile(proofs, 0.5),
      proof_p99_ms: quantile(proofs, 0.99),
      bytes: await readBytes(parts, size),
    };
  } finally {
    if (options.nodeOptions === undefined) ingest?.kill();
    else await ingest?.end();
    if (signer !== undefined) await stopChild(signer, 10_000);
    await postgres.close();
    rmSync(folder, { recursive: true, force: true });
  }
};
