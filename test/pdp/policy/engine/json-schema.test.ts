import { BuiltinError, BuiltinHalt, type BuiltinContext } from '../../../../services/pdp/policy/engine/builtin.ts';
import { jsonSchemaBuiltins } from '../../../../services/pdp/policy/engine/json-schema.ts';
import { parseValue, printValue } from '../../../../services/pdp/policy/engine/value-text.ts';
import { isArray } from '../../../../services/pdp/policy/engine/value.ts';

const context: BuiltinContext = { nowNs: 1_700_000_000_123_456_789n, randomBytes: () => new Uint8Array() };

/** A call as the policy sees it: arguments and result in Rego's text. */
const call = (name: string, args: string): string => {
  const builtin = jsonSchemaBuiltins[name];
  const list = parseValue(`[${args}]`);
  if (builtin === undefined || list === null || typeof list !== 'object' || !isArray(list)) throw new Error(name);
  try {
    const result = builtin(context, ...list);
    return result === undefined ? 'undefined' : printValue(result);
  } catch (error) {
    if (error instanceof BuiltinError) return 'undefined';
    throw error;
  }
};

/** As OPA 1.22.2 evaluates them. */
const cases: readonly (readonly [name: string, args: string, result: string])[] = [
  ['json.verify_schema', '{}', '[true,null]'],
  ['json.verify_schema', 'true', '[false,"jsonschema: wrong type, expected string or object"]'],
  ['json.verify_schema', 'null', '[false,"jsonschema: wrong type, expected string or object"]'],
  ['json.verify_schema', '"{}"', '[true,null]'],
  ['json.verify_schema', '"true"', '[true,null]'],
  ['json.verify_schema', '"{"', '[false,"jsonschema: invalid JSON string"]'],
  ['json.verify_schema', '{"$schema": 1}', '[false,"jsonschema: $schema must be of type string"]'],
  ['json.verify_schema', '{"type": ["string", "string"]}', '[false,"jsonschema: string type is duplicated"]'],
  [
    'json.verify_schema',
    '{"type": [1]}',
    '[false,"jsonschema: Invalid type. Expected: type, given: string/Array Of Strings"]',
  ],
  ['json.verify_schema', '{"properties": 1}', '[false,"jsonschema: Properties must be of type object"]'],
  ['json.verify_schema', '{"properties": {"a": true}}', '[true,null]'],
  [
    'json.verify_schema',
    '{"additionalProperties": 1}',
    '[false,"jsonschema: Invalid type. Expected: boolean/Valid Schema, given: additionalProperties"]',
  ],
  ['json.verify_schema', '{"patternProperties": {"(": {}}}', '[false,"jsonschema: Invalid regex pattern \'(\'"]'],
  [
    'json.verify_schema',
    '{"propertyNames": 1}',
    '[false,"jsonschema: Invalid type. Expected: Valid Schema, given: patternProperties"]',
  ],
  [
    'json.verify_schema',
    '{"dependencies": {"a": 1}}',
    '[false,"jsonschema: Dependency must be of type Schema Or Array Of Strings"]',
  ],
  [
    'json.verify_schema',
    '{"items": 1}',
    '[false,"jsonschema: Invalid type. Expected: Valid Schema/Array Of Schemas, given: items"]',
  ],
  ['json.verify_schema', '{"items": [true]}', '[true,null]'],
  ['json.verify_schema', '{"multipleOf": 0}', '[false,"jsonschema: multipleOf must be strictly greater than 0"]'],
  [
    'json.verify_schema',
    '{"multipleOf": "x"}',
    '[false,"jsonschema: Invalid type. Expected: Number, given: multipleOf"]',
  ],
  ['json.verify_schema', '{"maximum": "x"}', '[false,"jsonschema: maximum must be of a Number"]'],
  ['json.verify_schema', '{"exclusiveMinimum": true, "minimum": 1}', '[true,null]'],
  [
    'json.verify_schema',
    '{"exclusiveMaximum": false}',
    '[false,"jsonschema: exclusiveMaximum cannot be used without maximum"]',
  ],
  [
    'json.verify_schema',
    '{"$schema": "http://json-schema.org/draft-06/schema#", "exclusiveMinimum": true, "minimum": 1}',
    '[false,"jsonschema: Invalid type. Expected: number, given: exclusiveMinimum"]',
  ],
  ['json.verify_schema', '{"minLength": -1}', '[false,"jsonschema: minLength must be greater than or equal to 0"]'],
  ['json.verify_schema', '{"minLength": 1.5}', '[false,"jsonschema: minLength must be of an integer"]'],
  [
    'json.verify_schema',
    '{"minLength": 3, "maxLength": 2}',
    '[false,"jsonschema: minLength cannot be greater than maxLength"]',
  ],
  ['json.verify_schema', '{"minItems": 3, "maxItems": 2}', '[true,null]'],
  ['json.verify_schema', '{"maxProperties": 1e2}', '[false,"jsonschema: maxProperties must be of an integer"]'],
  ['json.verify_schema', '{"pattern": "(?=a)"}', '[false,"jsonschema: pattern must be a valid regex"]'],
  ['json.verify_schema', '{"format": 1}', '[false,"jsonschema: Invalid type. Expected: string, given: format"]'],
  ['json.verify_schema', '{"required": 1}', '[false,"jsonschema: required must be of an array"]'],
  ['json.verify_schema', '{"required": ["a", "a"]}', '[false,"jsonschema: required items must be unique"]'],
  ['json.verify_schema', '{"uniqueItems": 1}', '[false,"jsonschema: uniqueItems must be of a boolean"]'],
  ['json.verify_schema', '{"enum": 1}', '[false,"jsonschema: enum must be of an array"]'],
  ['json.verify_schema', '{"enum": [1, 1.0]}', '[false,"jsonschema: enum items must be unique"]'],
  ['json.verify_schema', '{"oneOf": 1}', '[false,"jsonschema: oneOf must be of an array"]'],
  ['json.verify_schema', '{"anyOf": [1]}', '[false,"jsonschema: Expected: Valid Schema, given: Invalid JSON"]'],
  ['json.verify_schema', '{"not": 1}', '[false,"jsonschema: not must be of an object"]'],
  ['json.verify_schema', '{"if": 1}', '[false,"jsonschema: if must be of an object"]'],
  ['json.verify_schema', '{"else": 1}', '[false,"jsonschema: else must be of an object"]'],
  [
    'json.verify_schema',
    '{"definitions": {"a": 1}}',
    '[false,"jsonschema: Invalid type. Expected: Array Of Schemas, given: definitions"]',
  ],
  ['json.verify_schema', '{"$ref": "#"}', '[true,null]'],
  ['json.verify_schema', '{"$ref": "#/definitions/a"}', '[false,"jsonschema: Object has no key \'definitions\'"]'],
  ['json.verify_schema', '{"$ref": "#foo", "definitions": {"a": {"$id": "#foo"}}}', '[true,null]'],
  ['json.verify_schema', '{"title": 1}', '[false,"jsonschema: Invalid type. Expected: string, given: title"]'],
  ['json.verify_schema', '{"$id": 1}', '[false,"jsonschema: Invalid type. Expected: string, given: $id"]'],
  [
    'json.verify_schema',
    '{"id": "http://x.y/z", "properties": {"a": {"id": "http://x.y/z"}}}',
    String.raw`[false,"jsonschema: Reference already exists: \"http://x.y/z\""]`,
  ],
  [
    'json.verify_schema',
    '{"$id": "http://x.y/z.json", "properties": {"a": {"$ref": "#/definitions/b"}}, "definitions": {"b": {"type": "string"}}}',
    '[true,null]',
  ],
  ['json.verify_schema', '{"foo": 1}', '[true,null]'],
  ['json.verify_schema', '{"$schema": "http://json-schema.org/draft-04/schema", "$id": 1}', '[true,null]'],
  [
    'json.verify_schema',
    '{"properties": {"a": {"$ref": "#/definitions/a~1b"}}, "definitions": {"a/b": {}}}',
    '[true,null]',
  ],
  ['json.verify_schema', '{"items": [{"type": "string"}], "properties": {"a": {"$ref": "#/items/0"}}}', '[true,null]'],
  ['json.verify_schema', '{"properties": {"$ref": {"type": "string"}}}', '[true,null]'],
  ['json.verify_schema', '{"const": {"$ref": 1}}', '[true,null]'],
  ['json.verify_schema', '{"type": "integer", "minimum": 5, "exclusiveMinimum": false}', '[true,null]'],
  [
    'json.match_schema',
    '{"v": 1}, {"properties": {"v": true}, "definitions": {"x": {"type": "string", "minLength": 2}}}',
    '[true,[]]',
  ],
  [
    'json.match_schema',
    '{"v": []}, {"properties": {"v": false}, "definitions": {"x": {"type": "string", "minLength": 2}}}',
    '[false,[{"desc":"False always fails validation","error":"v: False always fails validation","field":"v","type":"false"}]]',
  ],
  [
    'json.match_schema',
    '{"v": {"b": null}}, {"properties": {"v": {}}, "definitions": {"x": {"type": "string", "minLength": 2}}}',
    '[true,[]]',
  ],
  [
    'json.match_schema',
    '{"v": "a"}, {"properties": {"v": {"type": "integer"}}, "definitions": {"x": {"type": "string", "minLength": 2}}}',
    '[false,[{"desc":"Invalid type. Expected: integer, given: string","error":"v: Invalid type. Expected: integer, given: string","field":"v","type":"invalid_type"}]]',
  ],
  [
    'json.match_schema',
    '{"v": {}}, {"properties": {"v": {"type": "number"}}, "definitions": {"x": {"type": "string", "minLength": 2}}}',
    '[false,[{"desc":"Invalid type. Expected: number, given: object","error":"v: Invalid type. Expected: number, given: object","field":"v","type":"invalid_type"}]]',
  ],
  [
    'json.match_schema',
    '{"v": -3}, {"properties": {"v": {"type": "array"}}, "definitions": {"x": {"type": "string", "minLength": 2}}}',
    '[false,[{"desc":"Invalid type. Expected: array, given: integer","error":"v: Invalid type. Expected: array, given: integer","field":"v","type":"invalid_type"}]]',
  ],
  [
    'json.match_schema',
    '{"v": [1, 1]}, {"properties": {"v": {"type": "object"}}, "definitions": {"x": {"type": "string", "minLength": 2}}}',
    '[false,[{"desc":"Invalid type. Expected: object, given: array","error":"v: Invalid type. Expected: object, given: array","field":"v","type":"invalid_type"}]]',
  ],
  [
    'json.match_schema',
    '{"v": 0}, {"properties": {"v": {"type": "null"}}, "definitions": {"x": {"type": "string", "minLength": 2}}}',
    '[false,[{"desc":"Invalid type. Expected: null, given: integer","error":"v: Invalid type. Expected: null, given: integer","field":"v","type":"invalid_type"}]]',
  ],
  [
    'json.match_schema',
    '{"v": "2"}, {"properties": {"v": {"minimum": 1}}, "definitions": {"x": {"type": "string", "minLength": 2}}}',
    '[true,[]]',
  ],
  [
    'json.match_schema',
    '{"v": {"x1": 1, "y": 2}}, {"properties": {"v": {"maximum": 1.5}}, "definitions": {"x": {"type": "string", "minLength": 2}}}',
    '[true,[]]',
  ],
  [
    'json.match_schema',
    '{"v": ""}, {"properties": {"v": {"exclusiveMinimum": 1}}, "definitions": {"x": {"type": "string", "minLength": 2}}}',
    '[true,[]]',
  ],
  [
    'json.match_schema',
    '{"v": [[1], [1]]}, {"properties": {"v": {"maximum": 7, "exclusiveMaximum": true}}, "definitions": {"x": {"type": "string", "minLength": 2}}}',
    '[true,[]]',
  ],
  [
    'json.match_schema',
    '{"v": 1.5}, {"properties": {"v": {"multipleOf": 3}}, "definitions": {"x": {"type": "string", "minLength": 2}}}',
    '[false,[{"desc":"Must be a multiple of 3","error":"v: Must be a multiple of 3","field":"v","type":"multiple_of"}]]',
  ],
  [
    'json.match_schema',
    '{"v": [1, 2]}, {"properties": {"v": {"multipleOf": 0.5}}, "definitions": {"x": {"type": "string", "minLength": 2}}}',
    '[true,[]]',
  ],
  [
    'json.match_schema',
    '{"v": true}, {"properties": {"v": {"maxLength": 1}}, "definitions": {"x": {"type": "string", "minLength": 2}}}',
    '[true,[]]',
  ],
  [
    'json.match_schema',
    '{"v": "😀"}, {"properties": {"v": {"pattern": "^a"}}, "definitions": {"x": {"type": "string", "minLength": 2}}}',
    '[false,[{"desc":"Does not match pattern \'^a\'","error":"v: Does not match pattern \'^a\'","field":"v","type":"pattern"}]]',
  ],
  [
    'json.match_schema',
    '{"v": {"a": "x", "b": 2}}, {"properties": {"v": {"minItems": 1}}, "definitions": {"x": {"type": "string", "minLength": 2}}}',
    '[true,[]]',
  ],
  [
    'json.match_schema',
    '{"v": 10}, {"properties": {"v": {"uniqueItems": true}}, "definitions": {"x": {"type": "string", "minLength": 2}}}',
    '[true,[]]',
  ],
  [
    'json.match_schema',
    '{"v": ["a", "b", "a"]}, {"properties": {"v": {"items": {"type": "integer"}}}, "definitions": {"x": {"type": "string", "minLength": 2}}}',
    '[false,[{"desc":"Invalid type. Expected: integer, given: string","error":"v.0: Invalid type. Expected: integer, given: string","field":"v.0","type":"invalid_type"},{"desc":"Invalid type. Expected: integer, given: string","error":"v.1: Invalid type. Expected: integer, given: string","field":"v.1","type":"invalid_type"},{"desc":"Invalid type. Expected: integer, given: string","error":"v.2: Invalid type. Expected: integer, given: string","field":"v.2","type":"invalid_type"}]]',
  ],
  [
    'json.match_schema',
    '{"v": 1.0}, {"properties": {"v": {"items": [{"type": "integer"}], "additionalItems": false}}, "definitions": {"x": {"type": "string", "minLength": 2}}}',
    '[true,[]]',
  ],
  [
    'json.match_schema',
    '{"v": [1]}, {"properties": {"v": {"items": [{"type": "integer"}], "additionalItems": {"type": "string"}}}, "definitions": {"x": {"type": "string", "minLength": 2}}}',
    '[true,[]]',
  ],
  [
    'json.match_schema',
    '{"v": null}, {"properties": {"v": {"contains": false}}, "definitions": {"x": {"type": "string", "minLength": 2}}}',
    '[true,[]]',
  ],
  [
    'json.match_schema',
    '{"v": "abc"}, {"properties": {"v": {"required": ["a"]}}, "definitions": {"x": {"type": "string", "minLength": 2}}}',
    '[true,[]]',
  ],
  [
    'json.match_schema',
    '{"v": {"a": 1}}, {"properties": {"v": {"required": ["a", "b"]}}, "definitions": {"x": {"type": "string", "minLength": 2}}}',
    '[false,[{"desc":"b is required","error":"v: b is required","field":"v","type":"required"}]]',
  ],
  [
    'json.match_schema',
    '{"v": 7}, {"properties": {"v": {"maxProperties": 1}}, "definitions": {"x": {"type": "string", "minLength": 2}}}',
    '[true,[]]',
  ],
  [
    'json.match_schema',
    '{"v": [1, "a"]}, {"properties": {"v": {"properties": {"a": {"type": "string"}}}}, "definitions": {"x": {"type": "string", "minLength": 2}}}',
    '[true,[]]',
  ],
  [
    'json.match_schema',
    '{"v": 1}, {"properties": {"v": {"additionalProperties": {"type": "string"}}}, "definitions": {"x": {"type": "string", "minLength": 2}}}',
    '[true,[]]',
  ],
  [
    'json.match_schema',
    '{"v": []}, {"properties": {"v": {"patternProperties": {"^x": {"type": "string"}}, "additionalProperties": false}}, "definitions": {"x": {"type": "string", "minLength": 2}}}',
    '[true,[]]',
  ],
  [
    'json.match_schema',
    '{"v": {"b": null}}, {"properties": {"v": {"propertyNames": {"maxLength": 0}}}, "definitions": {"x": {"type": "string", "minLength": 2}}}',
    String.raw`[false,[{"desc":"Property name of \"b\" does not match","error":"v: Property name of \"b\" does not match","field":"v","type":"invalid_property_name"},{"desc":"String length must be less than or equal to 0","error":"v: String length must be less than or equal to 0","field":"v","type":"string_lte"}]]`,
  ],
  [
    'json.match_schema',
    '{"v": "a"}, {"properties": {"v": {"dependencies": {"a": {"required": ["b"]}}}}, "definitions": {"x": {"type": "string", "minLength": 2}}}',
    '[true,[]]',
  ],
  [
    'json.match_schema',
    '{"v": {}}, {"properties": {"v": {"enum": [1, "a", null]}}, "definitions": {"x": {"type": "string", "minLength": 2}}}',
    String.raw`[false,[{"desc":"v must be one of the following: 1, \"a\", null","error":"v: v must be one of the following: 1, \"a\", null","field":"v","type":"enum"}]]`,
  ],
  [
    'json.match_schema',
    '{"v": -3}, {"properties": {"v": {"const": 1}}, "definitions": {"x": {"type": "string", "minLength": 2}}}',
    '[false,[{"desc":"v does not match: 1","error":"v: v does not match: 1","field":"v","type":"const"}]]',
  ],
  [
    'json.match_schema',
    '{"v": [1, 1]}, {"properties": {"v": {"const": null}}, "definitions": {"x": {"type": "string", "minLength": 2}}}',
    '[false,[{"desc":"v does not match: null","error":"v: v does not match: null","field":"v","type":"const"}]]',
  ],
  [
    'json.match_schema',
    '{"v": 0}, {"properties": {"v": {"anyOf": [{"type": "string"}, {"minimum": 5}]}}, "definitions": {"x": {"type": "string", "minLength": 2}}}',
    '[false,[{"desc":"Must validate at least one schema (anyOf)","error":"v: Must validate at least one schema (anyOf)","field":"v","type":"number_any_of"},{"desc":"Must be greater than or equal to 5","error":"v: Must be greater than or equal to 5","field":"v","type":"number_gte"}]]',
  ],
  [
    'json.match_schema',
    '{"v": "2"}, {"properties": {"v": {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}}, "definitions": {"x": {"type": "string", "minLength": 2}}}',
    '[true,[]]',
  ],
  [
    'json.match_schema',
    '{"v": {"x1": 1, "y": 2}}, {"properties": {"v": {"oneOf": [{"type": "string"}, {"minLength": 2}]}}, "definitions": {"x": {"type": "string", "minLength": 2}}}',
    '[true,[]]',
  ],
  [
    'json.match_schema',
    String.raw`"{\"a\": 1}", {"type": "array"}`,
    '[false,[{"desc":"Invalid type. Expected: array, given: object","error":"(Root): Invalid type. Expected: array, given: object","field":"(Root)","type":"invalid_type"}]]',
  ],
  [
    'json.match_schema',
    '"[1, 2]", {"type": "object", "properties": {"a": {"type": "string"}}}',
    '[false,[{"desc":"Invalid type. Expected: object, given: array","error":"(Root): Invalid type. Expected: object, given: array","field":"(Root)","type":"invalid_type"}]]',
  ],
  [
    'json.match_schema',
    '"1", {"properties": {"a": {"uniqueItems": true, "maxItems": 1}, "1": {"type": "string"}}}',
    '[true,[]]',
  ],
  ['json.match_schema', '"null", "true"', '[true,[]]'],
  ['json.match_schema', String.raw`"x", "{\"type\": \"string\"}"`, 'undefined'],
  ['json.match_schema', '1, {"type": "x"}', 'undefined'],
  ['json.match_schema', 'true, {"type": "array"}', 'undefined'],
  [
    'json.match_schema',
    '[1, 2], {"type": "object", "properties": {"a": {"type": "string"}}}',
    '[false,[{"desc":"Invalid type. Expected: object, given: array","error":"(Root): Invalid type. Expected: object, given: array","field":"(Root)","type":"invalid_type"}]]',
  ],
  [
    'json.match_schema',
    '{1, 2}, {"properties": {"a": {"uniqueItems": true, "maxItems": 1}, "1": {"type": "string"}}}',
    'undefined',
  ],
  ['json.match_schema', '{"a": {1, 2}}, "true"', '[true,[]]'],
  [
    'json.match_schema',
    String.raw`{1: 2}, "{\"type\": \"string\"}"`,
    '[false,[{"desc":"Invalid type. Expected: string, given: object","error":"(Root): Invalid type. Expected: string, given: object","field":"(Root)","type":"invalid_type"}]]',
  ],
  ['json.match_schema', String.raw`"{\"a\": 1, \"a\": \"x\"}", {"type": "x"}`, 'undefined'],
  ['json.match_schema', '"[1,]", {"type": "array"}', 'undefined'],
  [
    'json.match_schema',
    String.raw`"\"s\"", {"type": "object", "properties": {"a": {"type": "string"}}}`,
    '[false,[{"desc":"Invalid type. Expected: object, given: string","error":"(Root): Invalid type. Expected: object, given: string","field":"(Root)","type":"invalid_type"}]]',
  ],
  ['json.match_schema', '{"v": "2020-01-01"}, {"properties": {"v": {"format": "date"}}}', '[true,[]]'],
  [
    'json.match_schema',
    '{"v": "2020-1-1"}, {"properties": {"v": {"format": "date"}}}',
    '[false,[{"desc":"Does not match format \'date\'","error":"v: Does not match format \'date\'","field":"v","type":"format"}]]',
  ],
  ['json.match_schema', '{"v": "10:00:00Z"}, {"properties": {"v": {"format": "time"}}}', '[true,[]]'],
  [
    'json.match_schema',
    '{"v": "10:00"}, {"properties": {"v": {"format": "time"}}}',
    '[false,[{"desc":"Does not match format \'time\'","error":"v: Does not match format \'time\'","field":"v","type":"format"}]]',
  ],
  ['json.match_schema', '{"v": "2020-01-01T00:00:00Z"}, {"properties": {"v": {"format": "date-time"}}}', '[true,[]]'],
  [
    'json.match_schema',
    '{"v": "2020-01-01 00:00:00Z"}, {"properties": {"v": {"format": "date-time"}}}',
    '[false,[{"desc":"Does not match format \'date-time\'","error":"v: Does not match format \'date-time\'","field":"v","type":"format"}]]',
  ],
  ['json.match_schema', '{"v": "a.b"}, {"properties": {"v": {"format": "hostname"}}}', '[true,[]]'],
  [
    'json.match_schema',
    '{"v": "a-"}, {"properties": {"v": {"format": "hostname"}}}',
    '[false,[{"desc":"Does not match format \'hostname\'","error":"v: Does not match format \'hostname\'","field":"v","type":"format"}]]',
  ],
  [
    'json.match_schema',
    '{"v": ""}, {"properties": {"v": {"format": "hostname"}}}',
    '[false,[{"desc":"Does not match format \'hostname\'","error":"v: Does not match format \'hostname\'","field":"v","type":"format"}]]',
  ],
  ['json.match_schema', '{"v": 1}, {"properties": {"v": {"format": "hostname"}}}', '[true,[]]'],
  [
    'json.match_schema',
    '{"v": "a"}, {"properties": {"v": {"format": "email"}}}',
    '[false,[{"desc":"Does not match format \'email\'","error":"v: Does not match format \'email\'","field":"v","type":"format"}]]',
  ],
  ['json.match_schema', '{"v": "A <a@b>"}, {"properties": {"v": {"format": "email"}}}', '[true,[]]'],
  ['json.match_schema', String.raw`{"v": "\"a b\"@c"}, {"properties": {"v": {"format": "email"}}}`, '[true,[]]'],
  [
    'json.match_schema',
    '{"v": "a..b@c"}, {"properties": {"v": {"format": "email"}}}',
    '[false,[{"desc":"Does not match format \'email\'","error":"v: Does not match format \'email\'","field":"v","type":"format"}]]',
  ],
  [
    'json.match_schema',
    '{"v": "a@b, c@d"}, {"properties": {"v": {"format": "email"}}}',
    '[false,[{"desc":"Does not match format \'email\'","error":"v: Does not match format \'email\'","field":"v","type":"format"}]]',
  ],
  ['json.match_schema', '{"v": " a@b "}, {"properties": {"v": {"format": "email"}}}', '[true,[]]'],
  [
    'json.match_schema',
    '{"v": "1.2.3"}, {"properties": {"v": {"format": "ipv4"}}}',
    '[false,[{"desc":"Does not match format \'ipv4\'","error":"v: Does not match format \'ipv4\'","field":"v","type":"format"}]]',
  ],
  ['json.match_schema', '{"v": "::ffff:1.2.3.4"}, {"properties": {"v": {"format": "ipv4"}}}', '[true,[]]'],
  ['json.match_schema', '{"v": "::1"}, {"properties": {"v": {"format": "ipv6"}}}', '[true,[]]'],
  [
    'json.match_schema',
    '{"v": "fe80::1%eth0"}, {"properties": {"v": {"format": "ipv6"}}}',
    '[false,[{"desc":"Does not match format \'ipv6\'","error":"v: Does not match format \'ipv6\'","field":"v","type":"format"}]]',
  ],
  ['json.match_schema', '{"v": 1}, {"properties": {"v": {"format": "ipv6"}}}', '[true,[]]'],
  ['json.match_schema', '{"v": "a:b"}, {"properties": {"v": {"format": "uri"}}}', '[true,[]]'],
  [
    'json.match_schema',
    '{"v": "http://a/%zz"}, {"properties": {"v": {"format": "uri"}}}',
    '[false,[{"desc":"Does not match format \'uri\'","error":"v: Does not match format \'uri\'","field":"v","type":"format"}]]',
  ],
  ['json.match_schema', '{"v": "http://[::1]"}, {"properties": {"v": {"format": "uri"}}}', '[true,[]]'],
  [
    'json.match_schema',
    '{"v": ":a"}, {"properties": {"v": {"format": "uri"}}}',
    '[false,[{"desc":"Does not match format \'uri\'","error":"v: Does not match format \'uri\'","field":"v","type":"format"}]]',
  ],
  ['json.match_schema', '{"v": "http://a/b c"}, {"properties": {"v": {"format": "uri"}}}', '[true,[]]'],
  ['json.match_schema', '{"v": "HTTP://a"}, {"properties": {"v": {"format": "uri"}}}', '[true,[]]'],
  ['json.match_schema', '{"v": "a"}, {"properties": {"v": {"format": "uri-reference"}}}', '[true,[]]'],
  [
    'json.match_schema',
    '{"v": "1:b"}, {"properties": {"v": {"format": "uri-reference"}}}',
    '[false,[{"desc":"Does not match format \'uri-reference\'","error":"v: Does not match format \'uri-reference\'","field":"v","type":"format"}]]',
  ],
  [
    'json.match_schema',
    '{"v": "%zz"}, {"properties": {"v": {"format": "uri-reference"}}}',
    '[false,[{"desc":"Does not match format \'uri-reference\'","error":"v: Does not match format \'uri-reference\'","field":"v","type":"format"}]]',
  ],
  [
    'json.match_schema',
    '{"v": ":"}, {"properties": {"v": {"format": "uri-reference"}}}',
    '[false,[{"desc":"Does not match format \'uri-reference\'","error":"v: Does not match format \'uri-reference\'","field":"v","type":"format"}]]',
  ],
  ['json.match_schema', '{"v": "http://a/{b}"}, {"properties": {"v": {"format": "uri-template"}}}', '[true,[]]'],
  ['json.match_schema', '{"v": "{a}"}, {"properties": {"v": {"format": "uri-template"}}}', '[true,[]]'],
  ['json.match_schema', '{"v": 1}, {"properties": {"v": {"format": "uri-template"}}}', '[true,[]]'],
  [
    'json.match_schema',
    '{"v": "x"}, {"properties": {"v": {"format": "uuid"}}}',
    '[false,[{"desc":"Does not match format \'uuid\'","error":"v: Does not match format \'uuid\'","field":"v","type":"format"}]]',
  ],
  ['json.match_schema', '{"v": "a"}, {"properties": {"v": {"format": "regex"}}}', '[true,[]]'],
  ['json.match_schema', '{"v": ""}, {"properties": {"v": {"format": "regex"}}}', '[true,[]]'],
  ['json.match_schema', '{"v": 1}, {"properties": {"v": {"format": "regex"}}}', '[true,[]]'],
  [
    'json.match_schema',
    '{"v": "a"}, {"properties": {"v": {"format": "json-pointer"}}}',
    '[false,[{"desc":"Does not match format \'json-pointer\'","error":"v: Does not match format \'json-pointer\'","field":"v","type":"format"}]]',
  ],
  ['json.match_schema', '{"v": "/a/b"}, {"properties": {"v": {"format": "json-pointer"}}}', '[true,[]]'],
  ['json.match_schema', '{"v": "0#"}, {"properties": {"v": {"format": "relative-json-pointer"}}}', '[true,[]]'],
  [
    'json.match_schema',
    '{"v": "a"}, {"properties": {"v": {"format": "relative-json-pointer"}}}',
    '[false,[{"desc":"Does not match format \'relative-json-pointer\'","error":"v: Does not match format \'relative-json-pointer\'","field":"v","type":"format"}]]',
  ],
  ['json.match_schema', '{"v": "http://é"}, {"properties": {"v": {"format": "iri"}}}', '[true,[]]'],
  ['json.match_schema', '{"v": "x"}, {"properties": {"v": {"format": "nope"}}}', '[true,[]]'],
  [
    'json.match_schema',
    '{"a": {"b": [1, {"c": "x"}]}, "d": 1}, {"properties": {"a": {"properties": {"b": {"items": {"anyOf": [{"type": "integer"}, {"properties": {"c": {"type": "integer"}}, "required": ["z"]}]}}}}}, "additionalProperties": false}',
    '[false,[{"desc":"Additional property d is not allowed","error":"(Root): Additional property d is not allowed","field":"(Root)","type":"additional_property_not_allowed"},{"desc":"Must validate at least one schema (anyOf)","error":"a.b.1: Must validate at least one schema (anyOf)","field":"a.b.1","type":"number_any_of"},{"desc":"z is required","error":"a.b.1: z is required","field":"a.b.1","type":"required"},{"desc":"Invalid type. Expected: integer, given: string","error":"a.b.1.c: Invalid type. Expected: integer, given: string","field":"a.b.1.c","type":"invalid_type"}]]',
  ],
  [
    'json.match_schema',
    '{"a": {"a": {"a": {"b": 1}}}}, {"properties": {"a": {"$ref": "#"}}, "additionalProperties": false}',
    '[false,[{"desc":"Additional property b is not allowed","error":"a.a.a: Additional property b is not allowed","field":"a.a.a","type":"additional_property_not_allowed"}]]',
  ],
  [
    'json.match_schema',
    '{"n": [{"n": [{"n": 1}]}]}, {"definitions": {"t": {"properties": {"n": {"type": "array", "items": {"$ref": "#/definitions/t"}}}}}, "$ref": "#/definitions/t"}',
    '[false,[{"desc":"Invalid type. Expected: array, given: integer","error":"n.0.n.0.n: Invalid type. Expected: array, given: integer","field":"n.0.n.0.n","type":"invalid_type"}]]',
  ],
  [
    'json.match_schema',
    '{"a": 1}, {"$schema": "http://json-schema.org/draft-04/schema#", "properties": {"a": {"const": 2, "contains": {"type": "string"}, "if": {}, "then": false}}, "propertyNames": {"maxLength": 0}}',
    '[true,[]]',
  ],
  [
    'json.match_schema',
    '{"a": 1}, {"$schema": "http://json-schema.org/draft-06/schema#", "properties": {"a": {"const": 2}}, "if": true, "then": false}',
    '[false,[{"desc":"a does not match: 2","error":"a: a does not match: 2","field":"a","type":"const"}]]',
  ],
  [
    'json.match_schema',
    '{"a": 1}, {"$schema": "http://json-schema.org/draft-07/schema#", "if": true, "then": false}',
    String.raw`[false,[{"desc":"Must validate \"then\" as \"if\" was valid","error":"(Root): Must validate \"then\" as \"if\" was valid","field":"(Root)","type":"condition_then"},{"desc":"False always fails validation","error":"(Root): False always fails validation","field":"(Root)","type":"false"}]]`,
  ],
  [
    'json.match_schema',
    '{"a b.c": {"": 1}}, {"properties": {"a b.c": {"properties": {"": {"type": "string"}}}}}',
    '[false,[{"desc":"Invalid type. Expected: string, given: integer","error":"a b.c.: Invalid type. Expected: string, given: integer","field":"a b.c.","type":"invalid_type"}]]',
  ],
  [
    'json.match_schema',
    '{"<a>": 1}, {"properties": {"<a>": {"enum": ["<b>", "&"]}}}',
    String.raw`[false,[{"desc":"<a> must be one of the following: \"\\u003cb\\u003e\", \"\\u0026\"","error":"<a>: <a> must be one of the following: \"\\u003cb\\u003e\", \"\\u0026\"","field":"<a>","type":"enum"}]]`,
  ],
];

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
