import { isUtf8 } from 'node:buffer';
import { Der, type DerElement, malformed, Tag } from './der.ts';
import type { Value } from './value.ts';

export interface NameAttribute {
  readonly type: readonly number[];
  /** A text, save in a certificate request, where Go takes other types. */
  readonly value: Value;
}

/** A distinguished name: its attributes in the order of the certificate. */
export type Name = readonly NameAttribute[];

const ascii = (bytes: Buffer, pattern: RegExp): string => {
  const text = bytes.toString('latin1');
  return pattern.test(text) ? text : malformed('character string');
};

const utf8 = (bytes: Buffer): string => (isUtf8(bytes) ? bytes.toString('utf8') : malformed('UTF8String'));

const bmp = (bytes: Buffer): string => {
  if (bytes.length % 2 !== 0) return malformed('BMPString');
  const units: number[] = [];
  for (let at = 0; at < bytes.length; at += 2) units.push(bytes.readUInt16BE(at));
  // A terminating zero of C is no part of the text.
  if (units.at(-1) === 0) units.pop();
  const isRefused = (unit: number): boolean =>
    unit >= 0xfffe || (unit >= 0xfdd0 && unit <= 0xfdef) || (unit >= 0xd800 && unit <= 0xdfff);
  if (units.some(isRefused)) return malformed('BMPString');
  return units.map((unit) => String.fromCharCode(unit)).join('');
};

/** Text of ASCII only, as IA5String and the general names hold it. */
// oxlint-disable-next-line no-control-regex -- ASCII has them
export const ia5 = (bytes: Buffer): string => ascii(bytes, /^[\u0000-\u007f]*$/);

/** The text of a string element; `undefined` for a type that is none of those here. */
export const readStringOf = (tag: number, bytes: Buffer): string | undefined => {
  switch (tag) {
    case Tag.t61String:
      return bytes.toString('latin1');
    case Tag.printableString:
      return ascii(bytes, /^[A-Za-z0-9'()+,\-./ :=?*&]*$/);
    case Tag.utf8String:
      return utf8(bytes);
    case Tag.bmpString:
      return bmp(bytes);
    case Tag.ia5String:
      return ia5(bytes);
    case Tag.numericString:
      return ascii(bytes, /^[0-9 ]*$/);
    default:
      return undefined;
  }
};

const readText = ({ tag, content }: DerElement): Value => readStringOf(tag, content) ?? malformed('name: unknown type');

/** Reads the whole element of an RDNSequence (RFC 5280, 4.1.2.4). */
export const readName = (whole: Buffer, readAttribute = readText): Name => {
  const attributes: NameAttribute[] = [];
  for (const sequence = new Der(whole).enter(Tag.sequence); !sequence.empty;) {
    for (const set = sequence.enter(Tag.set); !set.empty;) {
      const attribute = set.enter(Tag.sequence);
      const type = attribute.oid();
      attributes.push({ type, value: readAttribute(attribute.element()) });
    }
  }
  return attributes;
};

/** A point in time, with the zone it was written in: minutes east of Greenwich. */
export interface CertificateTime {
  readonly ms: number;
  readonly offsetMinutes: number;
}

const TIME = /^(\d{2})(\d{2})(\d{2})(\d{2})(\d{2})?(?:Z|([+-])(\d{2})(\d{2}))$/;

const timeOf = (year: number, rest: string, isSecondOptional: boolean): CertificateTime => {
  const match = TIME.exec(rest) ?? malformed('time');
  const [, month = '', day = '', hour = '', minute = '', second, sign, zoneHour = '0', zoneMinute = '0'] = match;
  if (second === undefined && !isSecondOptional) return malformed('time');
  const offsetMinutes = (sign === '-' ? -1 : 1) * (Number(zoneHour) * 60 + Number(zoneMinute));
  // A zone of no offset is written Z; Go knows none of a day and more.
  if (sign !== undefined && (offsetMinutes === 0 || Number(zoneHour) > 24 || Number(zoneMinute) > 60))
    return malformed('time');
  const fields = [Number(month), Number(day), Number(hour), Number(minute), Number(second ?? 0)] as const;
  const date = new Date(0);
  date.setUTCFullYear(year, fields[0] - 1, fields[1]);
  date.setUTCHours(fields[2], fields[3], fields[4]);
  const written = [
    date.getUTCMonth() + 1,
    date.getUTCDate(),
    date.getUTCHours(),
    date.getUTCMinutes(),
    date.getUTCSeconds(),
  ];
  if (date.getUTCFullYear() !== year || written.some((field, index) => field !== fields[index]))
    return malformed('time');
  return { ms: date.getTime() - offsetMinutes * 60_000, offsetMinutes };
};

/** Reads a UTCTime or a GeneralizedTime. Two digits of a year mean 1950 to 2049. */
export const readTime = (der: Der): CertificateTime => {
  if (!der.peek(Tag.utcTime)) {
    const text = der.read(Tag.generalizedTime).content.toString('latin1');
    return /^\d{4}/.test(text) ? timeOf(Number(text.slice(0, 4)), text.slice(4), false) : malformed('time');
  }
  const text = der.read(Tag.utcTime).content.toString('latin1');
  if (!/^\d{2}/.test(text)) return malformed('time');
  const year = Number(text.slice(0, 2));
  return timeOf(year < 50 ? 2000 + year : 1900 + year, text.slice(2), true);
};

/** RFC 3339 as Go writes it: in the zone of the time. */
export const printTime = ({ ms, offsetMinutes }: CertificateTime): string => {
  const [date = ''] = new Date(ms + offsetMinutes * 60_000).toISOString().split('.');
  if (offsetMinutes === 0) return `${date}Z`;
  const minutes = Math.abs(offsetMinutes);
  const two = (value: number): string => String(value).padStart(2, '0');
  return `${date}${offsetMinutes < 0 ? '-' : '+'}${two(Math.floor(minutes / 60))}:${two(minutes % 60)}`;
};
