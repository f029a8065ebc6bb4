import type { DifferenceId } from '../../services/cli/wasm-differences.ts';
import type { Builtins } from '../../services/pdp/policy/engine/builtin.ts';
import { printValue } from '../../services/pdp/policy/engine/value-text.ts';
import {
  compareValues,
  isArray,
  numberText,
  RegoNumber,
  RegoObject,
  RegoSet,
  type Value,
} from '../../services/pdp/policy/engine/value.ts';
import type { Oracle } from '../conformance/oracle.ts';
import type { Answer } from '../conformance/probes/compare.ts';
import { answerText, engineOf, oracleAnswer, ownAnswer } from '../conformance/probes/run.ts';
import { sourceOf, type FuzzCase } from './policy.ts';

/** `documented`: only in what compiled policies are known to do otherwise. `skipped`: it does not compile or load. */
export type Comparison =
  | { readonly kind: 'same' | 'skipped' }
  | { readonly kind: 'documented'; readonly by: readonly DifferenceId[] }
  | { readonly kind: 'different'; readonly wanted: string; readonly given: string };

/** How far apart the two sides may be: `last-digits`. */
const RELATIVE = 1e-15;

const isNumber = (value: Value): value is number | RegoNumber =>
  typeof value === 'number' || value instanceof RegoNumber;

/** What stood between two values that are equal but for it. */
type Found = Set<DifferenceId>;

const isClose = (a: number | RegoNumber, b: number | RegoNumber, found: Found): boolean => {
  if (compareValues(a, b) === 0) return true;
  const [x, y] = [Number(numberText(a)), Number(numberText(b))];
  if (x !== y && Math.abs(x - y) > RELATIVE * Math.max(Math.abs(x), Math.abs(y))) return false;
  found.add('last-digits');
  return true;
};

const sorted = (items: readonly Value[]): readonly Value[] => [...items].sort(compareValues);

/** A text made of a set or an object, such as its JSON, has its members in the order of their hashes. */
const isReordered = (a: string, b: string, found: Found): boolean => {
  if (a === b) return true;
  if (a.length !== b.length || Array.from(a).sort().join('') !== Array.from(b).sort().join('')) return false;
  found.add('set-order');
  return true;
};

/** Equal but for the order in arrays and in texts, and for the last digits of numbers. */
const isLoosely = (a: Value, b: Value, found: Found): boolean => {
  if (typeof a === 'string' && typeof b === 'string') return isReordered(a, b, found);
  if (isNumber(a) && isNumber(b)) return isClose(a, b, found);
  if (a instanceof RegoSet && b instanceof RegoSet) return areLoosely(a.items, b.items, found);
  if (a instanceof RegoObject && b instanceof RegoObject)
    return areLoosely(
      a.entries.map(([key, value]) => [key, value]),
      b.entries.map(([key, value]) => [key, value]),
      found,
    );
  if (a !== null && b !== null && typeof a === 'object' && typeof b === 'object' && isArray(a) && isArray(b))
    return areLoosely(a, b, found);
  return compareValues(a, b) === 0;
};

const areLoosely = (a: readonly Value[], b: readonly Value[], found: Found): boolean => {
  if (a.length !== b.length) return false;
  const inPlace: Found = new Set();
  if (a.every((item, index) => isLoosely(item, b[index] ?? null, inPlace))) {
    for (const id of inPlace) found.add(id);
    return true;
  }
  const [x, y] = [sorted(a), sorted(b)];
  found.add('set-order');
  return x.every((item, index) => isLoosely(item, y[index] ?? null, found));
};

/** Faults of the code inside of OPA's modules, which no host can mend, by what they say. */
const FAULTS_OF_MODULES: readonly (readonly [DifferenceId, RegExp])[] = [
  ['large-format-int', /^strings: get uint failed/],
  ['conflict-order', /conflict$/],
];
const ENDLESS_CALL = 'replace(';
const OUT_OF_FUEL = /more steps than it may/;

const faultOfModules = (message: string, source: string): DifferenceId | undefined =>
  OUT_OF_FUEL.test(message) && source.includes(ENDLESS_CALL)
    ? 'replace-empty'
    : FAULTS_OF_MODULES.find(([, says]) => says.test(message))?.[0];

/** What the generated policies stay away from, since an answer does not tell it from a fault of ours (see policy.ts). */
export const NOT_GENERATED: readonly DifferenceId[] = [
  'fraction-index',
  'floor-ceil',
  'json-escapes',
  'lenient-json',
  'lenient-base64',
  'indexof-empty',
  'number-keys',
];

const compareAnswers = (wanted: Answer, given: Answer, source: string): Comparison => {
  const fault = given.kind === 'error' ? faultOfModules(given.message, source) : undefined;
  if (fault !== undefined) return { kind: 'documented', by: [fault] };
  if (wanted.kind === 'value' && given.kind === 'value') {
    if (compareValues(wanted.value, given.value) === 0) return { kind: 'same' };
    const found: Found = new Set();
    if (isLoosely(wanted.value, given.value, found)) return { kind: 'documented', by: [...found] };
  } else if (wanted.kind === given.kind) return { kind: 'same' };
  return { kind: 'different', wanted: answerText(wanted), given: answerText(given) };
};

/** Evaluates one policy in the interpreter, and compiled on our host. */
export const compareOn = async (
  oracle: Oracle,
  builtins: Builtins,
  { rules, data, input }: FuzzCase,
): Promise<Comparison> => {
  const source = sourceOf(rules);
  const dataText = printValue(data);
  const inputText = printValue(input);
  const answer = await oracle.ask({
    query: 'x = data.t',
    modules: [source],
    input: inputText,
    data: dataText,
    nowNs: '1700000000000000000',
    wasm: true,
  });
  if (answer.stage === 'compile' || answer.stage === 'parse' || answer.stage === 'crash') return { kind: 'skipped' };
  const engine = await engineOf(answer.wasm, builtins, dataText);
  if ('refused' in engine) return { kind: 'skipped' };
  return compareAnswers(oracleAnswer(answer), ownAnswer(engine, inputText), source);
};

/** The values that are one step smaller. */
const smallerValues = function* (value: Value): Generator<Value> {
  if (value === null) return;
  if (value instanceof RegoObject) {
    for (const [at, [key, member]] of value.entries.entries()) {
      yield RegoObject.of(value.entries.filter((_, index) => index !== at));
      for (const smaller of smallerValues(member))
        yield RegoObject.of(value.entries.map((entry, index) => (index === at ? ([key, smaller] as const) : entry)));
    }
  } else if (value instanceof RegoSet) {
    for (const at of value.items.keys()) yield RegoSet.of(value.items.filter((_, index) => index !== at));
  } else if (typeof value === 'object' && !(value instanceof RegoNumber)) {
    for (const [at, item] of value.entries()) {
      yield value.filter((_, index) => index !== at);
      for (const smaller of smallerValues(item)) yield value.map((other, index) => (index === at ? smaller : other));
    }
  }
};

const smallerCases = function* (test: FuzzCase): Generator<FuzzCase> {
  const { rules, data, input } = test;
  for (const at of rules.keys()) yield { ...test, rules: rules.filter((_, index) => index !== at) };
  for (const [at, rule] of rules.entries()) {
    for (const line of rule.body.keys()) {
      const body = rule.body.filter((_, index) => index !== line);
      if (body.length === 0 && !rule.head.includes(':=')) continue;
      yield { ...test, rules: rules.map((other, index) => (index === at ? { ...rule, body } : other)) };
    }
  }
  for (const smaller of smallerValues(input)) yield { ...test, input: smaller };
  for (const smaller of smallerValues(data)) yield { ...test, data: smaller };
};

/** More would cost minutes for a few characters less. */
const MOST_TRIES = 400;

/** Takes away what the difference does not need. */
export const shrink = async (test: FuzzCase, isDifferent: (test: FuzzCase) => Promise<boolean>): Promise<FuzzCase> => {
  let smallest = test;
  let tries = 0;
  for (let found = true; found;) {
    found = false;
    for (const candidate of smallerCases(smallest)) {
      tries += 1;
      if (tries > MOST_TRIES) return smallest;
      if (await isDifferent(candidate)) {
        smallest = candidate;
        found = true;
        break;
      }
    }
  }
  return smallest;
};
