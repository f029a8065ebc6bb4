import type { Builtins } from './engine/builtin.ts';

/** The built-ins that the host gives to a policy module, beside those that OPA compiles into it. */
export const SUPPLIED: Builtins = {};

export const SUPPLIED_BUILTINS: ReadonlySet<string> = new Set(Object.keys(SUPPLIED));
