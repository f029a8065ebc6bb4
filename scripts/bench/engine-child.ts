import { errorMessage } from '../../services/shared/contracts/errors.ts';
import { isObject } from '../../services/shared/contracts/json.ts';
import { DEFAULT_FUEL } from '../../services/pdp/policy/wasm-evaluator.ts';
import {
  cedarHost,
  ownEngine,
  ownHost,
  sdkHost,
  type CedarSide,
  type Evaluation,
  type HostedPolicy,
} from './engine-hosts.ts';

export const HOSTS = ['ours', 'ours, text', 'sdk', 'cedar'] as const;
export type HostName = (typeof HOSTS)[number];

/** What the parent orders; each order is answered before the next is sent. */
export type EngineOrder =
  | { readonly order: 'open'; readonly policy: HostedPolicy; readonly warmUpMs: number }
  | { readonly order: 'openCedar'; readonly policy: HostedPolicy; readonly cedar: CedarSide; readonly warmUpMs: number }
  | { readonly order: 'turn'; readonly host: HostName; readonly turnMs: number }
  | { readonly order: 'calls'; readonly wasm: Uint8Array; readonly turnMs: number }
  | { readonly order: 'runaway'; readonly policy: HostedPolicy; readonly fuel?: number; readonly times: number }
  | { readonly order: 'memory'; readonly policy: HostedPolicy; readonly host: 'ours' | 'sdk' };

export interface Opened {
  /** What each host decides on each input, or why it cannot. */
  readonly answers: Readonly<Partial<Record<HostName, readonly unknown[]>>>;
  readonly cannot: Readonly<Partial<Record<HostName, string>>>;
  /** Of each input. */
  readonly fuel: readonly number[];
}
export interface Turn {
  readonly evaluations: number;
  readonly p50Us: number;
  readonly p99Us: number;
}
export interface Calls {
  /** Microseconds of one call of a host built-in that does nothing, the walk around it taken off. */
  readonly oursUs: number;
  readonly sdkUs: number;
}
export interface Runaway {
  readonly outcome: string;
  /** The middle of all times, and the longest. */
  readonly cpuMs: number;
  readonly cpuMsMax: number;
  readonly wallMs: number;
  readonly fuel: number;
  readonly fuelUsed: number;
}
export interface Memory {
  readonly loadMs: number;
  readonly residentBytes: number;
}
interface Answers {
  readonly open: Opened;
  readonly openCedar: Pick<Opened, 'answers' | 'cannot'>;
  readonly turn: Turn;
  readonly calls: Calls;
  readonly runaway: Runaway;
  readonly memory: Memory;
}
export type AnswerTo<Order extends EngineOrder['order']> = Answers[Order];

const MAX_SAMPLES = 1_000_000;
const BENCH_FUEL = 100_000_000;
const CALLS = 1_000;

const hosts = new Map<HostName, Evaluation>();
let inputCount = 0;

/** Evaluates all inputs in turn for a time, and times each. */
const takeTurn = (evaluate: Evaluation, inputs: number, turnMs: number): Turn => {
  const samples = new Float64Array(MAX_SAMPLES);
  let count = 0;
  const endMs = performance.now() + turnMs;
  let startMs = performance.now();
  while (startMs < endMs && count < MAX_SAMPLES) {
    evaluate(count % inputs);
    const nowMs = performance.now();
    samples[count] = nowMs - startMs;
    count += 1;
    startMs = nowMs;
  }
  const sorted = samples.subarray(0, count).sort();
  const at = (share: number): number => (sorted[Math.min(count - 1, Math.floor(count * share))] ?? 0) * 1_000;
  return { evaluations: count, p50Us: at(0.5), p99Us: at(0.99) };
};

/** Opens hosts and lets each decide every input, then run warm. */
const openHosts = async (
  { policy, warmUpMs }: { readonly policy: HostedPolicy; readonly warmUpMs: number },
  makers: Readonly<Partial<Record<HostName, () => Promise<Evaluation> | Evaluation>>>,
): Promise<Answers['openCedar']> => {
  const cannot: Partial<Record<HostName, string>> = {};
  const answers: Partial<Record<HostName, readonly unknown[]>> = {};
  inputCount = policy.inputs.length;
  for (const name of HOSTS) {
    const make = makers[name];
    if (make === undefined) continue;
    try {
      const evaluate = await make();
      answers[name] = policy.inputs.map((_, index) => evaluate(index));
      takeTurn(evaluate, inputCount, warmUpMs);
      hosts.set(name, evaluate);
    } catch (error) {
      delete answers[name];
      cannot[name] = errorMessage(error);
    }
  }
  return { answers, cannot };
};

const open = async (order: EngineOrder & { order: 'open' }): Promise<Opened> => {
  const own = await ownHost(order.policy, BENCH_FUEL);
  const opened = await openHosts(order, {
    ours: () => own.fromObject,
    'ours, text': () => own.fromText,
    sdk: async () => await sdkHost(order.policy),
  });
  return { ...opened, fuel: own.fuel() };
};

const openCedar = async (order: EngineOrder & { order: 'openCedar' }): Promise<Answers['openCedar']> =>
  await openHosts(order, { cedar: () => cedarHost(order.cedar) });

const turn = ({ host, turnMs }: EngineOrder & { order: 'turn' }): Turn => {
  const evaluate = hosts.get(host);
  if (evaluate === undefined) throw new Error(`${host} is not open`);
  return takeTurn(evaluate, inputCount, turnMs);
};

/** Both hosts get the same function, which does nothing: what is left is the way there and back. */
const calls = async ({ wasm, turnMs }: EngineOrder & { order: 'calls' }): Promise<Calls> => {
  const inputs = [{ texts: Array.from({ length: CALLS }, (_, at) => `1.2.${at}`) }];
  const of = (entrypoint: string): HostedPolicy => ({ wasm, dataJson: '{}', entrypoint, inputs });
  const table = { 'semver.is_valid': () => true };
  const costUs = async (make: (policy: HostedPolicy) => Promise<Evaluation>): Promise<number> => {
    const [called, plain] = [await make(of('bench/calls/called')), await make(of('bench/calls/plain'))];
    if (called(0) !== CALLS || plain(0) !== CALLS) throw new Error('the walk did not see all members');
    for (const each of [called, plain]) takeTurn(each, 1, turnMs);
    return (takeTurn(called, 1, turnMs).p50Us - takeTurn(plain, 1, turnMs).p50Us) / CALLS;
  };
  return {
    oursUs: await costUs(async (policy) => (await ownHost(policy, BENCH_FUEL, table)).fromObject),
    sdkUs: await costUs(async (policy) => await sdkHost(policy, table)),
  };
};

const middle = (values: readonly number[]): number =>
  [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)] ?? Number.NaN;

/** CPU time of this process until the engine ended the evaluation, warm. */
const runaway = async ({
  policy,
  fuel = DEFAULT_FUEL,
  times,
}: EngineOrder & { order: 'runaway' }): Promise<Runaway> => {
  const engine = await ownEngine(policy, fuel);
  const entrypoint = engine.entrypoints.get(policy.entrypoint);
  if (entrypoint === undefined) throw new Error(`no entrypoint ${policy.entrypoint}`);
  const input = JSON.stringify(policy.inputs[0]);
  const once = () => engine.evaluate({ entrypoint, input, nowMs: 0 });
  for (let time = 0; time < times; time += 1) once();
  const cpuMs: number[] = [];
  const wallMs: number[] = [];
  let last = once();
  for (let time = 0; time < times; time += 1) {
    const cpu = process.cpuUsage();
    const startedMs = performance.now();
    last = once();
    wallMs.push(performance.now() - startedMs);
    const { user, system } = process.cpuUsage(cpu);
    cpuMs.push((user + system) / 1_000);
  }
  return {
    outcome: last.outcome === 'fault' ? last.code : 'ended by itself',
    cpuMs: middle(cpuMs),
    cpuMsMax: Math.max(...cpuMs),
    wallMs: middle(wallMs),
    fuel,
    fuelUsed: last.fuelUsed,
  };
};

/** What a policy with its data takes in this process, after one evaluation; nothing else may be open in it. */
const memory = async ({ policy, host }: EngineOrder & { order: 'memory' }): Promise<Memory> => {
  globalThis.gc?.();
  const before = process.memoryUsage().rss;
  const startedMs = performance.now();
  const evaluate = host === 'sdk' ? await sdkHost(policy) : (await ownHost(policy, BENCH_FUEL)).fromObject;
  const loadMs = performance.now() - startedMs;
  evaluate(0);
  globalThis.gc?.();
  const residentBytes = process.memoryUsage().rss - before;
  hosts.set(host, evaluate);
  return { loadMs, residentBytes };
};

const obey = async (order: EngineOrder): Promise<Answers[keyof Answers]> => {
  switch (order.order) {
    case 'open':
      return await open(order);
    case 'openCedar':
      return await openCedar(order);
    case 'turn':
      return turn(order);
    case 'calls':
      return await calls(order);
    case 'runaway':
      return await runaway(order);
    case 'memory':
      return await memory(order);
    default:
      order satisfies never;
      throw new Error('no such order');
  }
};

// Run as a process of its own (`fork`): a policy is measured alone, and without a compiler in between.
if (process.send !== undefined && process.argv[2] === '--engine-child') {
  process.on('message', (order: unknown) => {
    if (!isObject(order)) return;
    obey(order as unknown as EngineOrder).then(
      (answer) => process.send?.({ answer }),
      (error: unknown) => process.send?.({ failed: errorMessage(error) }),
    );
  });
  process.once('disconnect', () => process.exit(0));
}
