import { BuiltinError } from './builtin.ts';
import { jsonText } from './json-form.ts';
import { isTimestamp, resolveScalar, yamlFloat } from './yaml-scalar.ts';
import { isArray, numberText, RegoNumber, RegoObject, type Value } from './value.ts';

/** What YAML 1.1 takes for a boolean; go-yaml still writes it in quotes. */
const OLD_BOOLEAN = /^(?:[yYnN]|yes|Yes|YES|on|On|ON|no|No|NO|off|Off|OFF)$/;
const BASE_60 = /^[-+]?[0-9][0-9_]*(?::[0-5]?[0-9])+(?:\.[0-9_]*)?$/;

const BREAK = '\\n\\r\\u0085\\u2028\\u2029';
/** libyaml's printable characters; no character beyond the first plane is one. */
const SPECIAL = /[^\n\t\u0020-\u007e\u00a0-\ud7ff\ue000-\ufefe\uff00-\ufffd]/;
const INDICATOR = new RegExp(`^---|^\\.\\.\\.|^[#,[\\]{}&*!|>'"%@\`]|^[-?](?=[ \\t]|$)|:(?=[ \\t]|$)|[ \\t${BREAK}]#`);
const EDGE = new RegExp(`^[ ${BREAK}]|[ ${BREAK}]$`);
const BREAK_SPACE = new RegExp(`[${BREAK}] `);
const SPACE_BREAK = new RegExp(` [${BREAK}]`);
const ANY_BREAK = new RegExp(`[${BREAK}]`);

/** The longest key, in bytes, that stands before its colon without a `?`. */
const MAX_SIMPLE_KEY = 128;

/** The longest key, in characters of JSON text, that go-yaml's reader takes. */
const MAX_READ_KEY = 1024;

const ESCAPES: ReadonlyMap<string, string> = new Map([
  ['\0', '0'],
  ['\u0007', 'a'],
  ['\b', 'b'],
  ['\n', 'n'],
  ['\v', 'v'],
  ['\f', 'f'],
  ['\r', 'r'],
  ['\u001b', 'e'],
  ['"', '"'],
  ['\\', '\\'],
  ['\u0085', 'N'],
  ['\u2028', 'L'],
  ['\u2029', 'P'],
]);

const escaped = (character: string): string => {
  const short = ESCAPES.get(character);
  if (short !== undefined) return `\\${short}`;
  const code = (character.codePointAt(0) ?? 0).toString(16).toUpperCase();
  if (code.length <= 2) return `\\x${code.padStart(2, '0')}`;
  return code.length <= 4 ? `\\u${code.padStart(4, '0')}` : `\\U${code.padStart(8, '0')}`;
};

// A tab is not printable to libyaml, either. Behind a byte order mark it writes every character as an escape.
const doubleQuoted = (value: string): string => {
  const pattern = value.startsWith('\ufeff')
    ? /[^]/gu
    : /[^\u0020-\u007e\u00a0-\ud7ff\ue000-\ufefe\uff00-\ufffd]|["\\\u2028\u2029]/gu;
  return `"${value.replace(pattern, (character) => (character === '\t' ? '\\t' : escaped(character)))}"`;
};

const singleQuoted = (value: string, indent: string): string =>
  `'${value.replaceAll("'", "''").replace(/[\u2028\u2029]+(?=[^\u2028\u2029])/g, (breaks) => breaks + indent)}'`;

const literal = (value: string, indent: string): string => {
  const hint = /^[ \n\u2028\u2029]/.test(value) ? '2' : '';
  const chomp = !/[\n\u2028\u2029]$/.test(value) ? '-' : /^.$|[\n\u2028\u2029].$/su.test(value) ? '+' : '';
  const lines = value.replace(/(^|[\n\u2028\u2029])(?=[^\n\u2028\u2029])/g, (all) => all + indent);
  return `|${hint}${chomp}\n${lines.replace(/\n$/, '')}`;
};

/** A string as go-yaml writes it; `indent` is that of its further lines. */
const scalarText = (value: string, indent: string, isSimpleKey: boolean): string => {
  const isSpecial = SPECIAL.test(value);
  const hasBreakSpace = BREAK_SPACE.test(value);
  const hasSpaceBreak = SPACE_BREAK.test(value);
  const hasBreak = ANY_BREAK.test(value);
  if (hasBreak && isSimpleKey) return doubleQuoted(value);
  if (value.includes('\n')) {
    const isBlock = !value.endsWith(' ') && !hasSpaceBreak && !isSpecial;
    return isBlock ? literal(value, indent) : doubleQuoted(value);
  }
  const isText = resolveScalar(value).tag === 'str' && !isTimestamp(value);
  if (!isText || BASE_60.test(value) || OLD_BOOLEAN.test(value)) return doubleQuoted(value);
  if (hasBreakSpace || hasSpaceBreak || isSpecial || value.includes('\t')) return doubleQuoted(value);
  return hasBreak || EDGE.test(value) || INDICATOR.test(value) ? singleQuoted(value, indent) : value;
};

const numberScalar = (text: string): string => {
  const scalar = resolveScalar(text);
  if (scalar.tag === 'int') return scalar.value.toString();
  // Beyond a double's range it stays the text.
  return scalar.tag === 'float' ? yamlFloat(scalar.value) : text;
};

/** go-yaml reads the value as JSON text first, and refuses some characters there. */
const readable = (value: string): string => {
  if (/[\u007f-\u0084\u0086-\u009f\ufffe\uffff]/.test(value))
    throw new BuiltinError('control characters are not allowed');
  if (!value.includes('\u0085')) return value;
  // To the reader it is a line break, which it folds.
  const [first = '', ...rest] = value.split('\u0085').map((line, index, lines) => {
    let [start, end] = [0, line.length];
    while (index > 0 && line.charAt(start) === ' ') start += 1;
    while (index < lines.length - 1 && end > start && line.charAt(end - 1) === ' ') end -= 1;
    return line.slice(start, end);
  });
  let folded = first;
  let breaks = 0;
  for (const [index, line] of rest.entries()) {
    breaks += 1;
    if (line === '' && index < rest.length - 1) continue;
    folded += (breaks === 1 ? ' ' : '\n'.repeat(breaks - 1)) + line;
    breaks = 0;
  }
  return folded;
};

const LETTER = /^\p{L}$/u;
const DIGIT = /^\p{Nd}$/u;

/** go-yaml's order of keys: runs of digits by value, letters after everything else. */
const compareKeys = (a: string, b: string): number => {
  const [x, y] = [Array.from(a), Array.from(b)];
  let isInDigits = false;
  for (let i = 0; i < x.length && i < y.length; i += 1) {
    const [p = '', q = ''] = [x[i], y[i]];
    if (p === q) {
      isInDigits = DIGIT.test(p);
      continue;
    }
    const [isLetterP, isLetterQ] = [LETTER.test(p), LETTER.test(q)];
    const byCode = (p.codePointAt(0) ?? 0) - (q.codePointAt(0) ?? 0);
    if (isLetterP && isLetterQ) return byCode;
    if (isLetterP || isLetterQ) return (isInDigits ? isLetterP : isLetterQ) ? -1 : 1;
    const [runP, runQ] = [digitRun(x, i), digitRun(y, i)];
    let base = 0n;
    if (p === '0' || q === '0') {
      for (let j = i - 1; j >= 0 && DIGIT.test(x[j] ?? ''); j -= 1) if (x[j] !== '0') base = 1n;
    }
    const [valueP, valueQ] = [runValue(base, runP), runValue(base, runQ)];
    if (valueP !== valueQ) return valueP < valueQ ? -1 : 1;
    return runP.length - runQ.length || byCode;
  }
  return x.length - y.length;
};

const digitRun = (text: readonly string[], from: number): readonly string[] => {
  let end = from;
  while (end < text.length && DIGIT.test(text[end] ?? '')) end += 1;
  return text.slice(from, end);
};

/** 64 bits that wrap, as in Go. */
const runValue = (base: bigint, digits: readonly string[]): bigint => {
  let value = base;
  for (const digit of digits) value = BigInt.asIntN(64, value * 10n + BigInt((digit.codePointAt(0) ?? 0) - 0x30));
  return value;
};

const isBlock = (value: Value): boolean =>
  value !== null &&
  typeof value === 'object' &&
  ((isArray(value) && value.length > 0) || (value instanceof RegoObject && value.entries.length > 0));

class Emitter {
  readonly parts: string[] = [];

  /** A scalar or an empty collection; it stands behind an indicator. */
  private leaf(value: Value, indent: number, isSimpleKey = false): string {
    if (value === null || typeof value === 'boolean') return String(value);
    if (typeof value === 'string') return scalarText(readable(value), ' '.repeat(indent), isSimpleKey);
    if (typeof value === 'number' || value instanceof RegoNumber) return numberScalar(numberText(value));
    return isArray(value) ? '[]' : '{}';
  }

  /** A collection whose first line has been begun, at this indent; or a leaf, whose further lines have it. */
  node(value: Value, indent: number): void {
    if (!isBlock(value)) {
      this.parts.push(this.leaf(value, indent));
      return;
    }
    const pad = `\n${' '.repeat(indent)}`;
    if (isArray(value)) {
      value.forEach((item, index) => {
        this.parts.push(index === 0 ? '- ' : `${pad}- `);
        this.node(item, indent + 2);
      });
      return;
    }
    if (!(value instanceof RegoObject)) return;
    this.members(value).forEach(([key, member], index) => {
      if (index > 0) this.parts.push(pad);
      this.member(key, member, indent);
    });
  }

  private members(value: RegoObject): readonly (readonly [string, Value])[] {
    const members = new Map<string, Value>();
    for (const [key, member] of value.entries) {
      if (typeof key !== 'string') continue;
      if (key.includes('\u0085') || Array.from(jsonText(key)).length > MAX_READ_KEY)
        throw new BuiltinError('no key of a mapping');
      members.set(readable(key), member);
    }
    return [...members].sort(([a], [b]) => compareKeys(a, b));
  }

  private member(key: string, member: Value, indent: number): void {
    const isSimple = !ANY_BREAK.test(key) && Buffer.byteLength(key, 'utf8') <= MAX_SIMPLE_KEY;
    if (!isSimple) {
      this.parts.push(`? ${this.leaf(key, indent + 2)}\n${' '.repeat(indent)}: `);
      this.node(member, indent + 2);
      return;
    }
    this.parts.push(`${this.leaf(key, indent + 2, true)}:`);
    this.parts.push(isBlock(member) ? `\n${' '.repeat(indent + 2)}` : ' ');
    this.node(member, indent + 2);
  }
}

/** The YAML text of a value in the form of `jsonForm`, as go-yaml v3 writes it with an indent of 2. */
export const emitYaml = (value: Value): string => {
  const emitter = new Emitter();
  // A block scalar at the root is indented, the root itself is not.
  emitter.node(value, isBlock(value) ? 0 : 2);
  return `${emitter.parts.join('')}\n`;
};
