import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { chownSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import pg from 'pg';
import { Type } from 'typebox';
import { Value } from 'typebox/value';
import { childrenOf, spawnLogged, stopChild, tailOf, type LoggedChild } from './child-process.ts';
import { freePort } from './free-ports.ts';
import { preparedPart } from './prepared-parts.ts';

/** The superuser of every test server. */
const adminUser = 'postgres';

const startLimitMs = 60_000;
const lockLimitMs = 15_000;

const Binaries = Type.Object({
  bin: Type.String(),
  libraries: Type.Optional(Type.String()),
  uid: Type.Optional(Type.Integer()),
  gid: Type.Optional(Type.Integer()),
});

/** A real Postgres server of a test's own, fsync on, on a loopback port that it keeps over restarts. */
export interface PostgresServer {
  readonly port: number;
  /** The folder above it is the server's own. */
  readonly dataFolder: string;
  /** The superuser's URL of the database `postgres`. */
  readonly adminUrl: string;
  /** The process id of the running server. */
  pid(): number;
  /**
   * A URL for a role and a database; the superuser and `postgres` when left out. Only the superuser needs a password
   * (it is in the URL): every other role that may log in gets in from this machine without one.
   */
  url(user?: string, database?: string): string;
  /** Makes an empty database, or a copy of `template`, and returns its name. */
  createDatabase(template?: string): Promise<string>;
  /** SIGKILL to the server and all its backends at once, as a crash of the machine's process table would be. */
  kill(): Promise<void>;
  /** A fast shutdown: sessions are ended, everything is flushed. The data stays. */
  stop(): Promise<void>;
  /** Starts again on the same data and port, after `kill` or `stop` (or a running server, which is stopped first). */
  restart(): Promise<void>;
  /** The server's log so far. */
  log(): string;
  /** Stops the server and removes its data. */
  close(): Promise<void>;
}

const run = promisify(execFile);

/** A database name that no other test has. */
function newDatabaseName(): string {
  return `test_${randomBytes(8).toString('hex')}`;
}

/** Names come from this file only, but a quoted identifier costs nothing. */
function identifier(name: string): string {
  return `"${name.replaceAll('"', '""')}"`;
}

/** Runs statements one after another in a session of their own. */
export async function runStatements(url: string, ...statements: readonly string[]): Promise<void> {
  const client = new pg.Client({ connectionString: url, connectionTimeoutMillis: 10_000 });
  // Without a listener a server that is killed in mid-query would take the whole test process with it.
  client.on('error', () => undefined);
  await client.connect();
  try {
    for (const statement of statements) await client.query(statement);
  } finally {
    await client.end();
  }
}

/** Resolves to true when a query was answered, to false when the server does not (yet) take queries. */
async function answersQueries(url: string): Promise<boolean> {
  try {
    await runStatements(url, 'select 1');
    return true;
  } catch {
    return false;
  }
}

export interface PostgresOptions {
  /** Debian's Postgres 15, which the Debian tools of the system tests know; it also answers replication and a socket. */
  readonly isDebian?: boolean;
  /** In place of a fresh data folder: what fills it, and the server whose copy it is. */
  readonly restored?: { readonly of: PostgresServer; readonly fill: (dataFolder: string) => Promise<void> };
}

/**
 * Starts a server with a fresh data folder; `more` settings are laid over those of every test server. Rejects with the
 * end of its log when it does not come up.
 */
export async function startPostgres(
  more: Readonly<Record<string, string>> = {},
  { isDebian = false, restored }: PostgresOptions = {},
): Promise<PostgresServer> {
  const { bin, uid, gid, libraries } = Value.Parse(Binaries, preparedPart(isDebian ? 'debian' : 'postgres'));
  const owner = uid === undefined || gid === undefined ? {} : { uid, gid };
  const folder = mkdtempSync(path.join(os.tmpdir(), 'edict-postgres-'));
  const dataFolder = path.join(folder, 'data');
  const logFile = path.join(folder, 'postgres.log');
  const passwordFile = path.join(folder, 'password');
  const password = restored === undefined ? randomBytes(16).toString('hex') : new URL(restored.of.adminUrl).password;
  writeFileSync(passwordFile, password, { mode: 0o600 });
  if (uid !== undefined && gid !== undefined) {
    chownSync(folder, uid, gid);
    chownSync(passwordFile, uid, gid);
  }
  const env = {
    PATH: process.env['PATH'],
    LC_ALL: 'C',
    TZ: 'UTC',
    HOME: folder,
    ...(libraries === undefined ? {} : { LD_LIBRARY_PATH: libraries }),
  };
  const place = ['--pgdata', dataFolder, '--encoding', 'UTF8', '--locale', 'C', '--no-sync', '--no-instructions'];
  const access = ['--username', adminUser, '--pwfile', passwordFile, '--auth', 'scram-sha-256'];
  if (restored === undefined) {
    await run(path.join(bin, 'initdb'), [...place, ...access], { cwd: folder, env, timeout: startLimitMs, ...owner });
    const extra = isDebian ? `local all all trust\nhost replication ${adminUser} 127.0.0.1/32 scram-sha-256\n` : '';
    writeFileSync(
      path.join(dataFolder, 'pg_hba.conf'),
      `${extra}host all ${adminUser} 127.0.0.1/32 scram-sha-256\nhost all all 127.0.0.1/32 trust\n`,
    );
  } else await restored.fill(dataFolder);

  const port = await freePort();
  const url = (user: string = adminUser, database = 'postgres'): string => {
    const account = user === adminUser ? `${adminUser}:${password}` : encodeURIComponent(user);
    return `postgres://${account}@127.0.0.1:${port}/${encodeURIComponent(database)}`;
  };
  const settings = {
    listen_addresses: '127.0.0.1',
    port,
    unix_socket_directories: isDebian ? folder : '',
    fsync: 'on',
    synchronous_commit: 'on',
    full_page_writes: 'on',
    shared_buffers: '64MB',
    max_connections: 200,
    log_line_prefix: '%m [%p] %u@%d ',
    log_timezone: 'UTC',
    timezone: 'UTC',
    ...more,
  };
  const args = ['-D', dataFolder, ...Object.entries(settings).flatMap(([name, value]) => ['-c', `${name}=${value}`])];

  let server: LoggedChild | undefined;

  /** One try; false when the data folder is still held by the processes of a killed predecessor. */
  const tryStart = async (): Promise<boolean> => {
    const child = await spawnLogged(path.join(bin, 'postgres'), args, { cwd: folder, logFile, env, ...owner });
    const deadline = Date.now() + startLimitMs;
    while (!child.hasExited()) {
      if (await answersQueries(url())) {
        server = child;
        return true;
      }
      if (Date.now() > deadline) {
        await stopChild(child, 1_000, 'SIGQUIT');
        throw new Error(`Postgres did not answer within ${startLimitMs} ms:\n${tailOf(logFile)}`);
      }
      await sleep(20);
    }
    const tail = tailOf(logFile, 6);
    if (/lock file|pre-existing shared memory/.test(tail)) return false;
    throw new Error(`Postgres ended while starting:\n${tailOf(logFile)}`);
  };

  const start = async (): Promise<void> => {
    const deadline = Date.now() + lockLimitMs;
    while (!(await tryStart())) {
      if (Date.now() > deadline) throw new Error(`the data folder stays locked:\n${tailOf(logFile)}`);
      await sleep(100);
    }
  };

  const stop = async (): Promise<void> => {
    if (server === undefined) return;
    await stopChild(server, 10_000, 'SIGINT');
    server = undefined;
  };

  await start();
  return {
    port,
    dataFolder,
    adminUrl: url(),
    pid() {
      if (server === undefined) throw new Error('Postgres does not run');
      return server.pid;
    },
    url,
    async createDatabase(template) {
      const name = newDatabaseName();
      const from = template === undefined ? '' : ` template ${identifier(template)}`;
      await runStatements(url(), `create database ${identifier(name)}${from}`);
      return name;
    },
    async kill() {
      if (server === undefined) return;
      const backends = childrenOf(server.pid);
      server.signal('SIGKILL');
      for (const pid of backends) {
        try {
          process.kill(pid, 'SIGKILL');
        } catch {
          // It noticed the death of the server and went by itself.
        }
      }
      await server.exited;
      server = undefined;
    },
    stop,
    async restart() {
      await stop();
      await start();
    },
    log: () => readFileSync(logFile, 'utf8'),
    async close() {
      await stop();
      rmSync(folder, { recursive: true, force: true, maxRetries: 5 });
    },
  };
}

/** The environment variable in which the shared server's superuser URL reaches the test files. */
export const sharedServerVariable = 'EDICT_TEST_POSTGRES';

/** A database of one test file on the server that all test files of a run share. */
export interface TestDatabase {
  readonly name: string;
  /** The superuser's URL of this database. */
  readonly adminUrl: string;
  /** A URL of this database for a role that may log in (no password needed); the superuser when left out. */
  url(user?: string): string;
  /** Ends all sessions and drops the database. */
  close(): Promise<void>;
}

/** How a database is filled before the test gets it. */
export interface DatabaseTemplate {
  /** Test files that use the same name share one template, filled by whichever comes first. */
  readonly name: string;
  /** Fills an empty database, given as the superuser's URL. Roles, which all databases share, are made here too. */
  readonly fill: (adminUrl: string) => Promise<void>;
}

function sharedServerUrl(): URL {
  const url = process.env[sharedServerVariable];
  if (url === undefined) throw new Error(`${sharedServerVariable} is not set: Jest's global set-up did not run`);
  return new URL(url);
}

function urlOf(server: URL, database: string, user?: string): string {
  const url = new URL(server);
  url.pathname = `/${encodeURIComponent(database)}`;
  if (user !== undefined && user !== adminUser) {
    url.username = encodeURIComponent(user);
    url.password = '';
  }
  return url.href;
}

/**
 * Makes sure that the template exists. Test files run in several processes, and roles belong to the whole server,
 * so one file at a time fills a template: an advisory lock in the database `postgres` sees to that.
 */
async function ensureTemplate(server: URL, { name, fill }: DatabaseTemplate): Promise<string> {
  const template = `template_${name}`;
  const client = new pg.Client({ connectionString: server.href });
  await client.connect();
  try {
    await client.query('select pg_advisory_lock(7180)');
    const found = await client.query('select 1 from pg_database where datname = $1', [template]);
    if (found.rowCount !== 0) return template;
    const unfinished = newDatabaseName();
    await client.query(`create database ${identifier(unfinished)}`);
    await fill(urlOf(server, unfinished));
    await client.query(`alter database ${identifier(unfinished)} rename to ${identifier(template)}`);
    return template;
  } finally {
    await client.end();
  }
}

/**
/**
 * A fresh database on the shared server, or on another, given as its superuser's URL: empty, a copy of a template, or of a
 * database that nobody is connected to, as it stands now. Close it when the file is done.
 */
export async function createTestDatabase(
  template?: DatabaseTemplate | { readonly copyOf: string },
  serverUrl?: string,
): Promise<TestDatabase> {
  const server = serverUrl === undefined ? sharedServerUrl() : new URL(serverUrl);
  const source =
    template === undefined || 'copyOf' in template ? template?.copyOf : await ensureTemplate(server, template);
  const from = source === undefined ? '' : ` template ${identifier(source)}`;
  const name = newDatabaseName();
  await runStatements(server.href, `create database ${identifier(name)}${from}`);
  return {
    name,
    adminUrl: urlOf(server, name),
    url: (user) => urlOf(server, name, user),
    async close() {
      await runStatements(server.href, `drop database if exists ${identifier(name)} with (force)`);
    },
  };
}
