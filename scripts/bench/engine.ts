import { mkdtempSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { packageFolder } from '../../services/cli/opa-binary.ts';
import { AppError } from '../../services/shared/contracts/errors.ts';
import { canonicalJson } from '../../services/shared/contracts/json.ts';
import type { AnswerTo, HostName, Memory, Runaway, Turn } from './engine-child.ts';
import { engineCases, rbacData, type EngineCase } from './engine-cases.ts';
import { reportEngine } from './engine-report.ts';
import { measureReload, type Reload } from './engine-reload.ts';
import { collidingKeys, plainKeys } from './flood-keys.ts';
import { compileOwn, NO_INLINED_WASM_CALLS, withChild, type EngineProcess } from './engine-process.ts';
import { describeMachine, median, writeResults } from './measure.ts';
import { opaBench, opaDecides } from './opa.ts';
import { measureRunaways } from './runaways.ts';

export interface EngineOptions {
  readonly rounds: number;
  /** Time of one host in one round of one case. */
  readonly turnMs: number;
  readonly warmUpMs: number;
  /** Names of cases, or parts of them. Default: all. */
  readonly cases?: readonly string[];
  /** `opa bench` beside it: some seconds a case and round. */
  readonly withOpa: boolean;
  /** Sizes of data, JSON bytes, whose memory is measured. */
  readonly memorySizes: readonly number[];
  /** JSON bytes of the data that is reloaded; 0: no reload. */
  readonly reloadBytes: number;
  readonly log: (line: string) => void;
}

export interface Figures {
  readonly p50Us: number;
  readonly p99Us: number;
}
export interface CaseResult {
  readonly name: string;
  readonly isFlat: boolean;
  /** Of each input. */
  readonly fuel: readonly number[];
  readonly hosts: Readonly<Partial<Record<HostName | 'opa bench', Figures>>>;
  /** Why a host is not measured. */
  readonly cannot: Readonly<Partial<Record<HostName, string>>>;
}
export interface MemoryResult {
  readonly jsonBytes: number;
  readonly ours: Memory;
  readonly sdk: Memory;
}
export interface EngineResults {
  readonly cases: readonly CaseResult[];
  readonly builtinCall: AnswerTo<'calls'>;
  readonly runaways: Readonly<Record<string, Runaway>>;
  readonly flood: { readonly keys: number; readonly colliding: Runaway; readonly plain: Runaway };
  readonly memory: readonly MemoryResult[];
  readonly reload: Reload | undefined;
}

const FLOOD_TIMES = 20;
const RUNAWAY_TIMES = 10;
/** A few kinds; `npm run bench -- runaway` has all. */
const RUNAWAYS = ['loops', 'calls', 'patterns', 'digests', 'tokens'] as const;
const FLOOD_KEYS = 5_000;
const USER_BYTES = 37;

/** All hosts must decide alike before any is measured. */
const checkEqual = async (
  scratch: string,
  { name, opaArgs, entrypoint, inputs }: EngineCase,
  answers: Readonly<Partial<Record<HostName, readonly unknown[]>>>,
): Promise<void> => {
  for (const [index, input] of inputs.entries()) {
    const expected = canonicalJson(await opaDecides(scratch, opaArgs, entrypoint, input));
    for (const [host, given] of Object.entries(answers)) {
      const answer =
        host === 'ours, text'
          ? (JSON.parse(String(given[index])) as readonly { readonly result: unknown }[])[0]?.result
          : given[index];
      const got = canonicalJson(answer);
      if (got !== expected)
        throw new AppError('internal', `${name}, input ${index}: ${host} decides ${got}, opa ${expected}`);
    }
  }
};

const medians = (turns: readonly Figures[]): Figures => ({
  p50Us: median(turns.map(({ p50Us }) => p50Us)),
  p99Us: median(turns.map(({ p99Us }) => p99Us)),
});

const measureCase = async (options: EngineOptions, scratch: string, each: EngineCase): Promise<CaseResult> => {
  const { name, isFlat, opaArgs, entrypoint, inputs, wasm, dataJson, cedar } = each;
  const policy = { wasm, dataJson, entrypoint, inputs };
  const { warmUpMs, turnMs } = options;
  return await withChild(async (child) => {
    const openBeside = async (cedarChild: EngineProcess): Promise<CaseResult> => {
      const opened = await child.ask({ order: 'open', policy, warmUpMs });
      const beside =
        cedar === undefined
          ? { answers: {}, cannot: {} }
          : await cedarChild.ask({ order: 'openCedar', policy, cedar, warmUpMs });
      const answers = { ...opened.answers, ...beside.answers };
      await checkEqual(scratch, each, answers);
      const names = Object.keys(answers) as readonly HostName[];
      const turns = new Map<HostName | 'opa bench', Figures[]>();
      const add = (host: HostName | 'opa bench', { p50Us, p99Us }: Turn | Figures): void =>
        void turns.set(host, [...(turns.get(host) ?? []), { p50Us, p99Us }]);
      for (let round = 0; round < options.rounds; round += 1) {
        for (const host of names)
          add(host, await (host === 'cedar' ? cedarChild : child).ask({ order: 'turn', host, turnMs }));
        // It takes one input a run, so each round has the next one.
        if (options.withOpa)
          add('opa bench', await opaBench(scratch, opaArgs, entrypoint, inputs[round % inputs.length]));
      }
      const hosts = Object.fromEntries([...turns].map(([host, figures]) => [host, medians(figures)]));
      options.log(`measured  ${name}`);
      return { name, isFlat, fuel: opened.fuel, hosts, cannot: { ...opened.cannot, ...beside.cannot } };
    };
    return await withChild(openBeside, [NO_INLINED_WASM_CALLS]);
  });
};

const measureFlood = async (scratch: string): Promise<EngineResults['flood']> => {
  const wasm = await compileOwn(scratch, 'flood', ['allow']);
  const of = async (keys: readonly string[]): Promise<Runaway> => {
    const members = Object.fromEntries(keys.map((key) => [key, 1]));
    const policy = { wasm, dataJson: '{}', entrypoint: 'bench/flood/allow', inputs: [{ members }] };
    return await withChild(async (child) => await child.ask({ order: 'runaway', policy, times: FLOOD_TIMES }));
  };
  return { keys: FLOOD_KEYS, colliding: await of(collidingKeys(FLOOD_KEYS)), plain: await of(plainKeys(FLOOD_KEYS)) };
};

const measureMemory = async (scratch: string, sizes: readonly number[]): Promise<readonly MemoryResult[]> => {
  const wasm = await compileOwn(scratch, 'rbac', ['allow']);
  const results: MemoryResult[] = [];
  for (const size of sizes) {
    const dataJson = JSON.stringify(rbacData(Math.ceil(size / USER_BYTES)));
    const inputs = [{ user: 'user-1', action: 'read', type: 'report' }];
    const policy = { wasm, dataJson, entrypoint: 'bench/rbac/allow', inputs };
    const of = async (host: 'ours' | 'sdk'): Promise<Memory> =>
      await withChild(async (child) => await child.ask({ order: 'memory', policy, host }));
    results.push({ jsonBytes: Buffer.byteLength(dataJson), ours: await of('ours'), sdk: await of('sdk') });
  }
  return results;
};

/** Measures everything; throws when two hosts decide differently. */
export const measureEngine = async (options: EngineOptions): Promise<EngineResults> => {
  const scratch = mkdtempSync(path.join(os.tmpdir(), 'edict-bench-'));
  try {
    const all = await engineCases(packageFolder(), scratch);
    const wanted = options.cases;
    const chosen = all.filter(({ name }) => wanted === undefined || wanted.some((part) => name.includes(part)));
    if (chosen.length === 0)
      throw new AppError('usage', `no such case; there are ${all.map(({ name }) => name).join(', ')}`);
    const cases: CaseResult[] = [];
    for (const each of chosen) cases.push(await measureCase(options, scratch, each));
    const callsWasm = await compileOwn(scratch, 'calls', ['plain', 'called']);
    const builtinCall = await withChild(
      async (child) => await child.ask({ order: 'calls', wasm: callsWasm, turnMs: options.turnMs }),
    );
    const runaways = await measureRunaways(scratch, RUNAWAY_TIMES, RUNAWAYS);
    const flood = await measureFlood(scratch);
    const memory = await measureMemory(scratch, options.memorySizes);
    const reload = options.reloadBytes === 0 ? undefined : await measureReload(scratch, options.reloadBytes);
    return { cases, builtinCall, runaways, flood, memory, reload };
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
};

/** Measures, prints, and keeps the figures in `bench/results/`. */
export const benchEngine = async (options: EngineOptions): Promise<void> => {
  const machine = describeMachine();
  const results = await measureEngine(options);
  options.log(reportEngine(results));
  const { rounds, turnMs, warmUpMs } = options;
  options.log(`\nmedians of ${rounds} rounds of ${turnMs} ms; ${JSON.stringify(machine)}`);
  const file = writeResults('engine', { bench: 'engine', machine, settings: { rounds, turnMs, warmUpMs }, ...results });
  options.log(file);
};
