import { execFile } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { AppError, errorCode } from '../shared/contracts/errors.ts';

/** Another version may build other bytes, so no other is used. */
export const OPA_VERSION = '1.22.2';

const OUTPUT_MAX_BYTES = 64 * 1024 * 1024;
const RUN_MAX_MS = 300_000;

export interface OpaResult {
  readonly exitCode: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs `opa` with arguments in a folder; resolves whatever the exit code, rejects with `usage` when it cannot run. */
export type RunOpa = (args: readonly string[], options?: { readonly cwd?: string }) => Promise<OpaResult>;

/** The folder of this package, whether it runs from its sources or from `dist/`. */
export const packageFolder = (): string => {
  let folder = import.meta.dirname;
  for (;;) {
    const file = path.join(folder, 'package.json');
    if (existsSync(file) && (JSON.parse(readFileSync(file, 'utf8')) as { name?: unknown }).name === 'edict')
      return folder;
    const parent = path.dirname(folder);
    if (parent === folder) throw new AppError('internal', 'the package of this command is not whole');
    folder = parent;
  }
};

const runFile = (command: string, args: readonly string[], cwd: string | undefined): Promise<OpaResult> =>
  new Promise((resolve, reject) => {
    const options = { maxBuffer: OUTPUT_MAX_BYTES, timeout: RUN_MAX_MS, ...(cwd === undefined ? {} : { cwd }) };
    execFile(command, [...args], options, (error, stdout, stderr) => {
      if (error === null) return resolve({ exitCode: 0, stdout, stderr });
      // A number is an exit code; a text such as ENOENT means that the command never ran.
      if (typeof error.code === 'number') return resolve({ exitCode: error.code, stdout, stderr });
      reject(error);
    });
  });

const versionOf = async (command: string): Promise<string | undefined> => {
  try {
    const { stdout } = await runFile(command, ['version'], undefined);
    return /^Version:\s*(\S+)/m.exec(stdout)?.[1];
  } catch {
    return undefined;
  }
};

const howToGetIt = (): string =>
  `OPA ${OPA_VERSION} is needed. Get it with 'node scripts/install-opa.mjs' (needs Go), put it on PATH, or name it in EDICT_OPA.`;

/**
 * Finds the OPA command: the environment variable `EDICT_OPA`, else the package's cache folder, else PATH. Throws
 * `usage` when none is there in the right version, and says how to get it.
 */
export const findOpa = async (env: Readonly<Record<string, string | undefined>> = process.env): Promise<string> => {
  const named = env['EDICT_OPA'];
  if (named !== undefined && named !== '') {
    const version = await versionOf(named);
    if (version === OPA_VERSION) return named;
    const what = version === undefined ? 'which does not run as OPA' : `which is OPA ${version}`;
    throw new AppError('usage', `EDICT_OPA names ${named}, ${what}. ${howToGetIt()}`);
  }
  const cached = path.join(
    packageFolder(),
    '.cache',
    `opa-${OPA_VERSION}`,
    process.platform === 'win32' ? 'opa.exe' : 'opa',
  );
  if ((await versionOf(cached)) === OPA_VERSION) return cached;
  const onPath = await versionOf('opa');
  if (onPath === OPA_VERSION) return 'opa';
  const what = onPath === undefined ? 'No OPA was found.' : `The OPA on PATH is ${onPath}.`;
  throw new AppError('usage', `${what} ${howToGetIt()}`);
};

/** `findOpa`, as a function that runs it. */
export const createRunOpa = async (
  env: Readonly<Record<string, string | undefined>> = process.env,
): Promise<RunOpa> => {
  const command = await findOpa(env);
  return async (args, options = {}) => {
    try {
      return await runFile(command, args, options.cwd);
    } catch (cause) {
      throw new AppError('usage', `opa ${args[0] ?? ''} did not run (${errorCode(cause) ?? 'killed'})`, { cause });
    }
  };
};
