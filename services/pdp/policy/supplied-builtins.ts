/**
 * The built-ins that the host gives to a policy module, beside those that OPA compiles into it. `regex.split` is left
 * out though the SDK has it: it runs on the backtracking engine of JavaScript, which a hostile text can stall.
 */
export const SUPPLIED_BUILTINS: ReadonlySet<string> = new Set([
  'json.is_valid',
  'sprintf',
  'yaml.is_valid',
  'yaml.marshal',
  'yaml.unmarshal',
]);
