import { BuiltinHalt } from '../../../../services/pdp/policy/engine/builtin.ts';
import { jsonSchemaBuiltins } from '../../../../services/pdp/policy/engine/json-schema.ts';
import { cases } from './json-schema-cases.ts';
import { printedAnswerOf } from './call-builtin.ts';

const call = (name: string, args: string): string => printedAnswerOf(jsonSchemaBuiltins, name, args);

/** As OPA 1.22.2 evaluates them. */
describe('JSON schema built-ins', () => {
  it.each(cases)('%s(%s) is %s', (name, args, result) => {
    expect(call(name, args)).toBe(result);
  });

  it('fetches no schema from elsewhere', () => {
    expect(call('json.verify_schema', '{"$ref": "http://127.0.0.1/schema.json"}')).toContain('[false,');
    expect(call('json.match_schema', '{}, {"$ref": "file:///etc/passwd"}')).toBe('undefined');
  });

  it.each([
    ['{"pattern": "^(a+)+$"}', `${'a'.repeat(20_000)}!`],
    ['{"format": "email"}', `${'a  '.repeat(20_000)}(`],
    ['{"format": "uri-template"}', '{'.repeat(20_000)],
    ['{"format": "hostname"}', 'a-'.repeat(20_000)],
  ])('refuses a text that is made to backtrack, in linear time: %s', (schema, text) => {
    const args = `{"a": "${text}"}, {"properties": {"a": ${schema}}}`;
    expect(call('json.match_schema', args)).toContain('[false,');
  });

  it.each([
    ['names itself without end', '{}', '{"$ref": "#"}'],
    [
      'takes exponential time',
      '{"a": '.repeat(40) + '1' + '}'.repeat(40),
      '{"properties": {"a": {"anyOf": [{"$ref": "#"}, {"$ref": "#"}]}}, "required": ["b"]}',
    ],
    ['divides by a number of too many digits', '{"a": 1}', '{"properties": {"a": {"multipleOf": 1e-100000}}}'],
  ])('fails the decision over a schema that %s', (_, document, schema) => {
    expect(() => call('json.match_schema', `${document}, ${schema}`)).toThrow(BuiltinHalt);
  });
});
