import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { checkPolicies, warnOfPolicies } from '../../services/cli/commands/policy-opa.ts';
import { createRunOpa, type RunOpa } from '../../services/cli/opa-binary.ts';

let folder: string;
let opa: RunOpa;
beforeAll(async () => {
  opa = await createRunOpa();
});
beforeEach(async () => {
  folder = await mkdtemp(path.join(os.tmpdir(), 'edict-warnings-'));
  await mkdir(path.join(folder, 'schemas'));
  const schema = {
    type: 'object',
    properties: {
      list: { type: 'array' },
      map: { type: 'object' },
      text: { type: 'string' },
      n: { type: 'number' },
      time: { type: 'object', properties: { ns: { type: 'integer' } } },
    },
  };
  await writeFile(path.join(folder, 'schemas', 'input.json'), JSON.stringify(schema));
  await writeFile(path.join(folder, 'data.json'), '{"base": {"list": [1, 2], "map": {"1": "one", "2": "two"}}}');
});
afterEach(() => rm(folder, { recursive: true, force: true }));

const PARTS = `
names contains name if some name in ["a", "b"]

partial[key] := 1 if some key in ["a", "b"]

listed := [name | some name in ["a", "b"]]

made(x) := {x, 1}
`;

/** Warnings of an expression in a rule of package `t`, as `id`, or `id?` where it depends on values. */
const warningsOf = async (expression: string, body = ''): Promise<readonly string[]> => {
  const lines = `package t\n\nimport data.lib\nimport data.lib as json_lib\n${PARTS}\nr := ${expression}${body}\n`;
  await writeFile(path.join(folder, 't.rego'), lines);
  await writeFile(
    path.join(folder, 'lib.rego'),
    'package lib\n\nall contains x if some x in [1, 2]\n\nfloor(x) := x\n',
  );
  const problems = await checkPolicies(opa, folder);
  // What a test of a file says beside it is of no matter here.
  expect(problems.filter((problem) => !/unused/.test(problem))).toEqual([]);
  const warnings = await warnOfPolicies(opa, folder);
  return warnings.map(({ id, certain }) => `${id}${certain ? '' : '?'}`);
};

describe('what edict policy check warns of', () => {
  it.each<[expression: string, warnings: readonly string[]]>([
    // The order of sets and objects.
    ['[x | some x in {"a", "b"}]', ['set-order']],
    ['[x | some x in names]', ['set-order']],
    ['[x | some x, _ in partial]', ['set-order']],
    ['[x | x := names[_]]', ['set-order']],
    ['[x | names[x]]', ['set-order']],
    ['[v | some k; v := partial[k]]', ['set-order']],
    ['[x | some x in data.t.names]', ['set-order']],
    ['[x | some x in lib.all]', ['set-order']],
    ['[x | some x in json_lib.all]', ['set-order']],
    ['[x | some x in made(3)]', ['set-order']],
    ['[x | some x in object.keys(input.map)]', ['set-order']],
    ['[x | some x in input.map]', ['set-order']],
    ['[x | some x in data.base.map]', ['set-order']],
    ['[x | walk(input.map, [_, x])]', ['set-order']],
    ['[x | some x in names | {"c"}]', ['set-order']],
    ['[x | some x in names - {"a"}]', ['set-order']],
    ['[[y | some y in names] | some x in [1, 2]]', ['set-order']],
    ['{"k": [x | some x in names]}', ['set-order']],
    ['concat(",", names)', ['set-order']],
    ['concat(",", {"a", "b"})', ['set-order']],
    ['[x | some x in input.other]', ['set-order?']],
    ['concat(",", input.other)', ['set-order?']],
    ['[x | some x in listed]', []],
    ['[x | some x in ["b", "a"]]', []],
    ['[x | some x in input.list]', []],
    ['[x | some x in data.base.list]', []],
    ['[x | some x in {"a"}]', []],
    ['[1 | some x in names]', []],
    ['[x | x := 1]', []],
    ['[v | some k in ["a"]; v := input.other[k]]', []],
    ['{x | some x in names}', []],
    ['count([x | some x in names])', []],
    ['sort([x | some x in names])', []],
    ['concat(",", listed)', []],
    ['concat(",", ["a", input.text])', []],
    ['concat(",", sort(names))', []],
    // The last digits.
    ['1 / 3', ['last-digits']],
    ['input.n / 60', ['last-digits']],
    ['input.n / 0.3', ['last-digits']],
    ['input.n / input.n', ['last-digits?']],
    ['round(input.n / 3)', ['last-digits?']],
    ['round((input.n / 3) + 1)', ['last-digits?']],
    ['input.n / 10', []],
    ['input.n / 0.25', []],
    ['6 / 3', []],
    // Integers.
    ['format_int(2147483648, 10)', ['large-format-int']],
    ['format_int(time.now_ns(), 10)', ['large-format-int']],
    ['format_int(input.time.ns, 10)', ['large-format-int']],
    ['format_int(input.n, 10)', ['large-format-int?']],
    ['format_int(2147483647, 10)', []],
    ['format_int(count(names) + 1, 10)', []],
    ['format_int(input.n % 100, 10)', []],
    ['[t | some i, _ in input.list; t := format_int(i, 10)]', []],
    ['substring("abc", 1.0, 1)', ['fraction-index']],
    ['array.slice([1, 2], 0, 1e0)', ['fraction-index']],
    ['bits.or(input.n, 1)', ['fraction-index?']],
    ['substring("abc", 1, -1)', []],
    ['substring("abc", 1.5, 1)', []],
    ['substring(input.text, indexof(input.text, "a"), input.n + 1)', []],
    ['floor(-0.5)', ['floor-ceil']],
    ['ceil(input.n)', ['floor-ceil?']],
    ['floor(1.5)', []],
    ['floor(-2)', []],
    ['ceil(count(names))', []],
    ['lib.floor(-0.5)', []],
    // Texts.
    ['replace(input.text, "", "x")', ['replace-empty']],
    ['replace("a", input.text, "x")', ['replace-empty?']],
    ['replace(input.text, "a", "")', []],
    ['indexof(input.text, "")', ['indexof-empty']],
    ['indexof("a", input.text)', ['indexof-empty?']],
    ['json.marshal("<")', ['json-escapes']],
    ['json.marshal(names)', ['json-escapes?', 'set-order']],
    ['json.marshal(input.text)', ['json-escapes?']],
    ['json.marshal("a")', []],
    ['json.marshal(input.n)', []],
    ['json.unmarshal("[1,]")', ['lenient-json']],
    ['json.is_valid(input.text)', ['lenient-json?']],
    ['json.unmarshal("[1]")', []],
    ['base64.decode("YQ")', ['lenient-base64']],
    ['base64url.decode("YQ=")', ['lenient-base64']],
    ['base64.decode(input.text)', ['lenient-base64?']],
    ['base64.decode("YQ==")', []],
    ['base64url.decode("YQ")', []],
    // Keys of data.
    ['data.base.map[1]', ['number-keys']],
    ['data.base.list["1"]', ['number-keys']],
    ['data.pushed[1]', ['number-keys?']],
    ['data.base.list[1]', []],
    ['data.base.map["1"]', []],
    ['data.t.listed[1]', []],
    ['input.list[1]', []],
  ])('%s: %j', async (expression, warnings) => {
    expect(await warningsOf(expression)).toEqual(warnings);
  });

  it('follows variables to what they are, and to where they go', async () => {
    expect(await warningsOf('xs', ' if {\n\tall := names\n\txs := [x | some x in all]\n}')).toEqual(['set-order']);
    expect(await warningsOf('max(xs)', ' if {\n\txs := [x | some x in names]\n\tcount(xs) > 1\n}')).toEqual([]);
    expect(await warningsOf('1', ' if {\n\tevery x in [y | some y in names] {\n\t\tx != "c"\n\t}\n}')).toEqual([]);
    expect(await warningsOf('1', ' if {\n\tfalse\n} else := floor(-0.5)')).toEqual(['floor-ceil']);
    expect(await warningsOf('$"a {1 / 3}"')).toEqual(['last-digits']);
  });

  it('says where, and leaves tests out', async () => {
    await writeFile(path.join(folder, 'a.rego'), 'package a\n\np if {\n\tinput.n == 1 / 3\n}\n');
    await writeFile(path.join(folder, 'a_test.rego'), 'package a_test\n\ntest_p if 1 / 3 == 1\n');
    expect(await warnOfPolicies(opa, folder)).toEqual([
      { id: 'last-digits', certain: true, file: 'a.rego', row: 4, col: 13, what: 'Last digits of numbers' },
    ]);
  });
});
