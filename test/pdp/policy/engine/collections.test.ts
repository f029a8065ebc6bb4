import fc from 'fast-check';
import { BuiltinHalt } from '../../../../services/pdp/policy/engine/builtin.ts';
import { collectionBuiltins } from '../../../../services/pdp/policy/engine/collections.ts';
import { answerOf } from './call-builtin.ts';

const answer = (name: string, ...args: string[]) => answerOf(collectionBuiltins, name, args);

describe('built-ins on collections', () => {
  // What OPA 1.22.2 answers.
  it.each([
    ['object.subset', ['{"a": {"b": [1, 2, 3]}, "c": 1}', '{"a": {"b": [2, 3]}}'], 'true'],
    ['object.subset', ['{"a": {1, 2}}', '{"a": {1.0}}'], 'true'],
    ['object.subset', ['{"a": 1}', '{"b": 1}'], 'false'],
    ['object.subset', ['[1, 1, 2]', '[1, 2]'], 'true'],
    ['object.subset', ['[1, 2, 1]', '{1, 2}'], 'true'],
    ['object.subset', ['[1, 1]', '{1, 2}'], 'true'],
    ['object.subset', ['[]', 'set()'], 'false'],
    ['object.subset', ['{1}', '[1]'], 'undefined'],
    ['graph.reachable_paths', ['{"a": ["b", "c"], "b": [], "c": {"a"}}', '{"a"}'], '{["a", "b"], ["a", "c"]}'],
    ['graph.reachable_paths', ['{"a": ["a"]}', '["a"]'], '{["a", "a"]}'],
    ['graph.reachable_paths', ['{"a": ["x"], "b": null}', '["a", "b", "y"]'], '{["a"], ["b"]}'],
    ['graph.reachable_paths', ['[]', '[]'], 'undefined'],
    ['cast_array', ['{2, 1}'], '[1, 2]'],
    ['cast_set', ['[1, 1.0]'], '{1}'],
    ['cast_string', ['1'], 'undefined'],
    ['cast_null', ['null'], 'null'],
    ['cast_boolean', ['false'], 'false'],
    ['cast_object', ['[]'], 'undefined'],
    ['opa.runtime', [], '{}'],
    ['trace', ['"note"'], 'true'],
    ['trace', ['1'], 'undefined'],
  ])('%s of %j is %s', (name, args, expected) => {
    expect(answer(name, ...args)).toBe(expected);
  });

  it('fails the evaluation at a graph with paths without number', () => {
    const nodes = Array.from({ length: 12 }, (_, i) => i);
    const graph = `{${nodes.map((node) => `${node}: ${JSON.stringify(nodes)}`).join()}}`;
    expect(() => answer('graph.reachable_paths', graph, '[0]')).toThrow(BuiltinHalt);
  });

  it('finds a part of a list in linear time', () => {
    const list = (length: number, last: string) => `[${'1,'.repeat(length)}${last}]`;
    expect(answer('object.subset', list(200_000, '1'), list(100_000, '2'))).toBe('false');
  });
});

describe('json.patch', () => {
  // What OPA 1.22.2 answers.
  it.each([
    [
      '{"a": 1}',
      '[{"op": "add", "path": "/b", "value": [1]}, {"op": "add", "path": "b/-", "value": 2}]',
      '{"a": 1, "b": [1, 2]}',
    ],
    ['{"a~/b": 1}', '[{"op": "replace", "path": "/a~0~1b", "value": 2}]', '{"a~/b": 2}'],
    ['[1, 2, 3]', '[{"op": "remove", "path": "/1"}]', '[1, 3]'],
    ['[1]', '[{"op": "add", "path": "/2", "value": 1}]', 'undefined'],
    ['[1]', '[{"op": "remove", "path": "/00"}]', 'undefined'],
    ['{"a": 1}', '[{"op": "remove", "path": "/b"}]', 'undefined'],
    ['{"a": {"b": 1}}', '[{"op": "move", "from": "/a/b", "path": "/c"}]', '{"a": {}, "c": 1}'],
    ['{"a": [1]}', '[{"op": "copy", "from": "/a", "path": "/b"}]', '{"a": [1], "b": [1]}'],
    ['{"a": 1}', '[{"op": "test", "path": "/a", "value": 1.0}]', '{"a": 1}'],
    ['{"a": 1}', '[{"op": "test", "path": "/a", "value": 2}]', 'undefined'],
    ['{"a": 1}', '[{"op": "add", "path": "", "value": 2}]', '2'],
    ['{"a": 1}', '[{"op": "remove", "path": ""}]', 'undefined'],
    [
      '{"a": {1, 2}}',
      '[{"op": "add", "path": ["a", 3], "value": 3}, {"op": "remove", "path": ["a", 1]}]',
      '{"a": {2, 3}}',
    ],
    ['{"a": {1}}', '[{"op": "add", "path": ["a", 2], "value": 3}]', 'undefined'],
    ['{{"a": 1}}', '[{"op": "add", "path": [{"a": 1}, "a"], "value": 2}]', '{{"a": 2}}'],
    ['[1]', '[{"op": "add", "path": {0}, "value": 1}]', 'undefined'],
    ['[1]', '[{"op": "x", "path": "/0"}]', 'undefined'],
    ['[1]', '[1]', 'undefined'],
    [
      '[{"v": 1}, {"v": 2}, {"v": 3}]',
      '[{"op": "remove", "path": "/0"}, {"op": "replace", "path": "/0/v", "value": 9}]',
      '[{"v": 9}, {"v": 3}]',
    ],
  ])('turns %s by %s into %s', (document, operations, expected) => {
    expect(answer('json.patch', document, operations)).toBe(expected);
  });

  it('takes back what it added', () => {
    fc.assert(
      fc.property(fc.dictionary(fc.string(), fc.jsonValue({ maxDepth: 2 })), fc.string(), (document, name) => {
        const text = JSON.stringify(document);
        const path = `/x${name.replaceAll('~', '~0').replaceAll('/', '~1')}`;
        fc.pre(!Object.hasOwn(document, `x${name}`));
        const operations = JSON.stringify([
          { op: 'add', path, value: 1 },
          { op: 'test', path, value: 1 },
          { op: 'remove', path },
        ]);
        expect(answer('json.patch', text, operations)).toBe(answer('json.patch', text, '[]'));
      }),
    );
  });

  it('fails the evaluation at a document that doubles without end', () => {
    const copies = Array.from({ length: 40 }, (_, i) => ({ op: 'copy', from: '', path: `/${i}` }));
    expect(() => answer('json.patch', '{}', JSON.stringify(copies))).toThrow(BuiltinHalt);
  });
});
