import canonicalizeJson from 'canonicalize';

export type Json = null | boolean | number | string | readonly Json[] | { readonly [name: string]: Json };

/**
 * RFC 8785 (JSON Canonicalization Scheme) text of `value`. Throws on NaN, infinities and lone surrogates.
 * Only for documents that Edict makes itself: bytes that were received are hashed as received.
 */
export const canonicalJson = (value: unknown): string => {
  const text = canonicalizeJson(value);
  if (text === undefined) throw new TypeError('value has no JSON form');
  return text;
};

export const isObject = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const COLON = 0x3a;

/**
 * Colons outside strings of a JSON text, which must be valid: one for each member that stands there. More of them than
 * members in the parsed tree means that a member stood twice.
 */
export const countColons = (bytes: Uint8Array): number => {
  let colons = 0;
  let inString = false;
  for (let i = 0; i < bytes.length; i += 1) {
    const byte = bytes[i];
    if (inString) {
      if (byte === BACKSLASH) i += 1;
      else if (byte === QUOTE) inString = false;
    } else if (byte === QUOTE) inString = true;
    else if (byte === COLON) colons += 1;
  }
  return colons;
};
