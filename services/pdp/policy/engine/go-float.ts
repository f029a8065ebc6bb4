/** The decimal digits of a finite double: value = 0.digits × 10^point; no digits for zero. */
interface Digits {
  readonly digits: string;
  readonly point: number;
}

const bits = new DataView(new ArrayBuffer(8));

/** mantissa × 2^exponent, of the magnitude. */
const partsOf = (value: number): { readonly mantissa: bigint; readonly exponent: number } => {
  bits.setFloat64(0, value);
  const raw = bits.getBigUint64(0);
  const field = Number((raw >> 52n) & 0x7ffn);
  const fraction = raw & 0xfffffffffffffn;
  return field === 0
    ? { mantissa: fraction, exponent: -1074 }
    : { mantissa: fraction | (1n << 52n), exponent: field - 1075 };
};

const trimmed = (digits: string, point: number): Digits => {
  const shorter = digits.replace(/0+$/, '');
  return { digits: shorter, point: shorter === '' ? 0 : point };
};

/** The fewest digits that give the same double back. */
const shortestDigits = (value: number): Digits => {
  const [mantissa = '', exponent = '0'] = Math.abs(value).toExponential().split('e');
  return trimmed(mantissa.replace('.', ''), Number(exponent) + 1);
};

const exactDigits = (value: number): Digits => {
  const { mantissa, exponent } = partsOf(value);
  if (mantissa === 0n) return { digits: '', point: 0 };
  const whole = exponent < 0 ? mantissa * 5n ** BigInt(-exponent) : mantissa << BigInt(exponent);
  const digits = whole.toString();
  return trimmed(digits, digits.length + Math.min(exponent, 0));
};

/** To `keep` digits, ties to even: JavaScript's own `toFixed` rounds ties up. */
const roundDigits = ({ digits, point }: Digits, keep: number): Digits => {
  if (keep < 0) return { digits: '', point: 0 };
  if (keep >= digits.length) return { digits, point };
  const head = digits.slice(0, keep);
  const isTie = digits.slice(keep) === '5';
  const isUp = isTie ? keep > 0 && Number(digits.charAt(keep - 1)) % 2 === 1 : digits.charAt(keep) >= '5';
  if (!isUp) return trimmed(head, point);
  const raised = (BigInt(head === '' ? '0' : head) + 1n).toString();
  return trimmed(raised, point + (raised.length - head.length));
};

const exponentText = (value: number): string => `${value < 0 ? '-' : '+'}${String(Math.abs(value)).padStart(2, '0')}`;

const scientific = ({ digits, point }: Digits, precision: number, mark: string): string => {
  const first = digits === '' ? '0' : digits.charAt(0);
  const rest = precision > 0 ? `.${digits.slice(1, precision + 1).padEnd(precision, '0')}` : '';
  return `${first}${rest}${mark}${exponentText(digits === '' ? 0 : point - 1)}`;
};

const fixed = ({ digits, point }: Digits, precision: number): string => {
  const whole = point > 0 ? digits.slice(0, point).padEnd(point, '0') : '0';
  if (precision === 0) return whole;
  const fraction = '0'.repeat(Math.min(precision, Math.max(-point, 0))) + digits.slice(Math.max(point, 0));
  return `${whole}.${fraction.slice(0, precision).padEnd(precision, '0')}`;
};

const general = (value: number, precision: number, mark: string): string => {
  const isShortest = precision < 0;
  const wanted = precision === 0 ? 1 : precision;
  const number = isShortest ? shortestDigits(value) : roundDigits(exactDigits(value), wanted);
  const count = number.digits.length;
  let threshold = isShortest ? 6 : wanted;
  if (!isShortest && threshold > count && count >= number.point) threshold = count;
  const exponent = number.point - 1;
  if (exponent < -4 || exponent >= threshold)
    return scientific(number, (isShortest ? count : Math.min(wanted, count)) - 1, mark);
  return fixed(number, Math.max(count - number.point, 0));
};

const hexadecimal = (value: number, precision: number): string => {
  let { mantissa, exponent } = partsOf(value);
  exponent += 52;
  if (mantissa === 0n) exponent = 0;
  mantissa <<= 8n;
  while (mantissa !== 0n && mantissa < 1n << 60n) {
    mantissa <<= 1n;
    exponent -= 1;
  }
  if (precision >= 0 && precision < 15) {
    const dropped = BigInt(60 - precision * 4);
    const extra = mantissa & ((1n << dropped) - 1n);
    mantissa >>= dropped;
    const half = 1n << (dropped - 1n);
    if (extra > half || (extra === half && (mantissa & 1n) === 1n)) mantissa += 1n;
    mantissa <<= dropped;
    if (mantissa >= 1n << 61n) {
      mantissa >>= 1n;
      exponent += 1;
    }
  }
  const all = (mantissa & ((1n << 60n) - 1n)).toString(16).padStart(15, '0');
  const fraction = precision < 0 ? all.replace(/0+$/, '') : all.slice(0, precision).padEnd(precision, '0');
  return `0x${mantissa >> 60n}${fraction === '' ? '' : `.${fraction}`}p${exponentText(exponent)}`;
};

/**
 * A finite double as Go's `strconv.FormatFloat` writes it; `verb` is one of `beEfgGxX`, a negative precision asks for the
 * fewest digits that are exact (`g`, `x`).
 */
export const formatFloat = (value: number, verb: string, precision: number): string => {
  const sign = value < 0 || Object.is(value, -0) ? '-' : '';
  switch (verb) {
    case 'b': {
      const { mantissa, exponent } = partsOf(value);
      return `${sign}${mantissa}p${exponent < 0 ? '' : '+'}${exponent}`;
    }
    case 'e':
    case 'E':
      return sign + scientific(roundDigits(exactDigits(value), precision + 1), precision, verb);
    case 'f': {
      const digits = exactDigits(value);
      return sign + fixed(roundDigits(digits, digits.point + precision), precision);
    }
    case 'x':
      return sign + hexadecimal(value, precision);
    case 'X':
      return sign + hexadecimal(value, precision).toUpperCase();
    default:
      return sign + general(value, precision, verb === 'G' ? 'E' : 'e');
  }
};
