import { BuiltinError, BuiltinHalt } from './builtin.ts';

type Range = readonly [first: number, last: number];

/** What one place of a glob may hold: any character, or one of these; once, or as often as the flag says. */
interface Token {
  readonly kind: 'any' | 'character' | 'set';
  /** Sorted, apart from each other. */
  readonly ranges: readonly Range[];
  readonly flag: '' | '*' | '+';
}

// The table below has a field for each pair of tokens.
const MAX_PAIRS = 4_000_000;

const fail = (why: string): never => {
  throw new BuiltinError(why);
};

const merged = (ranges: readonly Range[]): readonly Range[] => {
  const out: Range[] = [];
  for (const range of [...ranges].sort((a, b) => a[0] - b[0])) {
    const last = out.at(-1);
    if (last !== undefined && range[0] <= last[1] + 1) out[out.length - 1] = [last[0], Math.max(last[1], range[1])];
    else out.push(range);
  }
  return out;
};

const codePointOf = (character: string | undefined): number => character?.codePointAt(0) ?? fail('the glob ends early');

/** `a`, `.`, `[a-c]`, each with `*` or `+` behind it, and `\` before what stands for itself. */
const tokensOf = (glob: string): readonly Token[] => {
  const characters = Array.from(glob);
  let at = 0;
  const escapable = (): { readonly code: number; readonly isEscaped: boolean } => {
    const isEscaped = characters[at] === '\\';
    if (isEscaped) at += 1;
    const code = codePointOf(characters[at]);
    at += 1;
    return { code, isEscaped };
  };
  const set = (): readonly Range[] => {
    const ranges: Range[] = [];
    let previous: number | undefined;
    for (;;) {
      const { code, isEscaped } = escapable();
      if (!isEscaped && code === 0x5d) return merged(ranges);
      if (isEscaped || code !== 0x2d) {
        ranges.push([code, code]);
        previous = code;
        continue;
      }
      if (previous === undefined || at >= characters.length - 1) return fail('a range lacks an end');
      const end = escapable();
      if (!end.isEscaped && (end.code === 0x5d || end.code === 0x2d)) fail('a range lacks an end');
      if (end.code < previous) fail('a range is out of order');
      ranges.push([previous, end.code]);
      previous = undefined;
    }
  };
  const token = (): Omit<Token, 'flag'> => {
    const { code, isEscaped } = escapable();
    if (isEscaped) return { kind: 'character', ranges: [[code, code]] };
    switch (String.fromCodePoint(code)) {
      case '.':
        return { kind: 'any', ranges: [] };
      case '[':
        return { kind: 'set', ranges: set() };
      case ']':
      case '*':
      case '+':
        return fail('a special character in a wrong place');
      default:
        return { kind: 'character', ranges: [[code, code]] };
    }
  };
  const tokens: Token[] = [];
  while (at < characters.length) {
    const single = token();
    const mark = characters[at];
    const flag = mark === '*' || mark === '+' ? mark : '';
    if (flag !== '') at += 1;
    tokens.push({ ...single, flag });
  }
  return tokens;
};

const isSame = (a: Token, b: Token): boolean =>
  a.kind === b.kind &&
  a.ranges.length === b.ranges.length &&
  a.ranges.every(([first, last], i) => first === b.ranges[i]?.[0] && last === b.ranges[i]?.[1]);

/** `a*a+` is `a+`. */
const simplified = (tokens: readonly Token[]): readonly Token[] => {
  const out: Token[] = [];
  for (const token of tokens) {
    const last = out.at(-1);
    if (last !== undefined && last.flag !== '' && token.flag !== '' && isSame(last, token))
      out[out.length - 1] = { ...last, flag: last.flag === '+' || token.flag === '+' ? '+' : '*' };
    else out.push(token);
  }
  return out;
};

const isMatch = (a: Token | undefined, b: Token | undefined): boolean => {
  if (a === undefined || b === undefined) return false;
  if (a.kind === 'any' || b.kind === 'any') return true;
  let [i, j] = [0, 0];
  for (;;) {
    const [x, y] = [a.ranges[i], b.ranges[j]];
    if (x === undefined || y === undefined) return false;
    if (x[1] < y[0]) i += 1;
    else if (y[1] < x[0]) j += 1;
    else return true;
  }
};

type Globs = readonly [readonly Token[], readonly Token[]];

/** Cuts off what both begin and end with, all but one token; undefined when that differs. */
const trimmed = ([a, b]: Globs): Globs | undefined => {
  const isPlain = (i: number, j: number): boolean => a[i]?.flag === '' && b[j]?.flag === '';
  let start = 0;
  for (; isPlain(start, start); start += 1) if (!isMatch(a[start], b[start])) return undefined;
  start = Math.max(start - 1, 0);
  let [i, j] = [a.length - 1, b.length - 1];
  for (; i >= start && j >= start && isPlain(i, j); i -= 1, j -= 1) if (!isMatch(a[i], b[j])) return undefined;
  if (i < a.length - 1) [i, j] = [i + 1, j + 1];
  return [a.slice(start, i + 1), b.slice(start, j + 1)];
};

/** What is known about the rest of both globs; `[0]` with the first glob in the lead, `[1]` with the second. */
interface Cell {
  /** The rests have a string in common. */
  readonly common: readonly [boolean, boolean];
  /** The same when the leading rest may first repeat its first token as often as it likes. */
  readonly repeated: readonly [boolean, boolean];
}

const NOTHING: Cell = { common: [false, false], repeated: [false, false] };

const cellOf = (globs: Globs, i: number, j: number, right: Cell, below: Cell, beyond: Cell): Cell => {
  const [a, b] = globs;
  const current = [a[i], b[j]] as const;
  const following = [a[i + 1], b[j + 1]] as const;
  const isMatching = isMatch(...current);
  // With glob `lead` ahead: one token further in it, and one further in the other.
  const inLead = [below, right] as const;
  const inOther = [right, below] as const;
  const repeated = (lead: 0 | 1): boolean => {
    if (current[lead] === undefined) return false;
    if (current[1 - lead] === undefined) return following[lead] === undefined;
    if (isMatch(following[lead], current[1 - lead]) && inLead[lead].common[lead]) return true;
    return isMatching && inOther[lead].repeated[lead];
  };
  const star = [repeated(0), repeated(1)] as const;
  const special = (lead: 0 | 1): boolean => {
    if (current[lead]?.flag === '*') return star[lead];
    if (!isMatching) return false;
    return inOther[lead].repeated[lead] || (current[1 - lead]?.flag !== '' && inLead[lead].common[lead]);
  };
  const common = (first: 0 | 1): boolean => {
    const second = first === 0 ? 1 : 0;
    const [x, y] = [current[first], current[second]];
    if (x === undefined || y === undefined) return x === y;
    if (x.flag !== '') return special(first);
    if (y.flag !== '') return special(second);
    return isMatching && beyond.common[first];
  };
  return { common: [common(0), common(1)], repeated: star };
};

/**
 * Whether some string matches both globs, by the rules of the library that OPA uses, which differ a little from those
 * of languages (`""` and `a*` have nothing in common). A table from the ends backwards: the library's own search takes
 * exponential time.
 */
export const globsIntersect = (first: string, second: string): boolean => {
  if (first.length * second.length > MAX_PAIRS) throw new BuiltinHalt('globs that are too long');
  const globs = trimmed([simplified(tokensOf(first)), simplified(tokensOf(second))]);
  if (globs === undefined) return false;
  const [a, b] = globs;
  let below: readonly Cell[] = [];
  for (let i = a.length; i >= 0; i -= 1) {
    const row = Array.from({ length: b.length + 1 }, () => NOTHING);
    for (let j = b.length; j >= 0; j -= 1)
      row[j] = cellOf(globs, i, j, row[j + 1] ?? NOTHING, below[j] ?? NOTHING, below[j + 1] ?? NOTHING);
    below = row;
  }
  return below[0]?.common[0] ?? false;
};
