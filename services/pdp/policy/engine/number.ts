/** A decimal number: `negative`, significant digits without zeros at either end, value = 0.digits × 10^exponent. */
interface Decimal {
  readonly negative: boolean;
  readonly digits: string;
  readonly exponent: number;
}

const NUMBER = /^(-?)(\d*)(?:\.(\d*))?(?:[eE]([+-]?\d+))?$/;

const decimalOf = (text: string): Decimal => {
  const [, sign = '', whole = '', fraction = '', exponent = '0'] = NUMBER.exec(text) ?? [];
  const all = whole + fraction;
  const stripped = all.replace(/^0+/, '');
  const digits = stripped.replace(/0+$/, '');
  if (digits === '') return { negative: false, digits, exponent: 0 };
  return {
    negative: sign === '-',
    digits,
    exponent: whole.length - (all.length - stripped.length) + Number(exponent),
  };
};

const compareMagnitudes = (a: Decimal, b: Decimal): number => {
  if (a.digits === '' || b.digits === '') return Math.sign(a.digits.length - b.digits.length);
  if (a.exponent !== b.exponent) return a.exponent < b.exponent ? -1 : 1;
  if (a.digits === b.digits) return 0;
  return a.digits < b.digits ? -1 : 1;
};

/** Compares two JSON numbers by value, exactly, whatever their size. */
export const compareNumbers = (a: string, b: string): number => {
  const [x, y] = [decimalOf(a), decimalOf(b)];
  if (x.negative !== y.negative) return x.negative ? -1 : 1;
  return x.negative ? compareMagnitudes(y, x) : compareMagnitudes(x, y);
};
