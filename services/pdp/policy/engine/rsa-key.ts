import { BuiltinError, BuiltinHalt } from './builtin.ts';
import { bitLength } from './public-key.ts';

/** The numbers of an RSA private key (RFC 8017) of two primes. */
export interface RsaNumbers {
  readonly n: bigint;
  readonly e: bigint;
  readonly d: bigint;
  readonly p: bigint;
  readonly q: bigint;
}

/** The numbers of the Chinese remainder theorem. */
export interface CrtValues {
  readonly dp: bigint;
  readonly dq: bigint;
  readonly qi: bigint;
}

/** Go signs with no smaller key. */
export const MIN_RSA_BITS = 1024;
/** Larger keys cost too much to compute with. */
const MAX_RSA_BITS = 16_384;

const inverse = (value: bigint, modulus: bigint): bigint => {
  let [r, nextR, t, nextT] = [modulus, value % modulus, 0n, 1n];
  while (nextR !== 0n) {
    const quotient = r / nextR;
    [r, nextR] = [nextR, r - quotient * nextR];
    [t, nextT] = [nextT, t - quotient * nextT];
  }
  return ((t % modulus) + modulus) % modulus;
};

/** What Go demands of a key before it takes it: the numbers belong together, and some known attacks do not apply. */
const isSound = ({ n, e, d, p, q }: RsaNumbers): boolean => {
  const half = Math.floor(bitLength(n) / 2);
  return (
    n % 2n === 1n &&
    e >= 2n &&
    e < 2n ** 31n &&
    d < n &&
    p > 2n &&
    q > 2n &&
    p * q === n &&
    (d * e) % (p - 1n) === 1n &&
    (d * e) % (q - 1n) === 1n &&
    bitLength(p > q ? p - q : q - p) > half - 100 &&
    bitLength(d) > half
  );
};

/** The further numbers of a sound key. Throws `BuiltinError` for another key, and when those given are not its own. */
export const crtValues = (key: RsaNumbers, given: CrtValues | undefined): CrtValues => {
  if ([key.n, key.d, key.p, key.q].some((number) => bitLength(number) > MAX_RSA_BITS))
    throw new BuiltinHalt('an RSA key larger than is computed with here');
  const { d, p, q } = key;
  if (isSound(key)) {
    const own = { dp: d % (p - 1n), dq: d % (q - 1n), qi: inverse(q, p) };
    if (given === undefined || (given.dp === own.dp && given.dq === own.dq && given.qi === own.qi)) return own;
  }
  throw new BuiltinError('an RSA key that is not sound');
};
