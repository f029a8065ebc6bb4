import { fromHex, hex } from '../../shared/contracts/bytes.ts';
import { canonicalJson, isObject } from '../../shared/contracts/json.ts';
import { createTreeHasher } from '../../shared/tlog/merkle.ts';
import type { SigningMemory } from './signing.ts';

/**
 * RFC 8785 JSON `{base: {leaf, size, subtrees}, origin, signed: {root, size}}` and a newline; hashes in hex, sizes as
 * text.
 */
export const formatMemory = ({ origin, base, signed }: SigningMemory): string =>
  `${canonicalJson({
    origin,
    base: { size: String(base.size), leaf: hex(base.leaf), subtrees: base.subtrees.map(hex) },
    signed: { size: String(signed.size), root: hex(signed.root) },
  })}\n`;

const sizeOf = (value: unknown): bigint | undefined =>
  typeof value === 'string' && /^(0|[1-9]\d{0,17})$/.test(value) ? BigInt(value) : undefined;

const hashOf = (value: unknown): Buffer | undefined =>
  typeof value === 'string' && /^[0-9a-f]{64}$/.test(value) ? fromHex(value) : undefined;

/** What `formatMemory` wrote for this origin; undefined for anything else, also when its numbers contradict each other. */
export const parseMemory = (text: string, origin: string): SigningMemory | undefined => {
  let document: unknown;
  try {
    document = JSON.parse(text);
  } catch {
    return undefined;
  }
  if (!isObject(document) || document['origin'] !== origin) return undefined;
  const { base, signed } = document;
  if (!isObject(base) || !isObject(signed) || !Array.isArray(base['subtrees'])) return undefined;
  const subtrees = (base['subtrees'] as readonly unknown[]).map(hashOf);
  const [size, signedSize, root] = [sizeOf(base['size']), sizeOf(signed['size']), hashOf(signed['root'])];
  const leaf = size === 0n && base['leaf'] === '' ? Buffer.alloc(0) : hashOf(base['leaf']);
  if (size === undefined || signedSize === undefined || root === undefined || leaf === undefined) return undefined;
  const known = subtrees.filter((hash) => hash !== undefined);
  if (known.length !== subtrees.length || signedSize < size) return undefined;
  try {
    const tree = createTreeHasher({ size, subtrees: known });
    if (signedSize === size && !tree.root().equals(root)) return undefined;
  } catch {
    return undefined;
  }
  return { origin, base: { size, subtrees: known, leaf }, signed: { size: signedSize, root } };
};
