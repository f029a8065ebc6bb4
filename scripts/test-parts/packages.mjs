// Installs the npm packages and compiles, each only when it has to be done.
import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { root, run, step } from './run.mjs';

/** Inside dist, so that it goes when the folder goes. */
const buildStamp = path.join(root, 'dist', '.edict-source-hash');

/** @returns {Record<string, {version?: string, integrity?: string, optional?: boolean}>} by folder in node_modules */
function packagesIn(lockFile) {
  return JSON.parse(readFileSync(lockFile, 'utf8')).packages;
}

/** npm writes down what it installed, last of all; optional packages are for other platforms. */
function areInstalled() {
  const installedFile = path.join(root, 'node_modules', '.package-lock.json');
  if (!existsSync(installedFile)) return false;
  const installed = packagesIn(installedFile);
  return Object.entries(packagesIn(path.join(root, 'package-lock.json'))).every(([folder, wanted]) => {
    if (folder === '') return true;
    const found = installed[folder];
    if (found === undefined) return wanted.optional === true;
    return found.version === wanted.version && found.integrity === wanted.integrity;
  });
}

/** `npm ci`, unless node_modules holds what package-lock.json says. */
export async function installPackages() {
  if (areInstalled()) return;
  const options = ['ci', '--no-audit', '--no-fund', '--loglevel=error'];
  await step('installing packages', () =>
    process.platform === 'win32' ? run('cmd.exe', ['/c', 'npm', ...options]) : run('npm', options),
  );
}

function sourcesUnder(folder) {
  return readdirSync(path.join(root, folder), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && /\.[cm]?ts$/.test(entry.name))
    .map((entry) => path.join(entry.parentPath, entry.name))
    .sort();
}

/** `tsc`, unless dist was compiled from these very sources and packages. */
export async function compile() {
  const hash = createHash('sha256');
  const folders = ['services', 'scripts', 'test'].filter((folder) => existsSync(path.join(root, folder)));
  const settings = ['package-lock.json', 'tsconfig.json'].map((file) => path.join(root, file));
  for (const file of [...settings, ...folders.flatMap(sourcesUnder)]) {
    hash
      .update(`${path.relative(root, file)}\0`)
      .update(readFileSync(file))
      .update('\0');
  }
  const wanted = hash.digest('hex');
  if (existsSync(buildStamp) && readFileSync(buildStamp, 'utf8') === wanted) return;
  const compiler = path.join(root, 'node_modules', 'typescript', 'bin', 'tsc');
  await step('compiling', () => run(process.execPath, [compiler]));
  writeFileSync(buildStamp, wanted);
}
