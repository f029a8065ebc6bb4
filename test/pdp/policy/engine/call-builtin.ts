import { BuiltinError, type Builtins } from '../../../../services/pdp/policy/engine/builtin.ts';
import { regoText } from '../../../../services/pdp/policy/engine/rego-text.ts';
import { parseValue, printValue } from '../../../../services/pdp/policy/engine/value-text.ts';
import { isArray, type Value } from '../../../../services/pdp/policy/engine/value.ts';

const CONTEXT = {
  nowNs: 1_700_000_000_123_456_789n,
  randomBytes: (length: number) => new Uint8Array(length).fill(0xab),
  spend: () => undefined,
};

const call = (builtins: Builtins, name: string, args: readonly Value[], print: (value: Value) => string): string => {
  try {
    const value = builtins[name]!(CONTEXT, ...args);
    return value === undefined ? 'undefined' : print(value);
  } catch (error) {
    if (error instanceof BuiltinError) return 'undefined';
    throw error;
  }
};

/** A built-in's answer to arguments in Rego's syntax, as Rego text; `undefined` as the policy sees it. */
export const answerOf = (builtins: Builtins, name: string, args: readonly string[]): string =>
  call(
    builtins,
    name,
    args.map((arg) => parseValue(arg)),
    regoText,
  );

/** The same for arguments in one text, separated by commas; the answer as a module reads it. */
export const printedAnswerOf = (builtins: Builtins, name: string, args: string): string => {
  const list = parseValue(`[${args}]`);
  if (list === null || typeof list !== 'object' || !isArray(list)) throw new Error(args);
  return call(builtins, name, list, printValue);
};
