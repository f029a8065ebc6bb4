import type { Builtins } from './engine/builtin.ts';
import { encodingBuiltins } from './engine/encoding.ts';
import { numberBuiltins } from './engine/numbers.ts';
import { regexBuiltins } from './engine/regex.ts';
import { sprintfBuiltins } from './engine/sprintf.ts';
import { stringBuiltins } from './engine/strings.ts';
import { timeBuiltins } from './engine/time.ts';
import { uriBuiltins } from './engine/uri.ts';
import { yamlBuiltins } from './engine/yaml.ts';

/** The built-ins that the host gives to a policy module, beside those that OPA compiles into it. */
export const SUPPLIED: Builtins = {
  ...encodingBuiltins,
  ...numberBuiltins,
  ...regexBuiltins,
  ...sprintfBuiltins,
  ...stringBuiltins,
  ...timeBuiltins,
  ...uriBuiltins,
  ...yamlBuiltins,
};

export const SUPPLIED_BUILTINS: ReadonlySet<string> = new Set(Object.keys(SUPPLIED));
