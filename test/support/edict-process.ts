import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { spawnLogged, stopChild, tailOf, type Exit, type LoggedChild } from './child-process.ts';
import { repositoryRoot } from './prepared-parts.ts';

const startLimitMs = 120_000;
/** A little more than the services give themselves. */
const stopLimitMs = 40_000;
const commandLimitMs = 60_000;

/** The built command line; another build can be named, so that a run does not depend on `dist`. */
export const edictMain = (): string =>
  process.env['EDICT_TEST_MAIN'] ?? path.join(repositoryRoot, 'dist/services/cli/main.js');

/** No setting of the environment that the tests run in reaches the programs under test. */
function cleanEnvironment(more: NodeJS.ProcessEnv = {}): NodeJS.ProcessEnv {
  const kept = Object.entries(process.env).filter(([name]) => !name.startsWith('EDICT_') && name !== 'NODE_OPTIONS');
  return { ...Object.fromEntries(kept), ...more };
}

export interface CommandResult {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs `edict ARGS` to its end. Never rejects for an exit code; a command that hangs is killed (code -1). */
export async function runEdict(
  args: readonly string[],
  options: { readonly cwd?: string } = {},
): Promise<CommandResult> {
  return await new Promise((resolve) => {
    execFile(
      process.execPath,
      [edictMain(), ...args],
      {
        cwd: options.cwd ?? repositoryRoot,
        env: cleanEnvironment(),
        timeout: commandLimitMs,
        killSignal: 'SIGKILL',
        maxBuffer: 256 * 1024 * 1024,
      },
      (error, stdout, stderr) => {
        const code = error === null ? 0 : typeof error.code === 'number' ? error.code : -1;
        resolve({ code, stdout, stderr });
      },
    );
  });
}

/** As `runEdict`, but an exit code other than 0 is an error that shows what the command said. */
export async function edict(...args: readonly string[]): Promise<string> {
  const { code, stdout, stderr } = await runEdict(args);
  if (code !== 0) throw new Error(`edict ${args.slice(0, 3).join(' ')} ended with ${code}:\n${stderr}${stdout}`);
  return stdout;
}

/** One service as a process of its own, on an address that it keeps over restarts. */
export interface EdictProcess {
  readonly url: string;
  /** Of the running process; throws when none runs. */
  pid(): number;
  isRunning(): boolean;
  /** Starts it and waits until it is ready (or only live). Rejects with the end of its log when it ends before. */
  start(until?: 'ready' | 'live'): Promise<void>;
  /** Starts it without waiting. */
  launch(): Promise<void>;
  /** Waits until a launched service is ready or live. */
  waitUntil(state: 'ready' | 'live'): Promise<void>;
  /** SIGKILL; resolves when the process is gone. */
  kill9(): Promise<void>;
  /** SIGTERM, then the exit. */
  stop(): Promise<Exit>;
  /** Waits until the process ended by itself. */
  exited(): Promise<Exit>;
  signal(signal: NodeJS.Signals): void;
  log(): string;
}

export interface EdictProcessOptions {
  readonly service: 'pdp' | 'audit';
  readonly url: string;
  readonly configFile: string;
  readonly folder: string;
  /** Options of Node itself, such as `--cpu-prof`. */
  readonly nodeOptions?: readonly string[];
  readonly environment?: NodeJS.ProcessEnv;
}

/** What a service's health endpoint answers; undefined while nothing listens. */
export async function healthOf(
  url: string,
  state: 'ready' | 'live',
): Promise<{ status: number; body: unknown } | undefined> {
  try {
    const response = await fetch(`${url}/health/${state}`, { signal: AbortSignal.timeout(5_000) });
    return { status: response.status, body: await response.json() };
  } catch {
    return undefined;
  }
}

/** A service that is not started yet. */
export function edictProcess(options: EdictProcessOptions): EdictProcess {
  const { service, url, configFile, folder } = options;
  const logFile = path.join(folder, `${service}.log`);
  let child: LoggedChild | undefined;

  const running = (): LoggedChild => {
    if (child === undefined || child.hasExited()) throw new Error(`${service} does not run:\n${tailOf(logFile)}`);
    return child;
  };

  const launch = async (): Promise<void> => {
    if (child !== undefined && !child.hasExited()) throw new Error(`${service} runs already`);
    const args = [...(options.nodeOptions ?? []), edictMain(), 'serve', service, '--config', configFile];
    child = await spawnLogged(process.execPath, args, {
      cwd: folder,
      logFile,
      env: cleanEnvironment(options.environment),
    });
  };

  const waitUntil = async (state: 'ready' | 'live'): Promise<void> => {
    const deadline = Date.now() + startLimitMs;
    for (;;) {
      running();
      const health = await healthOf(url, state);
      if (health?.status === 200) return;
      if (Date.now() > deadline) {
        const said = JSON.stringify(health?.body ?? 'nothing');
        throw new Error(`${service} is not ${state} after ${startLimitMs} ms; it says ${said}\n${tailOf(logFile)}`);
      }
      await sleep(20);
    }
  };

  return {
    url,
    pid: () => running().pid,
    isRunning: () => child !== undefined && !child.hasExited(),
    async start(until = 'ready') {
      await launch();
      await waitUntil(until);
    },
    launch,
    waitUntil,
    async kill9() {
      child?.signal('SIGKILL');
      await child?.exited;
    },
    async stop() {
      if (child === undefined) return { code: 0, signal: null };
      return await stopChild(child, stopLimitMs);
    },
    async exited() {
      if (child === undefined) throw new Error(`${service} was never started`);
      return await child.exited;
    },
    signal: (signal) => running().signal(signal),
    log: () => readFileSync(logFile, 'utf8'),
  };
}
