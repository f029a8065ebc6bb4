import { createHmac } from 'node:crypto';
import type { Masked, Omitted } from '../../shared/contracts/events.ts';
import { canonicalJson } from '../../shared/contracts/json.ts';

/** A tenant's masking key: 32 bytes, and the first 8 hex digits of its SHA-256 as its name. */
export interface MaskKey {
  readonly key: Uint8Array;
  readonly id: string;
}

/** The members of an event that masking covers; the pointers of `pdp.mask` begin here. */
export interface MaskedMembers {
  input: unknown;
  reasons: unknown;
  obligations: unknown;
  advice: unknown;
}

const EACH = '*';

const hmacHex = (key: MaskKey, text: string): string =>
  createHmac('sha256', key.key).update(text, 'utf8').digest('hex');

const maskedValue = (value: unknown, key: MaskKey): Masked => ({
  masked: hmacHex(key, canonicalJson(value)),
  key: key.id,
});

/** What stands for a value that made an event too large; `json` is its JSON text. */
export const omittedValue = (json: string, key: MaskKey): Omitted => ({
  omitted: hmacHex(key, json),
  bytes: Buffer.byteLength(json),
});

const segments = (pointer: string): readonly string[] =>
  pointer
    .split('/')
    .slice(1)
    .map((segment) => segment.replaceAll('~1', '/').replaceAll('~0', '~'));

/**
 * Compiles JSON pointers (RFC 6901). Beyond the RFC, the segment `*` stands for every element of an array, where a
 * pointer has no meaning otherwise. What a pointer does not find is left alone.
 *
 * The function masks the document in place and says whether anything below `input` was masked.
 */
export const compileMask = (
  pointers: readonly string[],
): ((members: MaskedMembers, key: MaskKey) => { readonly inputMasked: boolean }) => {
  // Outer pointers first: what is masked whole is not entered again.
  const paths = pointers.map(segments).sort((a, b) => a.length - b.length);
  return (members, key) => {
    const made = new WeakSet<object>();
    let inputMasked = false;
    const visit = (node: unknown, path: readonly string[], depth: number): boolean => {
      if (typeof node !== 'object' || node === null || made.has(node)) return false;
      const holder = node as Record<string, unknown>;
      const segment = path[depth] ?? '';
      const names = Array.isArray(node) && segment === EACH ? Object.keys(node) : [segment];
      let found = false;
      for (const name of names) {
        if (!Object.hasOwn(holder, name) || (Array.isArray(node) && name === 'length')) continue;
        const value = holder[name];
        if (depth < path.length - 1) found = visit(value, path, depth + 1) || found;
        else if (typeof value !== 'object' || value === null || !made.has(value)) {
          const masked = maskedValue(value, key);
          made.add(masked);
          holder[name] = masked;
          found = true;
        }
      }
      return found;
    };
    for (const path of paths) if (visit(members, path, 0) && path[0] === 'input') inputMasked = true;
    return { inputMasked };
  };
};
