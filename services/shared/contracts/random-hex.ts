import { randomBytes } from 'node:crypto';

const POOL_BYTES = 8 * 1024;
let pool = '';
let at = 0;

/**
 * `digits` random hex digits in lower case, at most 64, none of them given twice. Randomness is drawn and written as hex
 * for some hundred calls at a time, which costs a tenth of a call for each.
 */
export const randomHex = (digits: number): string => {
  if (at + digits > pool.length) {
    pool = randomBytes(POOL_BYTES).toString('hex');
    at = 0;
  }
  const from = at;
  at += digits;
  return pool.slice(from, at);
};
