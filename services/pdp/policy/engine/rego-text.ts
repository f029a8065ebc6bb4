import { boundedText } from './builtin.ts';
import { quoteGo } from './go-quote.ts';
import { isArray, numberText, RegoNumber, RegoObject, type Value } from './value.ts';

const print = (value: Value): string => {
  if (value === null) return 'null';
  if (typeof value === 'string') return quoteGo(value);
  if (typeof value === 'boolean') return value ? 'true' : 'false';
  if (typeof value === 'number' || value instanceof RegoNumber) return numberText(value);
  if (isArray(value)) return `[${value.map(print).join(', ')}]`;
  if (value instanceof RegoObject)
    return `{${value.entries.map(([key, member]) => `${print(key)}: ${print(member)}`).join(', ')}}`;
  return value.items.length === 0 ? 'set()' : `{${value.items.map(print).join(', ')}}`;
};

/** A value as OPA prints it for people (`String()` of its ast): Go's quotes, a blank after `,` and `:`. */
export const regoText = (value: Value): string => boundedText(print(value));
