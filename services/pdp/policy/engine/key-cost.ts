import { ecSignCost, ecVerifyCost, rsaSignCost, rsaVerifyCost } from './prices.ts';
import type { PublicKey } from './public-key.ts';

const BITS_PER_HEX_DIGIT = 4;
const bitsOf = (modulus: bigint): number => modulus.toString(16).length * BITS_PER_HEX_DIGIT;
/** Ed25519 is as fast as P-256. */
const ED25519_BYTES = 32;

/** Fuel for one verification with the key. */
export const verifyCost = (key: PublicKey): number => {
  if (key.type === 'rsa') return rsaVerifyCost(bitsOf(key.n));
  return ecVerifyCost(key.type === 'ec' ? key.curve.size : ED25519_BYTES);
};

/** Fuel for one signature with its private half, which is checked before. */
export const signCost = (key: PublicKey): number => {
  if (key.type === 'rsa') return rsaSignCost(bitsOf(key.n));
  return ecSignCost(key.type === 'ec' ? key.curve.size : ED25519_BYTES);
};
