import { isArray, numberText, RegoNumber, RegoSet, type Value } from './value.ts';

const decimalKey = (digits: string): string => {
  const [, sign = '', whole = '', fraction = '', exponent = '0'] =
    /^(-?)(\d*)(?:\.(\d*))?(?:[eE]([+-]?\d+))?$/.exec(digits) ?? [];
  const all = (whole + fraction).replace(/^0+/, '');
  const bare = all.replace(/0+$/, '');
  return bare === '' ? '0' : `${sign}${bare}e${Number(exponent) - fraction.length + all.length - bare.length}`;
};

/** A text that is the same exactly for equal values (`1` and `1.0` are). */
export const identityOf = (value: Value): string => {
  if (value === null || typeof value === 'boolean') return String(value);
  if (typeof value === 'string') return JSON.stringify(value);
  if (typeof value === 'number' || value instanceof RegoNumber) return decimalKey(numberText(value));
  if (isArray(value)) return `[${value.map(identityOf).join()}]`;
  if (value instanceof RegoSet) return `<${value.items.map(identityOf).join()}>`;
  return `{${value.entries.map(([key, member]) => `${identityOf(key)}:${identityOf(member)}`).join()}}`;
};
