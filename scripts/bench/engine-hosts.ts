import * as cedarWasm from '@cedar-policy/cedar-wasm/nodejs';
import * as opaWasm from '@open-policy-agent/opa-wasm';
import type { Builtins } from '../../services/pdp/policy/engine/builtin.ts';
import { BUILTINS } from '../../services/pdp/policy/engine/builtins.ts';
import { createEngine, type Engine } from '../../services/pdp/policy/engine/host.ts';

/** A policy in Cedar and its calls, one for each input of the case, with the same meaning. */
export interface CedarSide {
  readonly policies: string;
  readonly calls: readonly Omit<cedarWasm.StatefulAuthorizationCall, 'preparsedPolicySetId'>[];
}

/** A policy as the hosts get it. */
export interface HostedPolicy {
  readonly wasm: Uint8Array;
  /** JSON text. */
  readonly dataJson: string;
  readonly entrypoint: string;
  readonly inputs: readonly unknown[];
}

/** Who evaluates: from input `index` to the decision as a JavaScript value, all work included. Throws what failed. */
export type Evaluation = (index: number) => unknown;

export const MEMORY_MAX_BYTES = 2 * 1024 * 1024 * 1024;
const SDK_MEMORY = { initial: 64, maximum: 32_768 };
const NOW_MS = 1_767_225_600_123;

interface LoadedPolicy {
  evaluate(input: unknown, entrypoint: string): readonly { readonly result: unknown }[];
  setData(data: unknown): void;
}
type SdkBuiltins = Readonly<Record<string, (value: unknown) => unknown>>;
// The package's own types lack what is needed here: built-ins, and entrypoints by name.
const { loadPolicy } = opaWasm as unknown as {
  readonly loadPolicy: (
    wasm: Uint8Array,
    memory: typeof SDK_MEMORY,
    builtins: SdkBuiltins | undefined,
  ) => Promise<LoadedPolicy>;
};

export interface OwnHost {
  /** From an object to a value: what the SDK does. */
  readonly fromObject: Evaluation;
  /** From input text to result text, as the decision point does it: its input is text that it wrote itself. */
  readonly fromText: Evaluation;
  /** Fuel of each input. */
  readonly fuel: () => readonly number[];
}

const failed = (message: string): never => {
  throw new Error(message);
};

export const ownEngine = async (
  { wasm, dataJson }: HostedPolicy,
  fuel: number,
  builtins: Builtins = BUILTINS,
): Promise<Engine> =>
  await createEngine({ wasm, dataJson: Buffer.from(dataJson), builtins, memoryMaxBytes: MEMORY_MAX_BYTES, fuel });

/** The host that decides in production. */
export const ownHost = async (policy: HostedPolicy, fuel: number, builtins?: Builtins): Promise<OwnHost> => {
  const engine = await ownEngine(policy, fuel, builtins);
  const entrypoint = engine.entrypoints.get(policy.entrypoint) ?? failed(`no entrypoint ${policy.entrypoint}`);
  const { inputs } = policy;
  const texts = inputs.map((input) => JSON.stringify(input));
  const evaluate = (input: string) => {
    const result = engine.evaluate({ entrypoint, input, nowMs: NOW_MS });
    return result.outcome === 'result' ? result : failed(`${result.code}: ${result.message}`);
  };
  return {
    fromObject(index) {
      const { text } = evaluate(JSON.stringify(inputs[index]));
      return (JSON.parse(text) as readonly { readonly result: unknown }[])[0]?.result;
    },
    fromText: (index) => evaluate(texts[index] ?? '').text,
    fuel: () => texts.map((text) => evaluate(text).fuelUsed),
  };
};

/** The published SDK with object input. Throws when the module asks for built-ins that it lacks. */
export const sdkHost = async (policy: HostedPolicy, builtins?: SdkBuiltins): Promise<Evaluation> => {
  const loaded = await loadPolicy(policy.wasm, SDK_MEMORY, builtins);
  loaded.setData(JSON.parse(policy.dataJson));
  return (index) => loaded.evaluate(policy.inputs[index], policy.entrypoint)[0]?.result;
};

const POLICY_SET = 'bench';

/** Cedar with its policies parsed before. */
export const cedarHost = ({ policies, calls }: CedarSide): Evaluation => {
  const parsed = cedarWasm.preparsePolicySet(POLICY_SET, { staticPolicies: policies });
  if (parsed.type === 'failure') failed(parsed.errors.map(({ message }) => message).join('; '));
  const whole = calls.map((call) => ({ ...call, preparsedPolicySetId: POLICY_SET }));
  return (index) => {
    const call = whole[index] ?? failed(`no call ${index}`);
    const answer = cedarWasm.statefulIsAuthorized(call);
    if (answer.type === 'failure') return failed(answer.errors.map(({ message }) => message).join('; '));
    return answer.response.decision === 'allow';
  };
};
