/** A ledger on a Postgres server of Debian's whose write-ahead log is archived, twice, and copies of it. */
import { execFile } from 'node:child_process';
import { chownSync, cpSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import { Type } from 'typebox';
import { Value } from 'typebox/value';
import { freshIds } from '../../../services/audit/core/own-entry.ts';
import type { VerificationReport } from '../../../services/audit/core/verify-report.ts';
import type { RememberedLeaf } from '../../../services/audit/core/verify-tenant.ts';
import { createSealer } from '../../../services/audit/ingest/seals.ts';
import { readNewestLogs } from '../../../services/audit/ingest/statements.ts';
import { connectPostgres } from '../../../services/audit/postgres/connect.ts';
import { createVerifier } from '../../../services/audit/postgres/read-verification.ts';
import { createSignerStore } from '../../../services/audit/postgres/meta-store.ts';
import { createEmitter, messageOf } from '../../audit/core/ingest-fixtures.ts';
import { openHarness } from '../../audit/ingest/fixtures.ts';
import { signerIn } from '../../audit/signer/signing-fixture.ts';
import { startPostgres, type PostgresServer } from '../../support/postgres.ts';
import { preparedPart } from '../../support/prepared-parts.ts';
import { until } from './until.ts';

const Programs = Type.Object({
  pgbackrest: Type.String(),
  bin: Type.String(),
  libraries: Type.String(),
  uid: Type.Optional(Type.Integer()),
  gid: Type.Optional(Type.Integer()),
});

const run = promisify(execFile);
const STANZA = 'ledger';
const commandLimitMs = 60_000;

/** What a restored database says, and what the signer says to it. */
export interface Judged {
  readonly report: VerificationReport;
  /** Why the signer does not sign acme's log; undefined when it does. */
  readonly refused: string | undefined;
  readonly alarms: readonly string[];
  readonly sizes: readonly bigint[];
}

export interface Drill {
  readonly server: PostgresServer;
  /** Appends decisions of acme. */
  readonly decide: (count: number) => Promise<void>;
  /** Seals and signs; the newest size of acme's log. */
  readonly sign: () => Promise<bigint>;
  /** What an auditor keeps of acme's log as it is. */
  readonly remember: () => Promise<RememberedLeaf>;
  /** Names this place in the write-ahead log. */
  readonly mark: (name: string) => Promise<void>;
  /** Waits until everything that was written is in both archives. */
  readonly archive: () => Promise<void>;
  /** Copies a folder as the user of the server, who must own it. */
  readonly copyFolder: (from: string, to: string) => Promise<void>;
  /** Runs a program of Postgres as the user of its server. */
  readonly postgresProgram: (name: string, args: readonly string[]) => Promise<string>;
  readonly pgBackRest: (...args: readonly string[]) => Promise<string>;
  /** Where the first archive lies: plain files. */
  readonly archiveFolder: string;
  /** A folder of the drill's own that the server's user may write. */
  readonly newFolder: (name: string) => string;
  /** Starts a copy, up to the end of its recovery. */
  readonly startCopy: (
    fill: (dataFolder: string) => Promise<void>,
    settings?: Readonly<Record<string, string>>,
  ) => Promise<PostgresServer>;
  /** Verifies acme's log on a copy, and has a signer with today's memory look at it. */
  readonly judge: (copy: PostgresServer, remembered: readonly RememberedLeaf[]) => Promise<Judged>;
  readonly close: () => Promise<void>;
}

export const openDrill = async (): Promise<Drill> => {
  const { pgbackrest, bin, libraries, uid, gid } = Value.Parse(Programs, preparedPart('debian'));
  const user = uid === undefined || gid === undefined ? {} : { uid, gid };
  const folder = mkdtempSync(path.join(os.tmpdir(), 'edict-drill-'));
  const newFolder = (name: string): string => {
    const made = path.join(folder, name);
    mkdirSync(made, { recursive: true, mode: 0o700 });
    if (uid !== undefined && gid !== undefined) for (const each of [folder, made]) chownSync(each, uid, gid);
    return made;
  };
  const archiveFolder = newFolder('archive');
  const configFile = path.join(folder, 'pgbackrest.conf');
  const servers: PostgresServer[] = [];
  const server = await startPostgres(
    {
      archive_mode: 'on',
      archive_command:
        // Either may have it already when the other failed.
        `(test -f ${archiveFolder}/%f || cp %p ${archiveFolder}/%f) && ` +
        `${pgbackrest} --config=${configFile} --stanza=${STANZA} archive-push %p`,
    },
    { isDebian: true },
  );
  servers.push(server);
  const repository = ['repo', 'log', 'spool', 'lock'].map((name) => [name, newFolder(`backrest-${name}`)] as const);
  const place = Object.fromEntries(repository);
  writeFileSync(
    configFile,
    `[global]
repo1-path=${place['repo']}
log-path=${place['log']}
spool-path=${place['spool']}
lock-path=${place['lock']}
log-level-console=warn
start-fast=y
compress-level=1
[${STANZA}]
pg1-path=${server.dataFolder}
pg1-port=${server.port}
pg1-socket-path=${path.dirname(server.dataFolder)}
pg1-user=postgres
`,
  );
  const options = {
    ...user,
    cwd: folder,
    timeout: commandLimitMs,
    env: { PATH: process.env['PATH'], LD_LIBRARY_PATH: libraries, PGPASSWORD: new URL(server.adminUrl).password },
  };
  const pgBackRest: Drill['pgBackRest'] = async (...args) =>
    (await run(pgbackrest, [`--config=${configFile}`, `--stanza=${STANZA}`, ...args], options)).stdout;
  await pgBackRest('stanza-create');

  const name = await server.createDatabase();
  const harness = await openHarness(server.url(undefined, name));
  for (const tenant of ['edict', 'acme']) await harness.create(tenant);
  const emitter = createEmitter();
  const ingest = harness.newIngest();
  let offset = 0n;
  const { database } = harness;
  const sealer = createSealer({
    database,
    writeLedger: harness.writeLedger,
    logs: () => readNewestLogs(database),
    ids: freshIds(),
  });
  const memory = newFolder('memory');
  const signingStore = (of: typeof database) =>
    createSignerStore({ database: of, keys: harness.keys, transaction: of.transaction });
  const signer = signerIn(harness.home, memory, signingStore(database));

  return {
    server,
    archiveFolder,
    newFolder,
    pgBackRest,
    copyFolder: async (from, to) => {
      await run('cp', ['-a', from, to], options);
    },
    postgresProgram: async (program, args) => (await run(path.join(bin, program), [...args], options)).stdout,
    async decide(count) {
      const events = Array.from({ length: count }, () => emitter.event('acme'));
      await ingest.take(
        events.map((event) => messageOf(event, (offset += 1n) - 1n)),
        () => Promise.resolve(true),
      );
    },
    async sign() {
      await sealer.sealAll();
      await signer.signAll();
      const [row] = await database.query<{ size: bigint }>(
        `select max(c.size) as size from edict.checkpoint c join edict.log l on l.id = c.log_id where l.tenant = 'acme'`,
      );
      return row?.size ?? 0n;
    },
    async remember() {
      const [row] = await database.query<RememberedLeaf>(
        `select l.origin, h.size, h.leaf from edict.log l join edict.log_head h on h.log_id = l.id where l.tenant = 'acme'`,
      );
      if (row === undefined) throw new Error('there is no ledger');
      return row;
    },
    async mark(point) {
      await database.query('select pg_create_restore_point($1::text)', [point]);
    },
    async archive() {
      const [written] = await database.query<{ file: string }>(`select pg_walfile_name(pg_switch_wal()) as file`);
      await until('the write-ahead log is archived', async () => {
        const [row] = await database.query<{ last: string | null; failed: bigint }>(
          'select last_archived_wal as last, failed_count as failed from pg_stat_archiver',
        );
        return (row?.last ?? '') >= (written?.file ?? '') ? true : undefined;
      });
    },
    async startCopy(fill, settings = {}) {
      const copy = await startPostgres(
        // A copy that archived would overwrite what it came from.
        { archive_mode: 'off', hot_standby: 'off', ...settings },
        { isDebian: true, restored: { of: server, fill } },
      );
      servers.push(copy);
      return copy;
    },
    async judge(copy, remembered) {
      const restored = connectPostgres(copy.url(undefined, name), { poolSize: 4 });
      // As the signer of another machine would, with what it remembers; each copy by itself.
      const memoryCopy = `${memory}-${copy.port}`;
      cpSync(memory, memoryCopy, { recursive: true });
      try {
        const { keys, nameForSearch } = harness;
        const verify = createVerifier({
          database: restored,
          reports: restored,
          keys,
          nameForSearch,
          graceMs: 60_000,
          placeKey: Buffer.alloc(32, 1),
        });
        const [report] = await verify('acme', { remembered });
        if (report === undefined) throw new Error('acme has no log');
        const looking = signerIn(harness.home, memoryCopy, signingStore(restored));
        await looking.signAll();
        const alarms = await restored.query<{ alarm: string }>(
          `select a.alarm from edict.signer_alarm a join edict.log l on l.id = a.log_id where l.tenant = 'acme'
           order by a.raised_us`,
        );
        const sizes = await restored.query<{ size: bigint }>(
          `select c.size from edict.checkpoint c join edict.log l on l.id = c.log_id where l.tenant = 'acme' order by 1`,
        );
        return {
          report,
          refused: looking.refused().get(report.origin),
          alarms: alarms.map(({ alarm }) => alarm),
          sizes: sizes.map(({ size }) => size),
        };
      } finally {
        await restored.close();
      }
    },
    async close() {
      await harness.close();
      for (const each of servers.toReversed()) await each.close();
      rmSync(folder, { recursive: true, force: true });
    },
  };
};
