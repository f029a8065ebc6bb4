// Builds a Go program of this repository, once for each state of its source.
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { cacheFolder, outputOf, run, SetupError, step } from './run.mjs';

function sourceHash(folder) {
  const hash = createHash('sha256');
  const files = readdirSync(folder).filter((name) => /^go\.(mod|sum)$|\.go$/.test(name));
  for (const name of files.sort()) hash.update(`${name}\0`).update(readFileSync(path.join(folder, name)));
  return hash.digest('hex').slice(0, 16);
}

/**
 * The command, made of this very source.
 * @param {string} name
 * @param {string} sourceFolder
 * @param {string} why what a machine without Go is told
 * @param {string} [packagePath] another command that the source's go.mod names
 */
export async function buildGoProgram(name, sourceFolder, why, packagePath = '.') {
  if (outputOf('go', ['version']) === undefined) throw new SetupError(why);
  const folder = path.join(cacheFolder, `${name}-${sourceHash(sourceFolder)}`);
  const command = path.join(folder, process.platform === 'win32' ? `${name}.exe` : name);
  if (!existsSync(command)) {
    mkdirSync(folder, { recursive: true });
    const unfinished = `${command}.unfinished-${process.pid}`;
    await step(`building ${name}`, () => run('go', ['build', '-o', unfinished, packagePath], { cwd: sourceFolder }));
    renameSync(unfinished, command);
  }
  return command;
}

/** Writes down, for the tests, what a part is: `.cache/test-parts/<name>.json`. */
export function recordPart(name, facts) {
  const file = path.join(cacheFolder, 'test-parts', `${name}.json`);
  mkdirSync(path.dirname(file), { recursive: true });
  writeFileSync(`${file}.new`, `${JSON.stringify(facts, undefined, 2)}\n`);
  renameSync(`${file}.new`, file);
}
