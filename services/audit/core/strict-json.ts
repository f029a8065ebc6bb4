import { countColons } from '../../shared/contracts/json.ts';

/** Nesting above this is refused: no event needs it, and readers further on may recurse. */
const MAX_DEPTH = 128;

export type StrictJson = { readonly ok: true; readonly value: unknown } | { readonly ok: false; readonly why: string };

const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/** Members of all objects in `value`; undefined when it is nested too deep. */
const countMembers = (value: unknown, depth: number): number | undefined => {
  if (typeof value !== 'object' || value === null) return 0;
  if (depth > MAX_DEPTH) return undefined;
  let count = 0;
  for (const member of Array.isArray(value) ? (value as readonly unknown[]) : Object.values(value)) {
    const below = countMembers(member, depth + 1);
    if (below === undefined) return undefined;
    count += below;
  }
  return Array.isArray(value) ? count : count + Object.keys(value).length;
};

/**
 * JSON that every reader understands alike (RFC 8259, section 4; RFC 7493): UTF-8 without a byte order mark, no
 * member name twice in one object, bounded depth. `why` never holds a part of the document.
 */
export const parseStrictJson = (bytes: Uint8Array): StrictJson => {
  let text: string;
  try {
    text = decoder.decode(bytes);
  } catch {
    return { ok: false, why: 'not UTF-8' };
  }
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return { ok: false, why: 'not JSON' };
  }
  const members = countMembers(value, 1);
  if (members === undefined) return { ok: false, why: `deeper than ${MAX_DEPTH}` };
  // A member that stood twice is once in the tree, and its colon twice in the text.
  return members === countColons(bytes) ? { ok: true, value } : { ok: false, why: 'a member name stands twice' };
};
