/** A set of whole numbers, kept as inclusive ranges: numbers that come in order cost nothing. */
export interface NumberSet {
  /** False when all of it was in the set before. */
  add(from: bigint, to?: bigint): boolean;
  has(value: bigint): boolean;
  /** The parts of `from`–`to` that are not in the set. */
  missing(from: bigint, to: bigint): readonly (readonly [from: bigint, to: bigint])[];
  ranges(): readonly (readonly [from: bigint, to: bigint])[];
  /** The highest number, undefined when empty. */
  max(): bigint | undefined;
}

export type Ranges = readonly (readonly [from: bigint, to: bigint])[];

/** Begins with what `ranges()` of another said, else with nothing. */
export const createNumberSet = (begin: Ranges = []): NumberSet => {
  const ranges: [bigint, bigint][] = begin.map(([first, last]) => [first, last]);

  /** Index of the first range that ends at or after `value`. */
  const indexOf = (value: bigint): number => {
    let low = 0;
    let high = ranges.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      const range = ranges[middle];
      if (range !== undefined && range[1] < value) low = middle + 1;
      else high = middle;
    }
    return low;
  };

  const missing = (from: bigint, to: bigint): readonly (readonly [bigint, bigint])[] => {
    const out: [bigint, bigint][] = [];
    let next = from;
    for (let i = indexOf(from); next <= to; i += 1) {
      const range = ranges[i];
      if (range === undefined || range[0] > to) {
        out.push([next, to]);
        break;
      }
      if (range[0] > next) out.push([next, range[0] - 1n]);
      if (range[1] >= next) next = range[1] + 1n;
    }
    return out;
  };

  return {
    add(from, to = from) {
      if (to < from) return false;
      const last = ranges.at(-1);
      if (last !== undefined && from === last[1] + 1n) {
        last[1] = to;
        return true;
      }
      const isNew = missing(from, to).length > 0;
      if (!isNew) return false;
      // Everything that touches the new range, also end to end, becomes one with it.
      const start = indexOf(from - 1n);
      let end = start;
      let [low, high] = [from, to];
      for (let range = ranges[end]; range !== undefined && range[0] <= to + 1n; range = ranges[end]) {
        if (range[0] < low) low = range[0];
        if (range[1] > high) high = range[1];
        end += 1;
      }
      ranges.splice(start, end - start, [low, high]);
      return true;
    },
    has: (value) => missing(value, value).length === 0,
    missing,
    ranges: () => ranges,
    max: () => ranges.at(-1)?.[1],
  };
};
