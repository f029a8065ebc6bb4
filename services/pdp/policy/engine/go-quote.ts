const PRINTABLE = /^[\p{L}\p{M}\p{N}\p{P}\p{S} ]$/u;

/** Whether Go (`strconv.IsPrint`) shows the character itself inside quotes. */
export const isPrintable = (codePoint: number): boolean =>
  codePoint < 0x7f
    ? codePoint >= 0x20
    : codePoint <= 0x10ffff && !isSurrogate(codePoint) && PRINTABLE.test(String.fromCodePoint(codePoint));

const isSurrogate = (codePoint: number): boolean => codePoint >= 0xd800 && codePoint < 0xe000;

const ESCAPES: Readonly<Record<string, string>> = {
  '\u0007': '\\a',
  '\b': '\\b',
  '\f': '\\f',
  '\n': '\\n',
  '\r': '\\r',
  '\t': '\\t',
  '\v': '\\v',
  '\\': '\\\\',
};

const hex = (value: number, digits: number): string => value.toString(16).padStart(digits, '0');

const escapeCharacter = (character: string, quote: string, asciiOnly: boolean): string => {
  if (character === quote) return `\\${character}`;
  const escape = ESCAPES[character];
  if (escape !== undefined) return escape;
  const codePoint = character.codePointAt(0) ?? 0;
  if ((codePoint < 0x80 || !asciiOnly) && isPrintable(codePoint)) return character;
  if (codePoint < 0x80) return `\\x${hex(codePoint, 2)}`;
  return codePoint < 0x10000 ? `\\u${hex(codePoint, 4)}` : `\\U${hex(codePoint, 8)}`;
};

// Most texts hold nothing to escape.
const PLAIN = /^[ !#-[\]-~]*$/;

/** A Go string literal (`strconv.Quote`), in ASCII if asked for. */
export const quoteGo = (text: string, asciiOnly = false): string => {
  if (PLAIN.test(text)) return `"${text}"`;
  let quoted = '"';
  for (const character of text) quoted += escapeCharacter(character, '"', asciiOnly);
  return `${quoted}"`;
};

/** A Go character literal (`strconv.QuoteRune`); no character becomes U+FFFD. */
export const quoteGoRune = (character: string, asciiOnly: boolean): string =>
  `'${escapeCharacter(character, "'", asciiOnly)}'`;

/** Whether the text can stand between backquotes in Go. */
export const canBackquote = (text: string): boolean => {
  for (const character of text) {
    const codePoint = character.codePointAt(0) ?? 0;
    if ((codePoint < 0x20 && character !== '\t') || character === '`' || codePoint === 0x7f || codePoint === 0xfeff)
      return false;
  }
  return true;
};

/** The character with this number, U+FFFD where there is none. */
export const runeOf = (codePoint: bigint): string =>
  codePoint < 0n || codePoint > 0x10ffffn || isSurrogate(Number(codePoint))
    ? '\ufffd'
    : String.fromCodePoint(Number(codePoint));
