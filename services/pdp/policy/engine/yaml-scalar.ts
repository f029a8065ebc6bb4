import { matchesLayout } from './go-time.ts';
import { numberOf, type Value } from './value.ts';

/** What an untagged plain scalar is (go-yaml v3's `resolve`): YAML 1.2's core schema with remains of 1.1. */
export type Scalar =
  | { readonly tag: 'null' }
  | { readonly tag: 'bool'; readonly value: boolean }
  | { readonly tag: 'int'; readonly value: bigint }
  | { readonly tag: 'float'; readonly value: number }
  | { readonly tag: 'str' };

const STRING: Scalar = { tag: 'str' };
const NULLS: ReadonlySet<string> = new Set(['', '~', 'null', 'Null', 'NULL']);
const TRUES: ReadonlySet<string> = new Set(['true', 'True', 'TRUE']);
const FALSES: ReadonlySet<string> = new Set(['false', 'False', 'FALSE']);
const NANS: ReadonlySet<string> = new Set(['.nan', '.NaN', '.NAN']);
const INFINITY = /^([+-]?)\.(?:inf|Inf|INF)$/;
const FLOAT = /^[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?$/;

/** More digits than any number of 64 bits has; a longer one is a float, or text. */
const MAX_DIGITS = 64;

/** Go's `ParseInt(text, 0, 64)`, then `ParseUint`: prefixes 0x, 0o, 0b, and 0 for octal. */
const goInteger = (text: string): bigint | undefined => {
  const [, sign = '', radix = '', digits = ''] =
    /^([+-]?)(0[xX]|0[oO]|0[bB]|0(?=[0-9])|)([0-9a-fA-F]+)$/.exec(text) ?? [];
  const significant = digits.replace(/^0+(?=.)/, '');
  if (significant === '' || significant.length > MAX_DIGITS) return undefined;
  const kind = radix === '0' ? 'o' : radix.charAt(1).toLowerCase();
  const alphabet = kind === 'x' ? /^[0-9a-f]+$/i : kind === 'o' ? /^[0-7]+$/ : kind === 'b' ? /^[01]+$/ : /^[0-9]+$/;
  if (!alphabet.test(significant)) return undefined;
  const magnitude = BigInt(kind === '' ? significant : `0${kind}${significant}`);
  if (sign === '-') return magnitude <= 1n << 63n ? -magnitude : undefined;
  // Go's unsigned numbers have no sign at all.
  return magnitude < (sign === '' ? 1n << 64n : 1n << 63n) ? magnitude : undefined;
};

export const resolveScalar = (text: string): Scalar => {
  if (NULLS.has(text)) return { tag: 'null' };
  if (TRUES.has(text)) return { tag: 'bool', value: true };
  if (FALSES.has(text)) return { tag: 'bool', value: false };
  if (NANS.has(text)) return { tag: 'float', value: NaN };
  const infinity = INFINITY.exec(text);
  if (infinity !== null) return { tag: 'float', value: infinity[1] === '-' ? -Infinity : Infinity };
  if (!/^[-+.0-9]/.test(text)) return STRING;
  const plain = text.startsWith('.') ? text : text.replaceAll('_', '');
  const integer = text.startsWith('.') ? undefined : goInteger(plain);
  if (integer !== undefined) return { tag: 'int', value: integer };
  const float = FLOAT.test(plain) ? Number(plain) : Infinity;
  return Number.isFinite(float) ? { tag: 'float', value: float } : STRING;
};

const TIMESTAMPS = [
  '2006-1-2T15:4:5.999999999Z07:00',
  '2006-1-2t15:4:5.999999999Z07:00',
  '2006-1-2 15:4:5.999999999',
  '2006-1-2',
] as const;

/** A date and time that go-yaml takes for YAML 1.1's timestamp: as a string it is written in quotes. */
export const isTimestamp = (text: string): boolean =>
  /^\d{4}-/.test(text) && TIMESTAMPS.some((layout) => matchesLayout(layout, text));

/** Go's `FormatFloat(x, 'g', -1)` of a finite number, `digits` the shortest that give it back. */
export const goGeneral = (exponential: string): string => {
  const [, sign = '', mantissa = '', exponentText = ''] = /^(-?)([\d.]+)e([+-]\d+)$/.exec(exponential) ?? [];
  const exponent = Number(exponentText);
  if (exponent >= -4 && exponent < 6) return sign + String(Number(`${mantissa}e${exponent}`));
  const size = String(Math.abs(exponent)).padStart(2, '0');
  return `${sign}${mantissa}e${exponent < 0 ? '-' : '+'}${size}`;
};

/** A float as go-yaml writes it. */
export const yamlFloat = (value: number): string => {
  if (Number.isNaN(value)) return '.nan';
  if (!Number.isFinite(value)) return value < 0 ? '-.inf' : '.inf';
  return Object.is(value, -0) ? '-0' : goGeneral(value.toExponential());
};

/** A float as the key of an object: go-yaml's way of writing it, in single precision. */
export const keyOfFloat = (value: number): string => {
  const single = Math.fround(value);
  if (!Number.isFinite(single) || single === 0) return yamlFloat(single);
  let digits = 0;
  while (digits < 8 && Math.fround(Number(single.toExponential(digits))) !== single) digits += 1;
  return goGeneral(single.toExponential(digits));
};

/** A finite float as Go's JSON writes it. */
export const jsonFloat = (value: number): Value => numberOf(Object.is(value, -0) ? '-0' : String(value));
