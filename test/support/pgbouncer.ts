import { mkdtempSync, readFileSync, rmSync, writeFileSync, chmodSync, chownSync } from 'node:fs';
import { connect } from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Type } from 'typebox';
import { Value } from 'typebox/value';
import { spawnLogged, stopChild, tailOf } from './child-process.ts';
import type { Pooler } from './deployment.ts';
import { freePort } from './free-ports.ts';
import type { PostgresServer } from './postgres.ts';
import { preparedPart } from './prepared-parts.ts';

const Programs = Type.Object({
  pgbouncer: Type.String(),
  libraries: Type.String(),
  uid: Type.Optional(Type.Integer()),
  gid: Type.Optional(Type.Integer()),
});

const startLimitMs = 10_000;

const listens = (port: number): Promise<boolean> =>
  new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1');
    socket.once('error', () => resolve(false));
    socket.once('connect', () => {
      socket.destroy();
      resolve(true);
    });
  });

export interface PgBouncer extends Pooler {
  /** PgBouncer's own console. */
  readonly consoleUrl: string;
  log(): string;
}

/** PgBouncer in transaction mode, with so few server connections that its clients must share them. */
export async function startPgBouncer(
  postgres: PostgresServer,
  logins: readonly string[],
  poolSize = 2,
): Promise<PgBouncer> {
  const { pgbouncer, libraries, uid, gid } = Value.Parse(Programs, preparedPart('debian'));
  const folder = mkdtempSync(path.join(os.tmpdir(), 'edict-pgbouncer-'));
  const port = await freePort();
  const file = (name: string, content: string): string => {
    const made = path.join(folder, name);
    writeFileSync(made, content);
    chmodSync(made, 0o644);
    return made;
  };
  const users = file('users.txt', [...logins, 'operator'].map((login) => `"${login}" ""\n`).join(''));
  const settings = file(
    'pgbouncer.ini',
    `[databases]
* = host=127.0.0.1 port=${postgres.port}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = ${port}
unix_socket_dir =
auth_type = trust
auth_file = ${users}
pool_mode = transaction
default_pool_size = ${poolSize}
max_client_conn = 200
admin_users = operator
`,
  );
  if (uid !== undefined && gid !== undefined) chownSync(folder, uid, gid);
  const logFile = path.join(folder, 'pgbouncer.log');
  const child = await spawnLogged(pgbouncer, [settings], {
    cwd: folder,
    logFile,
    env: { PATH: process.env['PATH'], LD_LIBRARY_PATH: libraries },
    ...(uid === undefined || gid === undefined ? {} : { uid, gid }),
  });
  for (const deadline = Date.now() + startLimitMs; !(await listens(port));) {
    if (child.hasExited() || Date.now() > deadline) throw new Error(`PgBouncer does not listen:\n${tailOf(logFile)}`);
    await sleep(20);
  }
  const url = (login: string, database: string): string =>
    `postgres://${login}@127.0.0.1:${port}/${encodeURIComponent(database)}`;
  return {
    url,
    consoleUrl: url('operator', 'pgbouncer'),
    log: () => readFileSync(logFile, 'utf8'),
    async close() {
      await stopChild(child, 5_000, 'SIGINT');
      rmSync(folder, { recursive: true, force: true });
    },
  };
}
