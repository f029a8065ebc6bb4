import type { Outcome } from '../../../scripts/conformance/engines.ts';
import { judge, judgeTopdown, type Strictness } from '../../../scripts/conformance/judge.ts';
import { OPEN_CASES } from '../../../scripts/conformance/open-cases.ts';
import type { CompiledCase } from '../../../scripts/conformance/oracle.ts';
import { parseValue } from '../../../services/pdp/policy/engine/value-text.ts';

const caseOf = (expectation: Partial<CompiledCase>): CompiledCase => ({
  set: 'v1',
  index: 0,
  area: 'area',
  note: 'note',
  data: '{}',
  ...expectation,
});

const rows = (text: string): Outcome => ({ kind: 'rows', rows: parseValue(text) });
const error = (message: string): Outcome => ({ kind: 'error', message });

const kindOf = (expectation: Partial<CompiledCase>, outcome: Outcome, strictness?: Strictness): string =>
  judge(caseOf(expectation), outcome, strictness).kind;

describe('rows', () => {
  it.each([
    ['the rows in another order', '{{"x":1},{"x":2}}', '{{"x":2},{"x":1}}', 'passed'],
    ['the rows in an array', '{{"x":1}}', '[{"x":1}]', 'passed'],
    ['a number that is written otherwise', '{{"x":1}}', '{{"x":1.0}}', 'passed'],
    ['a number that a double cannot tell', '{{"x":9007199254740993}}', '{{"x":9007199254740992}}', 'failed'],
    ['a set where JSON has an array', '{{"x":[1,2]}}', '{{"x":{2,1}}}', 'passed'],
    ['an array in another order', '{{"x":[1,2]}}', '{{"x":[2,1]}}', 'failed'],
    ['a key that is no text', '{{"x":{"1":2}}}', '{{"x":{1:2}}}', 'passed'],
    ['one row too many', '{{"x":1}}', '{{"x":1},{"x":2}}', 'failed'],
    ['no row', '{{"x":1}}', 'set()', 'failed'],
    ['no row where none is expected', 'set()', 'set()', 'passed'],
  ])('judges %s', (_, wantResult, given, kind) => {
    expect(kindOf({ wantResult }, rows(given))).toBe(kind);
  });

  it('take any order at the top of a binding where the case says so, and nowhere below', () => {
    const wantResult = '{{"x":[[1,2],3]}}';
    expect(kindOf({ wantResult: '{{"x":[1,2]}}', sortBindings: true }, rows('{{"x":[2,1]}}'))).toBe('passed');
    expect(kindOf({ wantResult, sortBindings: true }, rows('{{"x":[[2,1],3]}}'))).toBe('failed');
    expect(kindOf({ wantResult }, rows('{{"x":[3,[2,1]]}}'), { anyOrder: true })).toBe('passed');
  });

  it('of an asset are compared as doubles', () => {
    const wantResult = '{{"x":0.6666666666666666}}';
    expect(kindOf({ wantResult, set: 'assets' }, rows('{{"x":0.666666666666666667}}'))).toBe('passed');
    expect(kindOf({ wantResult }, rows('{{"x":0.666666666666666667}}'))).toBe('failed');
  });

  it('must be there, or not, where a case says only that', () => {
    expect(kindOf({ wantDefined: true }, rows('{{}}'))).toBe('passed');
    expect(kindOf({ wantDefined: true }, rows('set()'))).toBe('failed');
    expect(kindOf({ wantDefined: false }, rows('{{}}'))).toBe('failed');
  });
});

describe('errors', () => {
  it.each([
    ['eval_conflict_error', 'module-0.rego:3:1: var assignment conflict', 'passed'],
    ['eval_conflict_error', 'module-0.rego:3:1: object insert conflict', 'passed'],
    ['eval_conflict_error', 'unreachable', 'failed'],
    ['module0.rego:3:1: var assignment conflict', 'module0.rego:4:1: var assignment conflict', 'failed'],
  ])('%s against %s', (wantError, message, kind) => {
    expect(kindOf({ wantError }, error(message))).toBe(kind);
  });

  it('of the strict mode are no rows, and no error', () => {
    const expectation = { wantError: 'eval_builtin_error', strictError: true };
    expect(kindOf(expectation, rows('set()'))).toBe('passed');
    expect(kindOf(expectation, rows('{{"x":1}}'))).toBe('failed');
    expect(kindOf(expectation, error('a built-in failed'))).toBe('failed');
  });

  it('are wrong where rows are expected, and rows where an error is', () => {
    expect(kindOf({ wantResult: 'set()' }, error('conflict'))).toBe('failed');
    expect(kindOf({ wantError: 'eval_conflict_error' }, rows('set()'))).toBe('failed');
  });
});

it('a refused module is neither passed nor failed, even where nothing is expected', () => {
  const outcome: Outcome = { kind: 'refused', message: 'http.send' };
  expect(judge(caseOf({ wantResult: 'set()' }), outcome)).toEqual({ kind: 'refused', reason: 'http.send' });
});

it('the interpreter may fail only where an error is expected of it', () => {
  expect(judgeTopdown(caseOf({ wantError: 'eval_conflict_error', topdownError: 'conflict' })).kind).toBe('passed');
  expect(judgeTopdown(caseOf({ wantResult: 'set()', topdownError: 'conflict' })).kind).toBe('failed');
});

it('names 21 open cases', () => {
  expect(OPEN_CASES.size).toBe(21);
});
