// Child processes and progress lines for the set-up scripts. Node's own modules only: this runs before `npm ci`.
import { spawn, spawnSync } from 'node:child_process';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

/** The repository's root folder. */
export const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '..', '..');

/** What is downloaded or built for tests; ignored by git. */
export const cacheFolder = path.join(root, '.cache');

/** A set-up step that cannot be done; its message is meant for the person at the terminal. */
export class SetupError extends Error {}

/** Prints one progress line. */
export function say(text) {
  process.stdout.write(`setup: ${text}\n`);
}

/**
 * Runs `work` between two progress lines, the second with the time it took.
 * @template T
 * @param {string} title
 * @param {() => Promise<T>} work
 * @returns {Promise<T>}
 */
export async function step(title, work) {
  const startedMs = performance.now();
  say(`${title} …`);
  const result = await work();
  say(`${title}: done in ${((performance.now() - startedMs) / 1000).toFixed(1)} s`);
  return result;
}

/**
 * Runs a program with its output on the terminal. Rejects when it cannot start or does not exit with 0.
 * @param {string} command
 * @param {readonly string[]} args
 * @param {{ cwd?: string, env?: NodeJS.ProcessEnv }} [options]
 */
export function run(command, args, options = {}) {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, {
      cwd: options.cwd ?? root,
      env: options.env ?? process.env,
      stdio: ['ignore', 'inherit', 'inherit'],
    });
    child.once('error', (cause) =>
      reject(new SetupError(`${command} could not be started: ${cause.message}`, { cause })),
    );
    child.once('exit', (code, signal) => {
      if (code === 0) resolve(undefined);
      else reject(new SetupError(`${command} ${args.join(' ')} ended with ${signal ?? `exit code ${code}`}`));
    });
  });
}

/**
 * What a program prints, or undefined when it is not there or fails.
 * @param {string} command
 * @param {readonly string[]} args
 * @param {{ timeoutMs?: number }} [options]
 */
export function outputOf(command, args, options = {}) {
  const done = spawnSync(command, args, { encoding: 'utf8', timeout: options.timeoutMs ?? 60_000, cwd: root });
  return done.status === 0 ? `${done.stdout}${done.stderr}` : undefined;
}
