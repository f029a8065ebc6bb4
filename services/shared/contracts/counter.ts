export const U64_MAX = 2n ** 64n - 1n;

const COUNTER = /^(0|[1-9][0-9]{0,19})$/;

/** A u64 from its decimal text, else undefined. */
export const counterOf = (value: unknown): bigint | undefined => {
  if (typeof value !== 'string' || !COUNTER.test(value)) return undefined;
  const number = BigInt(value);
  return number <= U64_MAX ? number : undefined;
};
