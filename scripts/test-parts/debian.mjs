// Unpacks programs of Debian packages for the system tests: PgBouncer, pgBackRest, and the Postgres that both know.
// Nothing is installed: an installed package would start services of its own.
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, renameSync, rmSync } from 'node:fs';
import { spawnSync } from 'node:child_process';
import os from 'node:os';
import path from 'node:path';
import { recordPart } from './go-program.mjs';
import { unprivilegedUser } from './postgres-binaries.mjs';
import { cacheFolder, outputOf, run, say, SetupError, step } from './run.mjs';

/** With what they link to, where a machine may lack it. */
const packages = [
  'pgbouncer',
  'libc-ares2',
  'libevent-2.1-7',
  'pgbackrest',
  'libbz2-1.0',
  'libicu72',
  'liblz4-1',
  'libpq5',
  'libxml2',
  'libzstd1',
  'postgresql-15',
  'postgresql-client-15',
  'libgssapi-krb5-2',
  'libldap-2.5-0',
];

const programs = {
  pgbouncer: 'usr/sbin/pgbouncer',
  pgbackrest: 'usr/bin/pgbackrest',
  postgres: 'usr/lib/postgresql/15/bin/postgres',
};

const librariesIn = (folder) =>
  ['usr/lib', 'lib'].flatMap((name) => {
    const above = path.join(folder, name);
    const found = existsSync(above) ? readdirSync(above).filter((entry) => entry.endsWith('-linux-gnu')) : [];
    return found.map((entry) => path.join(above, entry));
  });

/** Whether the user of the tests can run what lies there. */
function runs(folder) {
  const env = { PATH: process.env['PATH'], LD_LIBRARY_PATH: librariesIn(folder).join(':') };
  return Object.values(programs).every((program) => {
    const argument = program.endsWith('pgbackrest') ? 'version' : '--version';
    const options = { env, cwd: '/', timeout: 20_000, ...unprivilegedUser() };
    return spawnSync(path.join(folder, program), [argument], options).status === 0;
  });
}

async function unpack(folder) {
  const unfinished = `${folder}.unfinished-${process.pid}`;
  mkdirSync(path.join(unfinished, 'archives'), { recursive: true });
  const options = { cwd: path.join(unfinished, 'archives') };
  const apt = ['--quiet', '--quiet', '-o', 'APT::Sandbox::User=root'];
  try {
    await run('apt-get', [...apt, 'download', ...packages], options);
  } catch {
    // A machine whose lists are missing, or older than what the mirror keeps.
    await run('apt-get', [...apt, 'update']);
    await run('apt-get', [...apt, 'download', ...packages], options);
  }
  for (const archive of readdirSync(options.cwd))
    await run('dpkg-deb', ['--extract', path.join(options.cwd, archive), unfinished]);
  rmSync(options.cwd, { recursive: true });
  rmSync(folder, { recursive: true, force: true });
  renameSync(unfinished, folder);
}

/** Leaves a record: `{pgbouncer, pgbackrest, bin, libraries}`, programs, Postgres' folder, and `LD_LIBRARY_PATH`. */
export async function prepareDebianPrograms() {
  if (outputOf('dpkg-deb', ['--version']) === undefined)
    throw new SetupError('the system tests use PgBouncer and pgBackRest as Debian 12 has them: run them there');
  const name = `debian-${createHash('sha256').update(packages.join(' ')).digest('hex').slice(0, 16)}`;
  let folder = path.join(cacheFolder, name);
  if (!existsSync(folder)) await step('unpacking PgBouncer, pgBackRest and Postgres 15', () => unpack(folder));
  if (!runs(folder)) {
    // A folder above this repository is closed to the user of the tests.
    const open = mkdtempSync(path.join(os.tmpdir(), 'edict-debian-'));
    folder = path.join(open, name);
    await step('unpacking them where all may read', async () => {
      await run('chmod', ['755', open]);
      await run('cp', ['-a', path.join(cacheFolder, name), folder]);
    });
    if (!runs(folder)) throw new SetupError('the programs of the Debian packages do not run here');
  }
  recordPart('debian', {
    pgbouncer: path.join(folder, programs.pgbouncer),
    pgbackrest: path.join(folder, programs.pgbackrest),
    bin: path.join(folder, path.dirname(programs.postgres)),
    libraries: librariesIn(folder).join(':'),
    ...unprivilegedUser(),
  });
  say(`PgBouncer, pgBackRest, Postgres 15: ${folder}`);
}
