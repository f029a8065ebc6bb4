import { readFileSync } from 'node:fs';
import { type BuiltinContext, BuiltinError, type Builtins } from '../../../../services/pdp/policy/engine/builtin.ts';
import { writeGoJson } from '../../../../services/pdp/policy/engine/go-json.ts';
import { parseValue } from '../../../../services/pdp/policy/engine/value-text.ts';

/**
 * Calls of built-ins with what `opa eval` 1.22.2 answered: for each built-in, rows of arguments and the result. All are
 * places in `texts`, which are JSON; a result of `null` is undefined.
 */
interface Cases {
  readonly texts: readonly string[];
  readonly cases: Readonly<Record<string, readonly (readonly (number | null)[])[]>>;
}

/** 25 November 2026, 08:40 UTC: when the cases were recorded, with certificates that are valid then, and some not. */
export const context: BuiltinContext = {
  nowNs: 1_795_596_000_000_000_000n,
  randomBytes: (length) => new Uint8Array(length),
  spend: () => undefined,
};

/** The result as JSON, or `undefined`. */
export const call = (builtins: Builtins, name: string, ...args: readonly string[]): string | undefined => {
  try {
    const result = builtins[name]!(context, ...args.map((text) => parseValue(text)));
    return result === undefined ? undefined : writeGoJson(result);
  } catch (cause) {
    if (cause instanceof BuiltinError) return undefined;
    throw cause;
  }
};

/** One test for each built-in in the file. */
export const testCases = (builtins: Builtins, file: string): void => {
  const { texts, cases } = JSON.parse(readFileSync(new URL(file, import.meta.url), 'utf8')) as Cases;
  test.each(Object.entries(cases))('%s answers as OPA does', (name, rows) => {
    const wrong = rows
      .map((row) => {
        const args = row.slice(0, -1).map((place) => texts[place ?? 0] ?? '');
        const last = row.at(-1);
        const expected = typeof last === 'number' ? texts[last] : undefined;
        return { args, expected, answered: call(builtins, name, ...args) };
      })
      .filter(({ expected, answered }) => expected !== answered);
    expect(wrong).toEqual([]);
    expect(rows.length).toBeGreaterThan(0);
  });
};
