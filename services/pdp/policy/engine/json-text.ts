import { BuiltinHalt, MAX_TEXT } from './builtin.ts';
import { isArray, numberText, RegoNumber, RegoObject, RegoSet, type Value } from './value.ts';

/** JSON for people: `prefix` and as often as deep `indent` before each line but the first. */
export interface Layout {
  readonly prefix: string;
  readonly indent: string;
}

// Go escapes these although JSON does not ask for it, so that JSON can stand inside HTML.
const escapeHtml = (json: string): string =>
  json.replace(/[<>&\u2028\u2029]/g, (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`);

/** The members of an object by the names that they have in JSON: a key that is no string becomes its JSON. */
export const jsonMembers = (object: RegoObject): RegoObject =>
  object.entries.every(([key]) => typeof key === 'string')
    ? object
    : RegoObject.of(object.entries.map(([key, member]) => [typeof key === 'string' ? key : goJson(key), member]));

/**
 * A value as Go's `json.Marshal` writes it: sets are arrays, numbers keep their text. Throws `BuiltinHalt` when it
 * becomes too long.
 */
export const goJson = (root: Value, layout?: Layout): string => {
  let out = '';
  const write = (text: string): void => {
    if (out.length + text.length > MAX_TEXT) throw new BuiltinHalt('a JSON text that is too long');
    out += text;
  };
  const newLine = (depth: number): void => {
    if (layout === undefined) return;
    write(`\n${layout.prefix}`);
    for (let i = 0; i < depth; i += 1) write(layout.indent);
  };
  const list = <T>(
    open: string,
    close: string,
    items: readonly T[],
    depth: number,
    member: (item: T) => void,
  ): void => {
    write(open);
    for (const [index, item] of items.entries()) {
      if (index > 0) write(',');
      newLine(depth + 1);
      member(item);
    }
    if (items.length > 0) newLine(depth);
    write(close);
  };
  const print = (value: Value, depth: number): void => {
    if (value === null || typeof value === 'boolean') write(String(value));
    else if (typeof value === 'string') write(escapeHtml(JSON.stringify(value)));
    else if (typeof value === 'number' || value instanceof RegoNumber) write(numberText(value));
    else if (isArray(value) || value instanceof RegoSet)
      list('[', ']', isArray(value) ? value : value.items, depth, (item) => print(item, depth + 1));
    else
      list('{', '}', jsonMembers(value).entries, depth, ([key, member]) => {
        print(key, depth);
        write(layout === undefined ? ':' : ': ');
        print(member, depth + 1);
      });
  };
  print(root, 0);
  return out;
};
