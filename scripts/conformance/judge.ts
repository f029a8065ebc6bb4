import { parseValue, printValue } from '../../services/pdp/policy/engine/value-text.ts';
import {
  compareValues,
  isArray,
  numberOf,
  numberText,
  RegoNumber,
  RegoObject,
  RegoSet,
  type Value,
} from '../../services/pdp/policy/engine/value.ts';
import type { Outcome } from './engines.ts';
import type { CompiledCase } from './oracle.ts';

/** What became of a case. `reason` says why it did not pass. */
export type Verdict = { readonly kind: 'passed' } | { readonly kind: 'failed' | 'refused'; readonly reason: string };

/** How exactly an answer must be the expected one. */
export interface Strictness {
  /** Arrays in any order: an engine that turns sets into arrays cannot do better. */
  readonly anyOrder?: boolean;
}

const PASSED: Verdict = { kind: 'passed' };
const REASON_CHARS = 300;

const failed = (reason: string): Verdict => ({ kind: 'failed', reason: reason.slice(0, REASON_CHARS) });

/** The texts that a compiled policy has for OPA's `eval_conflict_error`. */
const CONFLICTS = ['var assignment conflict', 'object insert conflict'];

const sorted = (items: readonly Value[]): readonly Value[] => [...items].sort(compareValues);

interface Form {
  readonly anyOrder: boolean;
  /** Numbers as doubles. */
  readonly doubles: boolean;
}

/** As OPA's own runner compares: by way of JSON, with sets as sorted arrays and keys as texts. */
const jsonForm = (value: Value, form: Form): Value => {
  if (value instanceof RegoNumber || typeof value === 'number')
    return form.doubles ? numberOf(String(Number(numberText(value)))) : value;
  if (value instanceof RegoSet) return sorted(value.items.map((item) => jsonForm(item, form)));
  if (value instanceof RegoObject) {
    return RegoObject.of(
      value.entries.map(([key, member]) => [
        typeof key === 'string' ? key : printValue(jsonForm(key, form)),
        jsonForm(member, form),
      ]),
    );
  }
  if (value === null || typeof value !== 'object' || !isArray(value)) return value;
  const items = value.map((item) => jsonForm(item, form));
  return form.anyOrder ? sorted(items) : items;
};

/** A result set is a set in Rego's text, an array in JSON. */
export const rowsOf = (value: Value): readonly Value[] => {
  if (value instanceof RegoSet) return value.items;
  if (value !== null && typeof value === 'object' && isArray(value)) return value;
  throw new TypeError('rows expected');
};

const withSortedBindings = (row: Value): Value =>
  row instanceof RegoObject
    ? RegoObject.of(
        row.entries.map(([name, value]) => [
          name,
          value !== null && typeof value === 'object' && isArray(value) ? sorted(value) : value,
        ]),
      )
    : row;

const judgeRows = (test: CompiledCase, rows: readonly Value[], strictness: Strictness): Verdict => {
  if (test.wantDefined !== undefined) {
    return test.wantDefined === rows.length > 0 ? PASSED : failed(`${rows.length} rows`);
  }
  if (test.wantResult === undefined) {
    if (test.strictError !== true) return failed(`an error expected: ${test.wantError ?? ''}`);
    return rows.length === 0 ? PASSED : failed(`expected nothing, got ${printValue(rows)}`);
  }
  // The runner of the assets reads both sides with JSON.parse, and expects the members of sets in the order of hashes.
  const isAsset = test.set === 'assets';
  const form = { anyOrder: isAsset || strictness.anyOrder === true, doubles: isAsset };
  const wanted = RegoSet.of(rowsOf(parseValue(test.wantResult)).map((row) => jsonForm(row, form)));
  const given = RegoSet.of(
    rows.map((row) => jsonForm(row, form)).map((row) => (test.sortBindings === true ? withSortedBindings(row) : row)),
  );
  return compareValues(wanted, given) === 0
    ? PASSED
    : failed(`expected ${printValue(wanted)}, got ${printValue(given)}`);
};

const judgeError = (test: CompiledCase, message: string): Verdict => {
  const { wantError, strictError } = test;
  if (wantError === undefined || strictError === true) return failed(message);
  const texts = wantError === 'eval_conflict_error' ? CONFLICTS : [wantError];
  return texts.some((text) => message.includes(text)) ? PASSED : failed(`expected ${wantError}, got ${message}`);
};

/** Judges as OPA's runner of compiled policies does (internal/wasm/sdk/test/e2e), that of the assets for those. */
export const judge = (test: CompiledCase, outcome: Outcome, strictness: Strictness = {}): Verdict => {
  switch (outcome.kind) {
    case 'refused':
      return { kind: 'refused', reason: outcome.message };
    case 'error':
      return judgeError(test, outcome.message);
    case 'rows':
      return judgeRows(test, rowsOf(outcome.rows), strictness);
    default:
      return outcome satisfies never;
  }
};

/** Judges what the interpreter said, so that a case that even OPA does not pass is seen. */
export const judgeTopdown = (test: CompiledCase): Verdict => {
  const { topdown, topdownError } = test;
  if (topdown !== undefined) return judge(test, { kind: 'rows', rows: parseValue(topdown) });
  const expected = test.strictError !== true && test.wantError !== undefined;
  return expected ? PASSED : failed(topdownError ?? 'no answer');
};
