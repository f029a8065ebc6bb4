/** Nesting above this is refused: no event needs it, and readers further on may recurse. */
const MAX_DEPTH = 128;

export type StrictJson = { readonly ok: true; readonly value: unknown } | { readonly ok: false; readonly why: string };

const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const COMMA = 0x2c;
const COLON = 0x3a;

/** The index after the string that begins at `start`. The text is known to be JSON. */
const endOfString = (text: string, start: number): number => {
  let at = text.indexOf('"', start + 1);
  for (;;) {
    let slashes = 0;
    while (text.charCodeAt(at - 1 - slashes) === BACKSLASH) slashes += 1;
    if (slashes % 2 === 0) return at + 1;
    at = text.indexOf('"', at + 1);
  }
};

const nameOf = (literal: string): string =>
  literal.includes('\\') ? String(JSON.parse(literal)) : literal.slice(1, -1);

/** Why this text, which is JSON, is not unambiguous: a member name that stands twice, or too deep nesting. */
const ambiguity = (text: string): string | undefined => {
  // One set of names for each open object, null for an open array.
  const open: (Set<string> | null)[] = [];
  let expectsName = false;
  for (let at = 0; at < text.length; at += 1) {
    const code = text.charCodeAt(at);
    if (code === QUOTE) {
      const end = endOfString(text, at);
      const names = open.at(-1);
      if (expectsName && names !== undefined && names !== null) {
        const name = nameOf(text.slice(at, end));
        if (names.has(name)) return 'a member name stands twice';
        names.add(name);
      }
      at = end - 1;
    } else if (code === 0x7b || code === 0x5b) {
      if (open.length === MAX_DEPTH) return `deeper than ${MAX_DEPTH}`;
      open.push(code === 0x7b ? new Set() : null);
      expectsName = code === 0x7b;
    } else if (code === 0x7d || code === 0x5d) {
      open.pop();
      expectsName = false;
    } else if (code === COMMA) {
      expectsName = open.at(-1) !== null;
    } else if (code === COLON) {
      expectsName = false;
    }
  }
  return undefined;
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
  const why = ambiguity(text);
  return why === undefined ? { ok: true, value } : { ok: false, why };
};
