import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { replaceFile } from '../../services/cli/replace-file.ts';
import { AppError } from '../../services/shared/contracts/errors.ts';
import { isObject } from '../../services/shared/contracts/json.ts';
import { startEmbedded } from '../../test/support/deployment.ts';
import { builtScript, residentBytesOf } from './measure.ts';
import { compileRego, packBundle, POLICIES } from './opa.ts';

/** The longest in some time. */
interface Stall {
  /** Turn of the event loop. */
  readonly turnMs: number;
  /** The same, of which the thread ran and did not wait for a processor. */
  readonly turnCpuMs: number;
  /** One `/decide`, as its caller sees it. */
  readonly decideMs: number;
}

export interface Reload {
  readonly dataBytes: number;
  /** From the new file until an answer names it; the interval of looking at the file (20 ms) is in it. */
  readonly reloadMs: number;
  /** While the bundle is loaded, and until a while after it took over. */
  readonly during: Stall;
  /** The same in a second before the reload: what the machine does by itself. */
  readonly before: Stall;
  readonly residentBytes: number;
  readonly residentBytesPeak: number;
}

const TENANT = 'acme';
const POLL_MS = 20;
const PAUSE_MS = 1;
const RELOAD_MAX_MS = 300_000;
const CALM_MIN_MS = 1_000;
/** What the set-up of the old instance's end may still cost after the swap. */
const AFTER_MS = 500;

const REQUEST = {
  subject: { type: 'user', id: 'alice', properties: { roles: ['analyst'], department: 'hr', clearance: 3 } },
  action: { name: 'read' },
  resource: { type: 'dataset', id: 'salaries', properties: { department: 'hr', sensitivity: 2 } },
};

/** The longest of what a probe wrote down from one time on until another, milliseconds since 1970. */
const turnsIn = (probeFile: string, fromMs: number, untilMs: number): Omit<Stall, 'decideMs'> => {
  const turns = existsSync(probeFile) ? readFileSync(probeFile, 'latin1').trim().split('\n') : [];
  const found = turns.map((line) => line.split(' ').map(Number)).filter(([at = 0]) => at >= fromMs && at <= untilMs);
  return {
    turnMs: Math.max(0, ...found.map(([, tookMs = 0]) => tookMs)),
    turnCpuMs: Math.max(0, ...found.map(([, , cpuMs = 0]) => cpuMs)),
  };
};

/** Data of about so many bytes: many small members, as directories have, which differ enough not to look like a bomb. */
const dataOf = (bytes: number, seed: number): string => {
  const parts: string[] = [];
  let length = 0;
  for (let at = 0; length < bytes; at += 1) {
    const salt = Math.imul(at + seed, 2_654_435_761) >>> 0;
    const part = `"user-${at}":{"grade":"g${salt % 9}","badge":"${salt.toString(36)}","level":${salt % 100}}`;
    parts.push(part);
    length += part.length + 1;
  }
  return `{"limits":{"g1":100},"users":{${parts.join(',')}}}`;
};

const serialOf = (body: unknown): unknown => {
  const policy = isObject(body) ? body['policy'] : undefined;
  const bundles: unknown = isObject(policy) ? policy['bundles'] : undefined;
  const first: unknown = Array.isArray(bundles) ? bundles[0] : undefined;
  return isObject(first) ? first['serial'] : undefined;
};

/** A real decision point whose bundle of `dataBytes` of data is replaced while it is asked without a pause. */
export const measureReload = async (scratch: string, dataBytes: number): Promise<Reload> => {
  const source = readFileSync(path.join(POLICIES, 'decide.rego'), 'utf8');
  const entrypoints = ['edict/decide'];
  const { wasm } = await compileRego({ scratch, name: 'reload', source, entrypoints, data: {} });
  const file = path.join(scratch, 'reload.tar.gz');
  await replaceFile(file, await packBundle(wasm, 1, dataOf(dataBytes, 1)));
  const next = await packBundle(wasm, 2, dataOf(dataBytes, 2));
  const probeFile = path.join(scratch, 'turns');
  const deployment = await startEmbedded({
    nodeOptions: { pdp: ['--import', builtScript('loop-probe')] },
    environment: { pdp: { LOOP_PROBE_FILE: probeFile } },
    tenants: [TENANT],
    services: ['pdp'],
    settings: { log: { level: 'warn' }, pdp: { bundles: [file], bundle_poll: `${POLL_MS}ms`, policy_memory: '2GiB' } },
  });
  try {
    const gateway = deployment.gateway(TENANT);
    let peak = 0;
    /** Asks until `isOver`, and gives the longest time of an answer. */
    const askUntil = async (isOver: (serial: unknown) => boolean): Promise<number> => {
      let longestMs = 0;
      for (;;) {
        const startedMs = performance.now();
        const { status, body } = await gateway.post('/decide', REQUEST);
        longestMs = Math.max(longestMs, performance.now() - startedMs);
        peak = Math.max(peak, residentBytesOf(deployment.pdp.pid()));
        if (status !== 200) throw new AppError('internal', `/decide answered ${status} during a reload`);
        if (isOver(serialOf(body))) return longestMs;
        await sleep(PAUSE_MS);
      }
    };
    const until = (endMs: number) => (): boolean => performance.now() >= endMs;
    await askUntil(until(performance.now() + CALM_MIN_MS));
    const calmMs = Date.now();
    const calm = await askUntil(until(performance.now() + CALM_MIN_MS));
    const beganMs = Date.now();
    const residentBytes = residentBytesOf(deployment.pdp.pid());
    const startedMs = performance.now();
    await replaceFile(file, next);
    const during = await askUntil((serial) => {
      if (performance.now() > startedMs + RELOAD_MAX_MS) throw new AppError('internal', 'the bundle was not reloaded');
      return serial === 2;
    });
    const reloadMs = performance.now() - startedMs;
    const after = await askUntil(until(performance.now() + AFTER_MS));
    return {
      dataBytes,
      reloadMs,
      during: { ...turnsIn(probeFile, beganMs, Date.now()), decideMs: Math.max(during, after) },
      before: { ...turnsIn(probeFile, calmMs, beganMs), decideMs: calm },
      residentBytes,
      residentBytesPeak: peak,
    };
  } finally {
    await deployment.close();
  }
};
