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
