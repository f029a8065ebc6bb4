import { spawn, type ChildProcess } from 'node:child_process';
import { closeSync, mkdirSync, openSync, readFileSync, readdirSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

/** How a child process ended. */
export interface Exit {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

/** A running program whose output goes to a file, never through a pipe that could fill up. */
export interface LoggedChild {
  readonly pid: number;
  /** Resolves when the process is gone; never rejects. */
  readonly exited: Promise<Exit>;
  hasExited(): boolean;
  /** Does nothing when the process is gone already. */
  signal(signal: NodeJS.Signals): void;
}

export interface LoggedChildOptions {
  readonly cwd: string;
  readonly logFile: string;
  readonly uid?: number;
  readonly gid?: number;
  readonly env?: NodeJS.ProcessEnv;
}

const running = new Set<ChildProcess>();
process.on('exit', () => {
  for (const child of running) child.kill('SIGKILL');
});

/**
 * Starts a program with stdout and stderr appended to `logFile`. It is killed when this process exits.
 * Rejects when the program cannot be started at all.
 */
export async function spawnLogged(
  command: string,
  args: readonly string[],
  { cwd, logFile, uid, gid, env }: LoggedChildOptions,
): Promise<LoggedChild> {
  mkdirSync(path.dirname(logFile), { recursive: true });
  const log = openSync(logFile, 'a');
  const child = spawn(command, args, {
    cwd,
    stdio: ['ignore', log, log],
    env: env ?? process.env,
    ...(uid === undefined ? {} : { uid }),
    ...(gid === undefined ? {} : { gid }),
  });
  closeSync(log);
  const exited = new Promise<Exit>((resolve) => {
    child.once('exit', (code, signal) => {
      running.delete(child);
      resolve({ code, signal });
    });
  });
  const pid = await new Promise<number>((resolve, reject) => {
    child.once('error', reject);
    child.once('spawn', () => {
      if (child.pid === undefined) reject(new Error(`${command} has no process id`));
      else resolve(child.pid);
    });
  });
  running.add(child);
  const hasExited = () => child.exitCode !== null || child.signalCode !== null;
  return {
    pid,
    exited,
    hasExited,
    signal(signal) {
      if (!hasExited()) child.kill(signal);
    },
  };
}

/** SIGTERM (or `signal`), then SIGKILL when the process is still there after `patienceMs`. */
export async function stopChild(
  child: LoggedChild,
  patienceMs: number,
  signal: NodeJS.Signals = 'SIGTERM',
): Promise<Exit> {
  child.signal(signal);
  const patience = new AbortController();
  const late = sleep(patienceMs, 'late' as const, { signal: patience.signal }).catch(() => 'stopped' as const);
  if ((await Promise.race([child.exited, late])) === 'late') child.signal('SIGKILL');
  patience.abort();
  return await child.exited;
}

/** The processes that `pid` started and that still run; none where the kernel does not tell (other than Linux). */
export function childrenOf(pid: number): readonly number[] {
  try {
    return readdirSync(`/proc/${pid}/task`).flatMap((task) =>
      readFileSync(`/proc/${pid}/task/${task}/children`, 'utf8')
        .split(' ')
        .filter((text) => text !== '')
        .map(Number),
    );
  } catch {
    return [];
  }
}

/** The end of a log file, for an error message. */
export function tailOf(logFile: string, lines = 20): string {
  try {
    return readFileSync(logFile, 'utf8').trimEnd().split('\n').slice(-lines).join('\n');
  } catch {
    return '(no log)';
  }
}
