import { BuiltinError, BuiltinHalt, boundedText, type Builtins } from './builtin.ts';
import { jsonForm } from './json-form.ts';
import { compileSchema } from './json-schema-compiler.ts';
import { validateDocument } from './json-schema-validator.ts';
import { parseValue } from './value-text.ts';
import { isArray, RegoObject, type Value } from './value.ts';
import type { Spend } from './prices.ts';

/** A document: JSON text, or the value itself. Throws `BuiltinError` on anything else. */
const documentOf = (value: Value | undefined): Value => {
  if (value instanceof RegoObject) return jsonForm(value);
  if (value !== undefined && value !== null && typeof value === 'object' && isArray(value)) return jsonForm(value);
  if (typeof value !== 'string') throw new BuiltinError('wrong type, expected string or object');
  try {
    JSON.parse(boundedText(value));
  } catch (cause) {
    if (cause instanceof BuiltinHalt) throw cause;
    throw new BuiltinError('invalid JSON string', { cause });
  }
  try {
    return parseValue(value);
  } catch (cause) {
    throw new BuiltinHalt('a JSON text that is nested too deep', { cause });
  }
};

const verifySchema = (spend: Spend, value: Value | undefined): Value => {
  try {
    compileSchema(spend, documentOf(value));
    return [true, null];
  } catch (error) {
    if (error instanceof BuiltinError) return [false, `jsonschema: ${error.message}`];
    throw error;
  }
};

const matchSchema = (spend: Spend, document: Value | undefined, schema: Value | undefined): Value => {
  const value = documentOf(document);
  const errors = validateDocument(spend, compileSchema(spend, documentOf(schema)), value).map(
    ({ type, field, description }) =>
      RegoObject.of([
        ['error', `${field}: ${description}`],
        ['type', type],
        ['field', field],
        ['desc', description],
      ]),
  );
  return [errors.length === 0, errors];
};

export const jsonSchemaBuiltins: Builtins = {
  'json.match_schema': ({ spend }, document, schema) => matchSchema(spend, document, schema),
  'json.verify_schema': ({ spend }, schema) => verifySchema(spend, schema),
};
