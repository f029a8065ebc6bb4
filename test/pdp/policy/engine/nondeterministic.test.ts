import { readFileSync } from 'node:fs';
import type { BuiltinContext } from '../../../../services/pdp/policy/engine/builtin.ts';
import { BUILTINS } from '../../../../services/pdp/policy/engine/builtins.ts';
import { NONDETERMINISTIC } from '../../../../services/pdp/policy/engine/nondeterministic.ts';
import { parseValue } from '../../../../services/pdp/policy/engine/value-text.ts';

/** In OPA they may fetch what a schema refers to; here nothing is fetched. */
const FETCH_NOTHING: ReadonlySet<string> = new Set(['json.match_schema', 'json.verify_schema']);
const FILES = ['./aws-cases.json', './crypto-cases.json', './jwt-cases.json', './x509-chain-cases.json'];
/** Built-ins of no such file that are given the clock or chance. */
const CALLS: readonly (readonly [name: string, ...args: readonly string[]])[] = [
  ['time.now_ns'],
  ['rand.intn', '"a"', '7'],
  ['uuid.rfc4122', '"a"'],
];

/** Which built-ins look at the clock or draw, over all calls that were recorded. */
const looking = (): ReadonlySet<string> => {
  const names = new Set<string>();
  const call = (name: string, args: readonly string[]): void => {
    const context: BuiltinContext = {
      get nowNs() {
        names.add(name);
        return 1_795_596_000_000_000_000n;
      },
      get randomBytes() {
        names.add(name);
        return (length: number) => new Uint8Array(length);
      },
      spend: () => undefined,
    };
    try {
      BUILTINS[name]!(context, ...args.map((text) => parseValue(text)));
    } catch {
      // What it gives is tested elsewhere.
    }
  };
  for (const file of FILES) {
    const { texts, cases } = JSON.parse(readFileSync(new URL(file, import.meta.url), 'utf8')) as {
      readonly texts: readonly string[];
      readonly cases: Readonly<Record<string, readonly (readonly (number | null)[])[]>>;
    };
    for (const [name, rows] of Object.entries(cases))
      for (const row of rows)
        call(
          name,
          row.slice(0, -1).map((place) => texts[place ?? 0] ?? ''),
        );
  }
  for (const [name, ...args] of CALLS) call(name, args);
  return names;
};

describe('built-ins whose values are not given by their arguments', () => {
  it('are all of those that look at the clock or draw', () => {
    const found = looking();
    expect([...found].filter((name) => !NONDETERMINISTIC.has(name))).toEqual([]);
    expect([...found]).toEqual(
      expect.arrayContaining(['time.now_ns', 'rand.intn', 'uuid.rfc4122', 'io.jwt.decode_verify']),
    );
    expect(found.size).toBeGreaterThan(4);
  });

  it('are all that OPA says so of', () => {
    const text = readFileSync(new URL('../../../../services/cli/opa-capabilities.json', import.meta.url), 'utf8');
    const { builtins } = JSON.parse(text) as { builtins: readonly { name: string; nondeterministic?: boolean }[] };
    const said = builtins.filter(({ nondeterministic }) => nondeterministic === true).map(({ name }) => name);
    expect(said.filter((name) => !NONDETERMINISTIC.has(name) && !FETCH_NOTHING.has(name))).toEqual([]);
    expect(said.length).toBeGreaterThan(3);
  });
});
