import type { CompiledCase } from './oracle.ts';

export const nameOf = ({ set, area, note }: Pick<CompiledCase, 'set' | 'area' | 'note'>): string =>
  `${set}/${area}: ${note}`;

const INDEX = 'the module compares a key that is a number with the texts that data have as keys';
const EXPONENT = 'the module reads JSON itself and knows no limit of exponents';
const PARSER = 'rego.parse_module needs a parser of Rego: a policy that calls it is refused';
const NO_WAIT = 'a decision waits for no network: a policy that calls http.send is refused';
const NO_RESOLVER = 'a decision waits for no network: a policy that calls net.lookup_ip_addr is refused';

const inBoth = (area: string, notes: readonly string[], reason: string): (readonly [string, string])[] =>
  (['v0', 'v1'] as const).flatMap((set) => notes.map((note) => [nameOf({ set, area, note }), reason] as const));

/** The cases that do not pass, each with why not: the first seven run into code inside the module. */
export const OPEN_CASES: ReadonlyMap<string, string> = new Map([
  ...inBoth('dataderef', ['data/toplevel integer', 'data/nested integer'], INDEX),
  ...[
    'jsonbuiltins/unmarshal number beyond the supported exponent is undefined',
    'jsonbuiltins/unmarshal number with too big an exponent is undefined',
  ].map((note) => [nameOf({ set: 'v1', area: 'jsonbuiltins', note }), EXPONENT] as const),
  [
    nameOf({
      set: 'v1',
      area: 'strings',
      note: 'strings/format_int: bignum exact (>64-bit integer, all bases + negative)',
    }),
    'the module formats integers of 64 bits at most',
  ],
  ...inBoth('regoparsemodule', ['regoparsemodule/ok', 'regoparsemodule/error'], PARSER),
  ...inBoth('invalidkeyerror', ['invalidkeyerror/invalid keys', 'invalidkeyerror/missing keys'], NO_WAIT),
  ...inBoth(
    'netlookupipaddr',
    ['simple ip4 returns that ip4', 'simple ip6 returns that ip6', 'localhost'].map((n) => `net.lookup_ip_addr/${n}`),
    NO_RESOLVER,
  ),
]);
