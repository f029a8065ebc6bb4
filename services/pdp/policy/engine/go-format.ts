import { BuiltinHalt, MAX_TEXT } from './builtin.ts';
import { formatFloat } from './go-float.ts';
import { canBackquote, isPrintable, quoteGo, quoteGoRune, runeOf } from './go-quote.ts';
import { DIRECTIVE, digitsCost, FLOAT_DIRECTIVE, type Spend } from './prices.ts';

/** What Go's `fmt` is given: an integer (`int64`, beyond it `*big.Int`), a `float64`, a string, a bool. */
export type FormatArgument = bigint | number | string | boolean;

interface Flags {
  minus: boolean;
  plus: boolean;
  sharp: boolean;
  space: boolean;
  zero: boolean;
  plusV: boolean;
  sharpV: boolean;
  width: number | undefined;
  precision: number | undefined;
}

const noFlags = (): Flags => ({
  minus: false,
  plus: false,
  sharp: false,
  space: false,
  zero: false,
  plusV: false,
  sharpV: false,
  width: undefined,
  precision: undefined,
});

const isInt64 = (value: bigint): boolean => value >= -(1n << 63n) && value < 1n << 63n;

const typeName = (value: FormatArgument): string => {
  switch (typeof value) {
    case 'bigint':
      return isInt64(value) ? 'int64' : '*big.Int';
    case 'number':
      return 'float64';
    case 'boolean':
      return 'bool';
    case 'string':
      return 'string';
    default:
      return value satisfies never;
  }
};

/** Characters, as Go counts a width: code points. */
const lengthOf = (text: string): number => {
  let length = text.length;
  for (let i = 0; i < text.length; i += 1) {
    const code = text.charCodeAt(i);
    if (code >= 0xdc00 && code < 0xe000) length -= 1;
  }
  return length;
};

const pad = (text: string, flags: Flags, fill = flags.zero ? '0' : ' '): string => {
  const missing = (flags.width ?? 0) - lengthOf(text);
  if (missing <= 0) return text;
  return flags.minus ? text + ' '.repeat(missing) : fill.repeat(missing) + text;
};

const cut = (text: string, precision: number | undefined): string => {
  if (precision === undefined || precision >= text.length) return text;
  let end = 0;
  for (let count = 0; count < precision && end < text.length; count += 1)
    end += (text.codePointAt(end) ?? 0) > 0xffff ? 2 : 1;
  return text.slice(0, end);
};

const BASES: Readonly<Record<string, number>> = { v: 10, d: 10, b: 2, o: 8, O: 8, x: 16, X: 16 };

const signOf = (isNegative: boolean, flags: Flags): string => {
  if (isNegative) return '-';
  if (flags.plus) return '+';
  return flags.space ? ' ' : '';
};

const integerText = (value: bigint, base: number, verb: string, flags: Flags): string => {
  const isNegative = value < 0n;
  if (flags.precision === 0 && value === 0n) return ' '.repeat(flags.width ?? 0);
  let digits = (isNegative ? -value : value).toString(base);
  if (verb === 'X') digits = digits.toUpperCase();
  const sign = signOf(isNegative, flags);
  if (flags.precision !== undefined) digits = digits.padStart(flags.precision, '0');
  else if (flags.zero && !flags.minus && flags.width !== undefined)
    digits = digits.padStart(flags.width - sign.length, '0');
  if (flags.sharp) {
    if (base === 2) digits = `0b${digits}`;
    if (base === 8 && !digits.startsWith('0')) digits = `0${digits}`;
    if (base === 16) digits = (verb === 'X' ? '0X' : '0x') + digits;
  }
  if (verb === 'O') digits = `0o${digits}`;
  return pad(sign + digits, flags, ' ');
};

const unicodeText = (value: bigint, flags: Flags): string => {
  const unsigned = BigInt.asUintN(64, value);
  const digits = unsigned
    .toString(16)
    .toUpperCase()
    .padStart(Math.max(flags.precision ?? 4, 4), '0');
  const isShown = flags.sharp && unsigned <= 0x10ffffn && isPrintable(Number(unsigned));
  return pad(`U+${digits}${isShown ? ` '${runeOf(unsigned)}'` : ''}`, flags, ' ');
};

/** `big.Int` formats itself, by rules of its own. */
const bigIntegerText = (value: bigint, verb: string, flags: Flags): string => {
  const base = verb === 's' ? 10 : BASES[verb];
  if (base === undefined) return `%!${verb}(big.Int=${value})`;
  let digits = (value < 0n ? -value : value).toString(base);
  if (verb === 'X') digits = digits.toUpperCase();
  const sign = signOf(value < 0n, { ...flags, plus: flags.plus || flags.plusV });
  const prefixes: Readonly<Record<string, string>> = { b: '0b', o: '0', x: '0x', X: '0X' };
  let prefix = flags.sharp || flags.sharpV ? (prefixes[verb] ?? '') : '';
  if (verb === 'O') prefix = '0o';
  if (flags.precision !== undefined) digits = digits.padStart(flags.precision, '0');
  const missing = Math.max((flags.width ?? 0) - sign.length - prefix.length - digits.length, 0);
  if (flags.minus) return sign + prefix + digits + ' '.repeat(missing);
  if (flags.zero && flags.precision === undefined) return sign + prefix + '0'.repeat(missing) + digits;
  return ' '.repeat(missing) + sign + prefix + digits;
};

/** The point and the zeros that `#` asks to keep. */
const sharpened = (number: string, verb: string, precision: number): string => {
  const mark = verb === 'x' || verb === 'X' ? /[pP]/ : /[eE]/;
  const at = number.search(mark);
  let body = at < 0 ? number : number.slice(0, at);
  const tail = at < 0 ? '' : number.slice(at);
  let missing = 0;
  if ('gGx'.includes(verb)) {
    missing = precision < 0 ? 6 : precision;
    const significant = body.replace('.', '').replace(/^0+/, '');
    missing -= significant.length;
  }
  if (!body.includes('.')) {
    if (body === '0') missing -= 1;
    body += '.';
  }
  return body + '0'.repeat(Math.max(missing, 0)) + tail;
};

const floatText = (value: number, verb: string, flags: Flags, defaultPrecision: number): string => {
  const precision = flags.precision ?? defaultPrecision;
  const plain = formatFloat(value, verb, precision);
  const isNegative = plain.startsWith('-');
  let sign = isNegative ? '-' : '+';
  let number = isNegative ? plain.slice(1) : plain;
  if (flags.space && sign === '+' && !flags.plus) sign = ' ';
  if (flags.sharp && verb !== 'b') number = sharpened(number, verb, precision);
  if (!flags.plus && sign === '+') return pad(number, flags);
  if (flags.zero && !flags.minus && flags.width !== undefined) return sign + number.padStart(flags.width - 1, '0');
  return pad(sign + number, flags);
};

const hexText = (text: string, verb: string, flags: Flags): string => {
  // A unit is a byte at least; with one more, the last that counts is no half of a pair.
  const all = Buffer.from(flags.precision === undefined ? text : text.slice(0, flags.precision + 1), 'utf8');
  const bytes = flags.precision === undefined ? all : all.subarray(0, flags.precision);
  if (bytes.length === 0) return pad('', flags);
  const prefix = flags.sharp ? '0x' : '';
  const digits = bytes.toString('hex');
  const hex = prefix + (flags.space ? (digits.match(/../g) ?? []).join(` ${prefix}`) : digits);
  return pad(verb === 'X' ? hex.toUpperCase() : hex, flags);
};

const quotedText = (text: string, flags: Flags): string => {
  const short = cut(text, flags.precision);
  return pad(flags.sharp && canBackquote(short) ? `\`${short}\`` : quoteGo(short, flags.plus), flags);
};

const wrongVerb = (value: FormatArgument, verb: string, flags: Flags): string => {
  const shown =
    typeof value === 'bigint' && !isInt64(value)
      ? `&{${value < 0n} [${words(value)}]}`
      : argumentText(value, 'v', flags);
  return `%!${verb}(${typeName(value)}=${shown})`;
};

/** The machine words of a big integer, lowest first, which Go shows where it does not let the integer format itself. */
const words = (value: bigint): string => {
  const list: string[] = [];
  for (let rest = value < 0n ? -value : value; rest > 0n; rest >>= 64n) list.push(String(BigInt.asUintN(64, rest)));
  return list.join(' ');
};

const integerArgument = (value: bigint, verb: string, flags: Flags): string => {
  if (!isInt64(value))
    return verb === 'w' || verb === 'p' ? wrongVerb(value, verb, flags) : bigIntegerText(value, verb, flags);
  const base = BASES[verb];
  if (base !== undefined) return integerText(value, base, verb, flags);
  switch (verb) {
    case 'c':
      return pad(runeOf(value), flags);
    case 'q':
      return pad(quoteGoRune(runeOf(value), flags.plus), flags);
    case 'U':
      return unicodeText(value, flags);
    default:
      return wrongVerb(value, verb, flags);
  }
};

const floatArgument = (value: number, verb: string, flags: Flags): string => {
  switch (verb) {
    case 'v':
      return floatText(value, 'g', flags, -1);
    case 'b':
    case 'g':
    case 'G':
    case 'x':
    case 'X':
      return floatText(value, verb, flags, -1);
    case 'f':
    case 'e':
    case 'E':
      return floatText(value, verb, flags, 6);
    case 'F':
      return floatText(value, 'f', flags, 6);
    default:
      return wrongVerb(value, verb, flags);
  }
};

const stringArgument = (value: string, verb: string, flags: Flags): string => {
  switch (verb) {
    case 'v':
      return flags.sharpV ? quotedText(value, flags) : pad(cut(value, flags.precision), flags);
    case 's':
      return pad(cut(value, flags.precision), flags);
    case 'x':
    case 'X':
      return hexText(value, verb, flags);
    case 'q':
      return quotedText(value, flags);
    default:
      return wrongVerb(value, verb, flags);
  }
};

const argumentText = (value: FormatArgument, verb: string, flags: Flags): string => {
  if (verb === 'T') return pad(cut(typeName(value), flags.precision), flags);
  switch (typeof value) {
    case 'bigint':
      return integerArgument(value, verb, flags);
    case 'number':
      return floatArgument(value, verb, flags);
    case 'boolean':
      return verb === 't' || verb === 'v' ? pad(String(value), flags) : wrongVerb(value, verb, flags);
    case 'string':
      return stringArgument(value, verb, flags);
    default:
      return value satisfies never;
  }
};

const MAX_WIDTH = 1_000_000;

/** Go's `fmt.Sprintf`. Throws `BuiltinHalt` when the text becomes too long. */
export const formatGo = (format: string, args: readonly FormatArgument[], spend: Spend): string => {
  let out = '';
  let at = 0;
  let next = 0;
  let isReordered = false;
  let isGoodIndex = true;
  let isAfterIndex = false;

  const write = (text: string): void => {
    spend(text.length);
    if (out.length + text.length > MAX_TEXT) throw new BuiltinHalt('a formatted text that is too long');
    out += text;
  };
  const shown = (value: FormatArgument, verb: string, flags: Flags): string => {
    spend(typeof value === 'number' ? FLOAT_DIRECTIVE : DIRECTIVE);
    if (typeof value === 'bigint' && !isInt64(value)) spend(digitsCost(value.toString(16).length));
    return argumentText(value, verb, flags);
  };
  /** Decimal digits before `end`; a crazy number swallows the rest, as in Go. */
  const number = (end: number): number | undefined => {
    let value: number | undefined;
    for (; at < end; at += 1) {
      const digit = format.charCodeAt(at) - 0x30;
      if (!(digit >= 0 && digit <= 9)) break;
      if ((value ?? 0) > MAX_WIDTH) {
        at = end;
        return undefined;
      }
      value = (value ?? 0) * 10 + digit;
    }
    return value;
  };
  /** `[n]`: the argument to take next. */
  const argumentIndex = (): void => {
    isAfterIndex = false;
    if (format.charAt(at) !== '[') return;
    isReordered = true;
    const start = at;
    const close = format.length - start < 3 ? -1 : format.indexOf(']', start);
    if (close < 0) {
      at = start + 1;
      isGoodIndex = false;
      return;
    }
    at = start + 1;
    const index = number(close);
    const isNumber = index !== undefined && at === close;
    at = close + 1;
    isAfterIndex = isNumber;
    if (isNumber && index >= 1 && index <= args.length) next = index - 1;
    else isGoodIndex = false;
  };
  /** `*`: a width or precision from the arguments. */
  const starred = (): number | undefined => {
    at += 1;
    isAfterIndex = false;
    const value = args[next];
    if (next < args.length) next += 1;
    return typeof value === 'bigint' && value <= MAX_WIDTH && value >= -MAX_WIDTH ? Number(value) : undefined;
  };
  const width = (flags: Flags): void => {
    if (format.charAt(at) === '*') {
      flags.width = starred();
      if (flags.width === undefined) write('%!(BADWIDTH)');
      else if (flags.width < 0) {
        flags.width = -flags.width;
        flags.minus = true;
        flags.zero = false;
      }
      return;
    }
    flags.width = number(format.length);
    if (isAfterIndex && flags.width !== undefined) isGoodIndex = false;
  };
  const precision = (flags: Flags): void => {
    if (at + 1 >= format.length || format.charAt(at) !== '.') return;
    at += 1;
    if (isAfterIndex) isGoodIndex = false;
    argumentIndex();
    if (format.charAt(at) === '*') {
      flags.precision = starred();
      if (flags.precision !== undefined && flags.precision < 0) flags.precision = undefined;
      if (flags.precision === undefined) write('%!(BADPREC)');
    } else flags.precision = number(format.length) ?? 0;
  };
  const readFlags = (): Flags => {
    const flags = noFlags();
    for (; ; at += 1) {
      const mark = format.charAt(at);
      if (mark === '#') flags.sharp = true;
      else if (mark === '0') flags.zero = true;
      else if (mark === '+') flags.plus = true;
      else if (mark === '-') flags.minus = true;
      else if (mark === ' ') flags.space = true;
      else return flags;
    }
  };
  const directive = (): void => {
    isGoodIndex = true;
    const flags = readFlags();
    argumentIndex();
    width(flags);
    precision(flags);
    if (!isAfterIndex) argumentIndex();
    const codePoint = format.codePointAt(at);
    if (codePoint === undefined) {
      write('%!(NOVERB)');
      return;
    }
    const verb = String.fromCodePoint(codePoint);
    at += verb.length;
    const value = args[next];
    if (verb === '%') write('%');
    else if (!isGoodIndex) write(`%!${verb}(BADINDEX)`);
    else if (value === undefined) write(`%!${verb}(MISSING)`);
    else {
      if (verb === 'v' || verb === 'w') {
        flags.sharpV = flags.sharp;
        flags.sharp = false;
        flags.plusV = flags.plus;
        flags.plus = false;
      }
      write(shown(value, verb, flags));
      next += 1;
    }
  };

  while (at < format.length) {
    const percent = format.indexOf('%', at);
    write(format.slice(at, percent < 0 ? format.length : percent));
    if (percent < 0) break;
    at = percent + 1;
    directive();
  }
  if (!isReordered && next < args.length) {
    const extra = args.slice(next).map((value) => `${typeName(value)}=${shown(value, 'v', noFlags())}`);
    write(`%!(EXTRA ${extra.join(', ')})`);
  }
  return out;
};
