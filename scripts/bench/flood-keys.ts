const ALPHABET = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_';
const FNV_OFFSET = 2_166_136_261;
const FNV_PRIME = 16_777_619;
/** A table of some thousand keys has fewer buckets than that; what lies above does not choose one. */
const LOW_BITS = 0xffff;
/** `FNV_PRIME * PRIME_INVERSE` is 1 modulo 2^16. */
const PRIME_INVERSE = 0x449b;

const forward = (state: number, character: string): number =>
  (Math.imul(state, FNV_PRIME) ^ character.charCodeAt(0)) & LOW_BITS;
const backward = (state: number, character: string): number =>
  Math.imul(state ^ character.charCodeAt(0), PRIME_INVERSE) & LOW_BITS;

/**
 * Keys of six characters that all fall into one bucket of OPA's hash tables: FNV-1 without a seed. Its lowest 16 bits
 * depend on nothing but the lowest 16 bits before, so keys with the same ones are found in a moment: the states that
 * three characters lead to, and those from which three characters lead to the same end, joined.
 */
export const collidingKeys = (count: number): readonly string[] => {
  const heads = new Map<number, string>();
  const tails = new Map<number, string>();
  for (const a of ALPHABET)
    for (const b of ALPHABET)
      for (const c of ALPHABET) {
        heads.set([a, b, c].reduce(forward, FNV_OFFSET & LOW_BITS), a + b + c);
        tails.set([c, b, a].reduce(backward, 0), a + b + c);
      }
  const keys = [...heads].flatMap(([state, head]) => {
    const tail = tails.get(state);
    return tail === undefined ? [] : [head + tail];
  });
  return keys.slice(0, count);
};

/** As many keys of the same length that collide no more than any. */
export const plainKeys = (count: number): readonly string[] =>
  Array.from({ length: count }, (_, at) => at.toString(36).padStart(6, '0'));
