import { execFile } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import path from 'node:path';
import { promisify } from 'node:util';
import { AppError, errorCode, errorMessage } from '../../services/shared/contracts/errors.ts';
import { isObject } from '../../services/shared/contracts/json.ts';
import type { LoadOrder } from './load.ts';
import { startLoadProcess, treeCpuUsOf } from './measure.ts';

/** What one run of load against one server gave. */
export interface Driven {
  readonly requestsPerS: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly cpuUsPerRequest: number;
  /** Answers other than 2xx and 3xx, and broken connections. */
  readonly failures: number;
}

export interface Driver {
  readonly name: string;
  /** CPU is that of the process with its children. */
  drive(order: LoadOrder, serverPid: number): Promise<Driven>;
  close(): void;
}

const execute = promisify(execFile);
const EXTRA_MS = 30_000;

/** All requests are made before the first is sent, so that the generator does as little as it can. */
const script = (bodiesFile: string, headers: Readonly<Record<string, string>>): string => `
local requests = {}
local at = 0
init = function(args)
  local headers = {}
  headers["Content-Type"] = "application/json"
${Object.entries(headers)
  .map(([name, value]) => `  headers[${JSON.stringify(name)}] = ${JSON.stringify(value)}`)
  .join('\n')}
  for body in io.lines(${JSON.stringify(bodiesFile)}) do
    requests[#requests + 1] = wrk.format("POST", nil, headers, body)
  end
end
request = function()
  at = at % #requests + 1
  return requests[at]
end
done = function(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format(
    '\\nRESULT {"requests":%d,"durationUs":%d,"p50Us":%d,"p99Us":%d,"failures":%d}\\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
    errors.connect + errors.read + errors.write + errors.status + errors.timeout))
end
`;

interface WrkResult {
  readonly requests: number;
  readonly durationUs: number;
  readonly p50Us: number;
  readonly p99Us: number;
  readonly failures: number;
}

const resultOf = (text: string): WrkResult => {
  const [, json = '{}'] = /^RESULT (.*)$/m.exec(text) ?? [];
  const result: unknown = JSON.parse(json);
  if (!isObject(result) || !Number.isFinite(result['p50Us'])) throw new AppError('internal', `wrk said: ${text}`);
  return result as unknown as WrkResult;
};

/** Whether `wrk` (Debian's package of that name) is on PATH. */
const hasWrk = async (): Promise<boolean> => {
  try {
    await execute('wrk', ['--version'], { env: process.env });
    return true;
  } catch (error) {
    // It ends with 1 after it has said its version.
    return errorCode(error) !== 'ENOENT';
  }
};

/** https://github.com/wg/wrk: one thread, closed loop. */
const wrkDriver = (scratch: string): Driver => {
  let runs = 0;
  const run = async (order: LoadOrder, file: string, durationMs: number): Promise<WrkResult> => {
    const seconds = Math.max(1, Math.round(durationMs / 1_000));
    const url = `http://${order.host}:${order.port}${order.path}`;
    const args = ['-t1', `-c${order.connections}`, `-d${seconds}s`, '-s', file, url];
    try {
      return resultOf((await execute('wrk', args, { timeout: seconds * 1_000 + EXTRA_MS })).stdout);
    } catch (cause) {
      throw new AppError('internal', `wrk failed: ${errorMessage(cause)}`, { cause });
    }
  };
  return {
    name: 'wrk',
    async drive(order, serverPid) {
      runs += 1;
      const bodiesFile = path.join(scratch, `bodies-${runs}.txt`);
      const file = path.join(scratch, `load-${runs}.lua`);
      writeFileSync(bodiesFile, `${order.bodies.join('\n')}\n`);
      writeFileSync(file, script(bodiesFile, order.headers));
      await run(order, file, order.warmUpMs);
      const cpuFromUs = treeCpuUsOf(serverPid);
      const result = await run(order, file, order.durationMs);
      return {
        requestsPerS: (result.requests * 1_000_000) / result.durationUs,
        p50Ms: result.p50Us / 1_000,
        p99Ms: result.p99Us / 1_000,
        cpuUsPerRequest: (treeCpuUsOf(serverPid) - cpuFromUs) / result.requests,
        failures: result.failures,
      };
    },
    close: () => undefined,
  };
};

/** Our own generator, where `wrk` is not installed. */
const ownDriver = (): Driver => {
  const load = startLoadProcess();
  return {
    name: 'own load generator',
    async drive(order, serverPid) {
      const result = await load.run(order, serverPid);
      return {
        requestsPerS: (result.requests * 1_000) / result.durationMs,
        p50Ms: result.p50Ms,
        p99Ms: result.p99Ms,
        cpuUsPerRequest: result.cpuUs / result.requests,
        failures: result.requests - (result.statuses['200'] ?? 0),
      };
    },
    close: () => load.close(),
  };
};

/** `wrk` where it is installed, else our own; throws `usage` where `wrk` is wanted and is not there. */
export const chooseDriver = async (
  scratch: string,
  { driver, log }: { readonly driver?: 'wrk' | 'own'; readonly log: (line: string) => void },
): Promise<Driver> => {
  const isThere = driver === 'own' ? false : await hasWrk();
  if (isThere) return wrkDriver(scratch);
  const how = "wrk is not on PATH (Debian and Ubuntu: 'apt-get install wrk')";
  if (driver === 'wrk') throw new AppError('usage', how);
  if (driver === undefined) log(`${how}; our own load generator sends instead, and takes more of the CPU`);
  return ownDriver();
};
