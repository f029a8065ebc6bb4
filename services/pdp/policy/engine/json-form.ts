import { isArray, numberText, RegoNumber, RegoObject, type Value } from './value.ts';

/** Go's JSON escapes these besides JSON's own, so that the text may stand in HTML and JavaScript. */
const HTML = /[<>&\u2028\u2029]/g;

const quoted = (value: string): string =>
  JSON.stringify(value).replace(HTML, (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`);

/** The JSON text of a value in the form of `jsonForm`, as Go's `encoding/json` writes it. */
export const jsonText = (value: Value): string => {
  if (value === null || typeof value === 'boolean') return String(value);
  if (typeof value === 'string') return quoted(value);
  if (typeof value === 'number' || value instanceof RegoNumber) return numberText(value);
  if (isArray(value)) return `[${value.map(jsonText).join(',')}]`;
  if (!(value instanceof RegoObject)) return jsonText(value.items);
  return `{${value.entries.map(([key, member]) => `${jsonText(key)}:${jsonText(member)}`).join(',')}}`;
};

/** The value as JSON has it (OPA's `ast.JSON`): sets are arrays, keys that are no strings are their JSON text. */
export const jsonForm = (value: Value): Value => {
  if (value === null || typeof value !== 'object' || value instanceof RegoNumber) return value;
  if (isArray(value)) return value.map(jsonForm);
  if (!(value instanceof RegoObject)) return value.items.map(jsonForm);
  return RegoObject.of(
    value.entries.map(([key, member]) => [typeof key === 'string' ? key : jsonText(jsonForm(key)), jsonForm(member)]),
  );
};

/** The members of an object in that form. */
export const membersByName = (object: RegoObject): readonly (readonly [name: string, member: Value])[] =>
  object.entries.flatMap(([key, member]) => (typeof key === 'string' ? [[key, member] as const] : []));
