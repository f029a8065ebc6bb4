/** No repeated piece is a single instruction, but few are more than this. */
const PIECE = 4;

/**
 * How many instructions a pattern may become, from its text. What is repeated (`{2,5}`) is written out as often; a
 * repeated group is at most all that came before it.
 */
export const patternSize = (pattern: string): number => {
  let size = 0;
  let from = 0;
  for (const { 0: all, 1: least = '', 2: most = '', index } of pattern.matchAll(/\{(\d{1,4})(?:,(\d{0,4}))?\}/g)) {
    size += index - from;
    from = index + all.length;
    const times = Math.max(Number(least), Number(most));
    size += times * (pattern.charAt(index - 1) === ')' ? size : PIECE);
  }
  return size + pattern.length - from;
};
