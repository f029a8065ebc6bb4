import { BuiltinError, type Builtins } from '../../../../services/pdp/policy/engine/builtin.ts';
import { regoText } from '../../../../services/pdp/policy/engine/rego-text.ts';
import { parseValue } from '../../../../services/pdp/policy/engine/value-text.ts';

/** A built-in's answer to arguments in Rego's syntax, as Rego text; `undefined` as the policy sees it. */
export const answerOf = (builtins: Builtins, name: string, args: readonly string[]): string => {
  const context = {
    nowNs: 0n,
    randomBytes: (length: number) => new Uint8Array(length).fill(0xab),
    spend: () => undefined,
  };
  try {
    const value = builtins[name]!(context, ...args.map(parseValue));
    return value === undefined ? 'undefined' : regoText(value);
  } catch (error) {
    if (error instanceof BuiltinError) return 'undefined';
    throw error;
  }
};
