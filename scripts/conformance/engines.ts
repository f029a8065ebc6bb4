import * as opaWasm from '@open-policy-agent/opa-wasm';
import type { Builtins } from '../../services/pdp/policy/engine/builtin.ts';
import { createEngine } from '../../services/pdp/policy/engine/host.ts';
import { EngineRefusal } from '../../services/pdp/policy/engine/load-module.ts';
import { parseValue } from '../../services/pdp/policy/engine/value-text.ts';
import type { Value } from '../../services/pdp/policy/engine/value.ts';
import { errorMessage } from '../../services/shared/contracts/errors.ts';

/** A compiled query with its documents. */
export interface Evaluation {
  readonly wasm: Uint8Array;
  /** JSON text. */
  readonly data: string;
  /** Rego text. */
  readonly input?: string | undefined;
}

/** What an engine makes of it: the rows of the result set, an abort, or a module that it does not take. */
export type Outcome =
  | { readonly kind: 'rows'; readonly rows: Value }
  | { readonly kind: 'error'; readonly message: string }
  | { readonly kind: 'refused'; readonly message: string };

const MEMORY_MAX_BYTES = 256 * 1024 * 1024;
const LIMITS = { memoryMaxBytes: MEMORY_MAX_BYTES, fuel: 1_000_000_000, resultMaxBytes: MEMORY_MAX_BYTES };

export interface OwnOutcome {
  readonly outcome: Outcome;
  /** Whether the module asks the host for built-ins; undefined when it was refused. */
  readonly asksHost: boolean | undefined;
}

/** The host that decides in production, with a table of built-ins. */
export const runOwn = async ({ wasm, data, input }: Evaluation, builtins: Builtins): Promise<OwnOutcome> => {
  let asksHost: boolean | undefined;
  try {
    const dataJson = Buffer.from(data);
    const engine = await createEngine({ ...LIMITS, wasm, dataJson, builtins });
    asksHost = engine.hostBuiltins.length > 0;
    const result = engine.evaluate({ entrypoint: 0, input, nowMs: Date.now(), format: 'rego' });
    const outcome: Outcome =
      result.outcome === 'fault'
        ? { kind: 'error', message: result.message }
        : { kind: 'rows', rows: parseValue(result.text) };
    return { outcome, asksHost };
  } catch (error) {
    const kind = error instanceof EngineRefusal ? 'refused' : 'error';
    return { outcome: { kind, message: errorMessage(error) }, asksHost };
  }
};

/** A table that has every built-in, each of them undefined: what a suite shows of a host without any. */
export const answersUndefined: Builtins = new Proxy(
  {},
  {
    get: () => (): undefined => undefined,
    getOwnPropertyDescriptor: () => ({ configurable: true, enumerable: true, value: undefined }),
  },
);

/** Built-ins of a test alone, as simple as both hosts take them. */
export type TestBuiltins = Readonly<Record<string, (value: unknown) => string | number | null>>;

interface LoadedPolicy {
  evaluate(input: ArrayBuffer | undefined, entrypoint: number): unknown;
  setData(data: ArrayBuffer): void;
}
type LoadPolicy = (
  wasm: Uint8Array,
  memory: { initial: number; maximum: number },
  builtins: TestBuiltins,
) => Promise<LoadedPolicy>;
const { loadPolicy } = opaWasm as unknown as { readonly loadPolicy: LoadPolicy };

const SDK_MEMORY = { initial: 64, maximum: 4096 };

const bytesOf = (text: string): ArrayBuffer => {
  const bytes = Buffer.from(text);
  const exact = new ArrayBuffer(bytes.length);
  new Uint8Array(exact).set(bytes);
  return exact;
};

/** The published SDK, with what it has of itself. It throws texts. */
export const runSdk = async ({ wasm, data, input }: Evaluation, builtins: TestBuiltins): Promise<Outcome> => {
  try {
    const policy = await loadPolicy(wasm, SDK_MEMORY, builtins);
    policy.setData(bytesOf(data));
    const results = policy.evaluate(input === undefined ? undefined : bytesOf(input), 0);
    return { kind: 'rows', rows: parseValue(JSON.stringify(results)) };
  } catch (error) {
    return { kind: 'error', message: errorMessage(error) };
  }
};
