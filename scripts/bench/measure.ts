import { execFileSync, fork, type ChildProcess } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { AppError } from '../../services/shared/contracts/errors.ts';
import { isObject } from '../../services/shared/contracts/json.ts';
import { childrenOf } from '../../test/support/child-process.ts';
import type { LoadMessage, LoadOrder, LoadResult } from './load.ts';

const folder = path.dirname(fileURLToPath(import.meta.url));
const built = path.basename(path.resolve(folder, '..', '..')) === 'dist';
const root = path.resolve(folder, ...(built ? ['..', '..', '..'] : ['..', '..']));

/** The built form of a script in this folder: what is measured runs without a compiler in between. */
export const builtScript = (name: string): string => {
  const main = process.env['EDICT_TEST_MAIN'];
  const dist = main === undefined ? path.join(root, 'dist') : path.resolve(main, '..', '..', '..');
  return path.join(dist, 'scripts', 'bench', `${name}.js`);
};

const ticksPerSecond = (): number => {
  try {
    return Number(execFileSync('getconf', ['CLK_TCK'], { encoding: 'utf8' })) || 100;
  } catch {
    return 100;
  }
};
const microsecondsPerTick = 1_000_000 / ticksPerSecond();

const statOf = (pid: number): readonly string[] => {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
  // The command's name stands in brackets and may hold anything; fields are counted after it.
  return stat.slice(stat.lastIndexOf(')') + 2).split(' ');
};

/** CPU time of a process with all its threads so far, user and system, microseconds (proc(5), `stat`). */
export const cpuUsOf = (pid: number): number => {
  const fields = statOf(pid);
  return (Number(fields[11]) + Number(fields[12])) * microsecondsPerTick;
};

/** The same for a process with its children, those that ended too. */
export const treeCpuUsOf = (pid: number): number => {
  const fields = statOf(pid);
  const own = [11, 12, 13, 14].reduce((sum, field) => sum + Number(fields[field]), 0) * microsecondsPerTick;
  return childrenOf(pid).reduce((sum, child) => {
    try {
      return sum + cpuUsOf(child);
    } catch {
      // It ended in between; its parent has its time now.
      return sum;
    }
  }, own);
};

/** Resident memory of a process in bytes. */
export const residentBytesOf = (pid: number): number => {
  const [, kib = '0'] = /VmRSS:\s+(\d+) kB/.exec(readFileSync(`/proc/${pid}/status`, 'utf8')) ?? [];
  return Number(kib) * 1024;
};

export const median = (values: readonly number[]): number => {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length / 2;
  const low = sorted[Math.ceil(middle) - 1] ?? Number.NaN;
  const high = sorted[Math.floor(middle)] ?? Number.NaN;
  return (low + high) / 2;
};

export interface MeasuredLoad extends LoadResult {
  /** Of the server process with its children during the counted part. */
  readonly cpuUs: number;
}

/** The yardstick in a process of its own. */
export const startBare = async (
  answerBytes: number,
): Promise<{ readonly child: ChildProcess; readonly port: number }> => {
  const child = fork(builtScript('bare-server'), ['--bare-server', String(answerBytes)], { execArgv: [] });
  const port = await new Promise<number>((resolve, reject) => {
    child.once('message', (message: unknown) => {
      if (isObject(message) && typeof message['port'] === 'number') resolve(message['port']);
      else reject(new AppError('internal', 'the bare server said no port'));
    });
    child.once('exit', () => reject(new AppError('internal', 'the bare server ended')));
  });
  return { child, port };
};

/** A load generator in a process of its own. */
export interface LoadProcess {
  run(order: LoadOrder, serverPid: number): Promise<MeasuredLoad>;
  close(): void;
}

const DEADLINE_EXTRA_MS = 30_000;

export const startLoadProcess = (): LoadProcess => {
  const child: ChildProcess = fork(builtScript('load'), ['--load-process'], { execArgv: [] });
  return {
    run: async (order, serverPid) =>
      await new Promise((resolve, reject) => {
        let cpuFromUs = 0;
        const settle = (finish: () => void): void => {
          clearTimeout(deadline);
          child.off('message', onMessage);
          child.off('exit', onExit);
          finish();
        };
        const fail = (message: string): void => settle(() => reject(new AppError('internal', message)));
        const onMessage = (message: unknown): void => {
          const said = message as LoadMessage;
          if (said.phase === 'counting') cpuFromUs = treeCpuUsOf(serverPid);
          else if (said.phase === 'failed') fail(`load: ${said.message}`);
          else {
            const cpuUs = treeCpuUsOf(serverPid) - cpuFromUs;
            settle(() => resolve({ ...said.result, cpuUs }));
          }
        };
        const onExit = (): void => fail('the load generator ended');
        const deadline = setTimeout(
          () => fail('the load generator gave no result'),
          order.warmUpMs + order.durationMs + DEADLINE_EXTRA_MS,
        );
        child.on('message', onMessage);
        child.once('exit', onExit);
        child.send(order);
      }),
    close: () => void child.kill(),
  };
};

/** Where figures were taken: they mean nothing without it. */
export const describeMachine = () => {
  const [first] = os.cpus();
  return {
    cpu: first?.model.trim() ?? 'unknown',
    cores: os.availableParallelism(),
    memory_gib: Math.round(os.totalmem() / 2 ** 30),
    system: `${os.type()} ${os.release()} ${os.arch()}`,
    node: process.versions.node,
    load_before: Number((os.loadavg()[0] ?? 0).toFixed(2)),
  };
};

/** Writes figures to `bench/results/<name>-<time>.json` and returns the file. */
export const writeResults = (name: string, results: unknown): string => {
  const target = path.join(root, 'bench', 'results');
  mkdirSync(target, { recursive: true });
  const file = path.join(target, `${name}-${new Date().toISOString().replaceAll(':', '-').slice(0, 19)}.json`);
  writeFileSync(file, `${JSON.stringify(results, undefined, 2)}\n`);
  return file;
};

/** Columns of text: the first to the left, figures to the right. */
export const table = (rows: readonly (readonly string[])[]): string => {
  const widths = (rows[0] ?? []).map((_, column) => Math.max(...rows.map((row) => (row[column] ?? '').length)));
  return rows
    .map((row) =>
      row
        .map((cell, column) => (column === 0 ? cell.padEnd(widths[column] ?? 0) : cell.padStart(widths[column] ?? 0)))
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
};
