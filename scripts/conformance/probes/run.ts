import type { Builtins } from '../../../services/pdp/policy/engine/builtin.ts';
import { parseValue, printValue } from '../../../services/pdp/policy/engine/value-text.ts';
import { RegoObject, type Value } from '../../../services/pdp/policy/engine/value.ts';
import { createEngine, type Engine } from '../../../services/pdp/policy/engine/host.ts';
import { EngineRefusal } from '../../../services/pdp/policy/engine/load-module.ts';
import { errorMessage } from '../../../services/shared/contracts/errors.ts';
import { rowsOf } from '../judge.ts';
import type { Oracle, OracleAnswer } from '../oracle.ts';
import { isSameAnswer, type Answer } from './compare.ts';
import { probesOf } from './generate.ts';
import type { Material } from './material.ts';

export interface Difference {
  /** The call as it would stand in a policy, and what came of it. */
  readonly call: string;
  readonly wanted: string;
  readonly given: string;
}

export interface ProbeTally {
  readonly name: string;
  readonly total: number;
  readonly differences: readonly Difference[];
}

/** The clock of all probes, and of the tokens that they verify. */
const NOW_MS = 1_700_000_000_000;
const NOW_NS = String(NOW_MS * 1_000_000);
const MEMORY_MAX_BYTES = 256 * 1024 * 1024;
const FUEL = 2_000_000_000;

export const oracleAnswer = ({ value, error }: OracleAnswer): Answer => {
  if (error !== undefined) return { kind: 'error', message: error };
  if (value === undefined) return { kind: 'undefined' };
  return { kind: 'value', value: parseValue(value) };
};

export const ownAnswer = (engine: Engine, input: string | undefined, nowMs = NOW_MS): Answer => {
  const result = engine.evaluate({ entrypoint: 0, input, nowMs, format: 'rego' });
  if (result.outcome === 'fault') return { kind: 'error', message: result.message };
  const [row] = rowsOf(parseValue(result.text));
  const value = row instanceof RegoObject ? row.get('x') : undefined;
  return value === undefined ? { kind: 'undefined' } : { kind: 'value', value };
};

export const answerText = (answer: Answer): string => {
  switch (answer.kind) {
    case 'value':
      return printValue(answer.value);
    case 'undefined':
      return 'undefined';
    case 'error':
      return `error: ${answer.message}`;
    default:
      return answer satisfies never;
  }
};

/** A compiled query on our host, or why it is refused. */
export const engineOf = async (
  wasm: string | undefined,
  builtins: Builtins,
  data = '{}',
): Promise<Engine | { readonly refused: string }> => {
  if (wasm === undefined) return { refused: 'not compiled' };
  try {
    return await createEngine({
      wasm: Buffer.from(wasm, 'base64'),
      dataJson: Buffer.from(data),
      builtins,
      memoryMaxBytes: MEMORY_MAX_BYTES,
      fuel: FUEL,
      resultMaxBytes: MEMORY_MAX_BYTES,
    });
  } catch (error) {
    if (error instanceof EngineRefusal) return { refused: errorMessage(error) };
    throw error;
  }
};

const queryOf = (name: string, arity: number): string =>
  `x = ${name}(${Array.from({ length: arity }, (_, index) => `input[${index}]`).join(', ')})`;

export interface ProbeOptions {
  readonly oracle: Oracle;
  readonly builtins: Builtins;
  readonly material: Material;
  readonly count: number;
  readonly seed: number;
}

/** Calls one built-in with generated arguments, compiled and through our host, and beside it in the interpreter. */
export const probe = async (name: string, options: ProbeOptions): Promise<ProbeTally> => {
  const { oracle, builtins, material, count, seed } = options;
  const calls = probesOf(name, count, seed, material);
  const query = queryOf(name, calls[0]?.length ?? 0);
  const { wasm } = await oracle.ask({ query, wasm: true, compileOnly: true });
  const engine = await engineOf(wasm, builtins);
  const differences: Difference[] = [];
  let total = 0;
  const answerTo = (args: readonly Value[], input: string): Answer => {
    if ('refused' in engine) return { kind: 'error', message: engine.refused };
    return ownAnswer(engine, args.length === 0 ? undefined : input);
  };
  for (const args of calls) {
    const input = printValue(args);
    // One at a time: what ends the oracle must be known.
    const told = await oracle.ask({ query, input, nowNs: NOW_NS });
    if (told.stage === 'parse') continue;
    total += 1;
    const wanted = oracleAnswer(told);
    const given = answerTo(args, input);
    const isSame = !('refused' in engine) && isSameAnswer(name, wanted, given);
    if (isSame) continue;
    const call = `${name}(${args.map(printValue).join(', ')})`;
    differences.push({ call, wanted: answerText(wanted), given: answerText(given) });
  }
  return { name, total, differences };
};
