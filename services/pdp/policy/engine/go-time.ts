import { BuiltinError } from './builtin.ts';
import { utc, type Zone, type ZoneReading } from './zones.ts';

/** A moment, as the clocks of a zone show it; proleptic Gregorian calendar. */
export interface CivilTime {
  readonly year: number;
  /** 1 to 12. */
  readonly month: number;
  readonly day: number;
  /** Day of the year, 1 to 366. */
  readonly yearDay: number;
  /** 0 is Sunday. */
  readonly weekday: number;
  readonly hour: number;
  readonly minute: number;
  readonly second: number;
  readonly nanosecond: number;
  readonly zone: ZoneReading;
}

export const WEEKDAYS = ['Sunday', 'Monday', 'Tuesday', 'Wednesday', 'Thursday', 'Friday', 'Saturday'] as const;
const MONTHS = [
  'January',
  'February',
  'March',
  'April',
  'May',
  'June',
  'July',
  'August',
  'September',
  'October',
  'November',
  'December',
] as const;

const DAY = 86_400;
const BILLION = 1_000_000_000n;

const modulo = (a: number, b: number): number => ((a % b) + b) % b;

const isLeap = (year: number): boolean => year % 4 === 0 && (year % 100 !== 0 || year % 400 === 0);

/** Days of a month, 1 to 12. */
export const daysIn = (year: number, month: number): number =>
  month === 2 ? (isLeap(year) ? 29 : 28) : [4, 6, 9, 11].includes(month) ? 30 : 31;

/** Days since 1970; month and day may lie outside their ranges, as in Go's `time.Date`. */
export const daysSinceEpoch = (year: number, month: number, day: number): number => {
  // Years that begin in March: the leap day is the last of its year.
  const shifted = year * 12 + month - 3;
  const y = Math.floor(shifted / 12);
  const m = modulo(shifted, 12);
  const leapDays = Math.floor(y / 4) - Math.floor(y / 100) + Math.floor(y / 400);
  return y * 365 + leapDays + Math.floor((153 * m + 2) / 5) + day - 719_469;
};

const dateOfDay = (days: number): { year: number; month: number; day: number } => {
  const shifted = days + 719_468;
  const era = Math.floor(shifted / 146_097);
  const ofEra = modulo(shifted, 146_097);
  const yearOfEra = Math.floor(
    (ofEra - Math.floor(ofEra / 1460) + Math.floor(ofEra / 36_524) - Math.floor(ofEra / 146_096)) / 365,
  );
  const ofYear = ofEra - (365 * yearOfEra + Math.floor(yearOfEra / 4) - Math.floor(yearOfEra / 100));
  const m = Math.floor((5 * ofYear + 2) / 153);
  const month = m < 10 ? m + 3 : m - 9;
  return {
    year: era * 400 + yearOfEra + (month <= 2 ? 1 : 0),
    month,
    day: ofYear - Math.floor((153 * m + 2) / 5) + 1,
  };
};

/** What the clocks of a zone show, nanoseconds after 1970. */
export const civilTime = (ns: bigint, zone: Zone): CivilTime => {
  const nanosecond = Number(((ns % BILLION) + BILLION) % BILLION);
  const seconds = Number((ns - BigInt(nanosecond)) / BILLION);
  const reading = zone(seconds);
  const local = seconds + reading.offset;
  const days = Math.floor(local / DAY);
  const ofDay = modulo(local, DAY);
  const date = dateOfDay(days);
  return {
    ...date,
    yearDay: days - daysSinceEpoch(date.year, 1, 1) + 1,
    weekday: modulo(days + 4, 7),
    hour: Math.floor(ofDay / 3600),
    minute: Math.floor(ofDay / 60) % 60,
    second: ofDay % 60,
    nanosecond,
    zone: reading,
  };
};

/** The moment at which a zone's clocks show this; in a gap or an overlap of its clocks, the one that Go takes. */
export const momentOf = (days: number, { hour, minute, second, nanosecond }: ClockTime, zone: Zone): bigint => {
  const local = days * DAY + hour * 3600 + minute * 60 + second;
  const guess = local - zone(local).offset;
  return BigInt(local - zone(guess).offset) * BILLION + BigInt(nanosecond);
};

type ClockTime = Pick<CivilTime, 'hour' | 'minute' | 'second' | 'nanosecond'>;

const fits64 = (ns: bigint): boolean => BigInt.asIntN(64, ns) === ns;

/** Throws `BuiltinError` on a moment that 64 bits of nanoseconds do not hold. */
export const boundedMoment = (ns: bigint): bigint => {
  if (!fits64(ns)) throw new BuiltinError('time outside of valid range');
  return ns;
};

/** The elements of a layout (Go's package time, constant Layout): the leftmost, of several the first here. */
const ELEMENT = new RegExp(
  [
    'January|Jan(?![a-z])|Monday|Mon(?![a-z])|MST',
    '0[1-6]|002|15|1|2006|2|_2(?!006)|__2|3|4|5|PM|pm',
    '[-Z]07(?:0000|:00:00|00|:00)?',
    '[.,](?:0+|9+)(?!\\d)',
  ].join('|'),
  'g',
);

interface Element {
  readonly text: string;
  readonly start: number;
  readonly end: number;
}

const nextElement = (layout: string, from: number): Element | undefined => {
  ELEMENT.lastIndex = from;
  const match = ELEMENT.exec(layout);
  if (match === null) return undefined;
  return { text: match[0], start: match.index, end: match.index + match[0].length };
};

const padded = (value: number, width: number): string =>
  value < 0 ? `-${padded(-value, width)}` : String(value).padStart(width, '0');

const isFraction = (element: string): boolean => element.startsWith('.') || element.startsWith(',');

/** Go keeps the number of digits in 12 bits. */
const fractionDigits = (element: string): number => (element.length - 1) & 0xfff;

const printFraction = (element: string, nanosecond: number): string => {
  const digits = fractionDigits(element);
  const shown = padded(nanosecond, 9).slice(0, digits);
  if (!element.includes('9')) return element.charAt(0) + shown;
  const trimmed = shown.replace(/0+$/, '');
  return trimmed === '' ? '' : element.charAt(0) + trimmed;
};

const printOffset = (element: string, offset: number): string => {
  if (offset === 0 && element.startsWith('Z')) return 'Z';
  const minutes = Math.trunc(offset / 60);
  // Less than a minute west has a plus, and then negative seconds: that is how Go prints it.
  const seconds = minutes < 0 ? -offset : offset;
  const colon = element.includes(':') ? ':' : '';
  let text = `${minutes < 0 ? '-' : '+'}${padded(Math.trunc(Math.abs(minutes) / 60), 2)}`;
  if (element.length > 3) text += colon + padded(Math.abs(minutes) % 60, 2);
  if (element.length > 6) text += colon + padded(seconds % 60, 2);
  return text;
};

const printElement = (element: string, time: CivilTime): string => {
  const month = MONTHS[time.month - 1] ?? '';
  const weekday = WEEKDAYS[time.weekday] ?? '';
  const hour12 = time.hour % 12 === 0 ? 12 : time.hour % 12;
  switch (element) {
    case 'January':
      return month;
    case 'Jan':
      return month.slice(0, 3);
    case '1':
      return String(time.month);
    case '01':
      return padded(time.month, 2);
    case 'Monday':
      return weekday;
    case 'Mon':
      return weekday.slice(0, 3);
    case '2':
      return String(time.day);
    case '_2':
      return String(time.day).padStart(2);
    case '02':
      return padded(time.day, 2);
    case '__2':
      return String(time.yearDay).padStart(3);
    case '002':
      return padded(time.yearDay, 3);
    case '15':
      return padded(time.hour, 2);
    case '3':
      return String(hour12);
    case '03':
      return padded(hour12, 2);
    case '4':
      return String(time.minute);
    case '04':
      return padded(time.minute, 2);
    case '5':
      return String(time.second);
    case '05':
      return padded(time.second, 2);
    case '2006':
      return padded(time.year, 4);
    case '06':
      return padded(time.year % 100, 2);
    case 'PM':
      return time.hour >= 12 ? 'PM' : 'AM';
    case 'pm':
      return time.hour >= 12 ? 'pm' : 'am';
    case 'MST':
      return time.zone.abbreviation;
    default:
      return isFraction(element) ? printFraction(element, time.nanosecond) : printOffset(element, time.zone.offset);
  }
};

/** As Go's `Time.Format`. */
export const formatTime = (layout: string, time: CivilTime): string => {
  let text = '';
  let at = 0;
  for (let element = nextElement(layout, 0); element !== undefined; element = nextElement(layout, at)) {
    text += layout.slice(at, element.start) + printElement(element.text, time);
    at = element.end;
  }
  return text + layout.slice(at);
};

const bad = (what: string): never => {
  throw new BuiltinError(`cannot parse time: ${what}`);
};

const inRange = (value: number, low: number, high: number, what: string): number =>
  value >= low && value <= high ? value : bad(`${what} out of range`);

/** Go's parser works on bytes: so does this, with one character a byte. */
const bytesOf = (text: string): string => Buffer.from(text, 'utf8').toString('latin1');

/** Go's `atoi` on a few characters: a sign is accepted, no digits at all are 0. */
const shortInteger = (text: string): number => (/^[+-]?\d*$/.test(text) ? Number(`${text}.`) || 0 : bad('a number'));

const nanosecondsOf = (fraction: string): number => {
  if (!isFraction(fraction)) bad('fractional second');
  const digits = fraction.slice(1, 10);
  const value = shortInteger(digits);
  return inRange(value, 0, Infinity, 'fractional second') * 10 ** (9 - digits.length);
};

const ZONE_OFFSETS: Readonly<Record<string, RegExp>> = {
  '07': /([+-])(\d\d)/y,
  '0700': /([+-])(\d\d)(\d\d)/y,
  '07:00': /([+-])(\d\d):(\d\d)/y,
  '070000': /([+-])(\d\d)(\d\d)(\d\d)/y,
  '07:00:00': /([+-])(\d\d):(\d\d):(\d\d)/y,
};

/** What Go takes for the abbreviation of a zone; it says nothing about the moment. */
const ABBREVIATION = /UTC|ChST|MeST|GMT|[+-]\d+|[A-Z]{3,6}/y;
const SIGNED_HOURS = /[+-]\d+/y;

class TimeReader {
  private at = 0;
  private readonly value: string;
  private readonly layout: string;
  private year = 0;
  private month = -1;
  private day = -1;
  private yearDay = -1;
  private hour = 0;
  private minute = 0;
  private second = 0;
  private nanosecond = 0;
  private half: 'AM' | 'PM' | undefined;
  private isUtc = false;
  // -1 is Go's "no offset seen": a second west of Greenwich is not told apart from it.
  private offset = -1;

  constructor(layout: string, value: string) {
    this.layout = bytesOf(layout);
    this.value = bytesOf(value);
  }

  read(): bigint {
    let at = 0;
    for (let element = nextElement(this.layout, 0); element !== undefined; element = nextElement(this.layout, at)) {
      this.literal(this.layout.slice(at, element.start));
      at = element.end;
      this.element(element);
    }
    this.literal(this.layout.slice(at));
    if (this.at < this.value.length) bad('extra text');
    return this.moment();
  }

  private take(pattern: RegExp): RegExpExecArray | undefined {
    pattern.lastIndex = this.at;
    const match = pattern.exec(this.value);
    if (match !== null) this.at = pattern.lastIndex;
    return match ?? undefined;
  }

  private need(pattern: RegExp): string {
    return this.take(pattern)?.[0] ?? bad('malformed');
  }

  private characters(count: number): string {
    const start = this.at;
    if (this.value.length < start + count) bad('too short');
    this.at += count;
    return this.value.slice(start, this.at);
  }

  /** A run of spaces in the layout stands for any run of spaces, at the end of the value also for none. */
  private literal(prefix: string): void {
    for (let i = 0; i < prefix.length;) {
      if (prefix.charAt(i) !== ' ') {
        if (this.value.charAt(this.at) !== prefix.charAt(i)) bad('literal text differs');
        this.at += 1;
        i += 1;
        continue;
      }
      if (this.at < this.value.length && this.value.charAt(this.at) !== ' ') bad('a space expected');
      while (prefix.charAt(i) === ' ') i += 1;
      while (this.value.charAt(this.at) === ' ') this.at += 1;
    }
  }

  private name(names: readonly string[]): number {
    const index = names.findIndex(
      (name) => this.value.slice(this.at, this.at + name.length).toLowerCase() === name.toLowerCase(),
    );
    this.at += names[index]?.length ?? bad('an unknown name');
    return index;
  }

  private number(isFixed: boolean): number {
    return Number(this.need(isFixed ? /\d\d/y : /\d\d?/y));
  }

  private element(element: Element): void {
    const text = element.text;
    switch (text) {
      case '06': {
        const short = shortInteger(this.characters(2));
        this.year = short + (short >= 69 ? 1900 : 2000);
        break;
      }
      case '2006':
        this.year = Number(this.need(/\d{4}/y));
        break;
      case 'Jan':
        this.month = this.name(MONTHS.map((name) => name.slice(0, 3))) + 1;
        break;
      case 'January':
        this.month = this.name(MONTHS) + 1;
        break;
      case '1':
      case '01':
        this.month = inRange(this.number(text === '01'), 1, 12, 'month');
        break;
      case 'Mon':
        this.name(WEEKDAYS.map((name) => name.slice(0, 3)));
        break;
      case 'Monday':
        this.name(WEEKDAYS);
        break;
      case '_2':
        this.take(/ /y);
        this.day = this.number(false);
        break;
      case '2':
      case '02':
        this.day = this.number(text === '02');
        break;
      case '__2':
        this.take(/ {1,2}/y);
        this.yearDay = Number(this.need(/\d{1,3}/y));
        break;
      case '002':
        this.yearDay = Number(this.need(/\d{3}/y));
        break;
      case '15':
        this.hour = inRange(this.number(false), 0, 23, 'hour');
        break;
      case '3':
      case '03':
        this.hour = inRange(this.number(text === '03'), 0, 12, 'hour');
        break;
      case '4':
      case '04':
        this.minute = inRange(this.number(text === '04'), 0, 59, 'minute');
        break;
      case '5':
      case '05':
        this.second = inRange(this.number(text === '05'), 0, 59, 'second');
        this.unannouncedFraction(element.end);
        break;
      case 'PM':
        this.half = this.need(/[AP]M/y) === 'PM' ? 'PM' : 'AM';
        break;
      case 'pm':
        this.half = this.need(/[ap]m/y) === 'pm' ? 'PM' : 'AM';
        break;
      case 'MST':
        this.abbreviation();
        break;
      default:
        if (isFraction(text)) this.fraction(text);
        else this.zoneOffset(text);
    }
  }

  /** Seconds may have a fraction that the layout does not mention. */
  private unannouncedFraction(layoutAt: number): void {
    const next = nextElement(this.layout, layoutAt);
    if (next !== undefined && isFraction(next.text)) return;
    const digits = this.take(/[.,]\d+/y);
    if (digits !== undefined) this.nanosecond = nanosecondsOf(digits[0]);
  }

  private fraction(element: string): void {
    if (!element.includes('9')) {
      this.nanosecond = nanosecondsOf(this.characters(1 + fractionDigits(element)));
      return;
    }
    const digits = this.take(/[.,]\d+/y);
    if (digits !== undefined) this.nanosecond = nanosecondsOf(digits[0]);
  }

  private zoneOffset(element: string): void {
    if (element.startsWith('Z') && this.take(/Z/y) !== undefined) {
      this.isUtc = true;
      return;
    }
    const pattern = ZONE_OFFSETS[element.slice(1)];
    const match = pattern === undefined ? undefined : this.take(pattern);
    if (match === undefined) return bad('zone offset');
    const [, sign, hours = '', minutes = '0', seconds = '0'] = match;
    const offset =
      inRange(Number(hours), 0, 24, 'zone hours') * 3600 +
      inRange(Number(minutes), 0, 60, 'zone minutes') * 60 +
      inRange(Number(seconds), 0, 60, 'zone seconds');
    this.offset = sign === '-' ? -offset : offset;
  }

  private abbreviation(): void {
    const start = this.at;
    if (this.value.length - start < 3) bad('zone');
    const found = this.need(ABBREVIATION);
    if (found === 'UTC') this.isUtc = true;
    else if (found === 'GMT') {
      const hours = this.take(SIGNED_HOURS);
      if (hours !== undefined && Math.abs(Number(hours[0])) > 23) this.at = start + 3;
    } else if (/^[+-]/.test(found)) inRange(Math.abs(Number(found)), 0, 23, 'zone');
    else if (/^[A-Z]{4}$/.test(found)) {
      if (!found.endsWith('T') && found !== 'WITA') bad('zone');
    } else if (/^[A-Z]{5,6}$/.test(found)) {
      if (found.length === 6 || !found.endsWith('T')) bad('zone');
    }
  }

  private moment(): bigint {
    if (this.half === 'PM' && this.hour < 12) this.hour += 12;
    else if (this.half === 'AM' && this.hour === 12) this.hour = 0;
    if (this.yearDay >= 0) this.takeYearDay();
    const month = this.month < 0 ? 1 : this.month;
    const day = this.day < 0 ? 1 : this.day;
    inRange(day, 1, daysIn(this.year, month), 'day');
    const clock = { hour: this.hour, minute: this.minute, second: this.second, nanosecond: this.nanosecond };
    const moment = momentOf(daysSinceEpoch(this.year, month, day), clock, utc);
    return this.isUtc || this.offset === -1 ? moment : moment - BigInt(this.offset) * BILLION;
  }

  private takeYearDay(): void {
    inRange(this.yearDay, 1, isLeap(this.year) ? 366 : 365, 'day of the year');
    const date = dateOfDay(daysSinceEpoch(this.year, 1, this.yearDay));
    if (this.month >= 0 && this.month !== date.month) bad('day of the year and month');
    if (this.day >= 0 && this.day !== date.day) bad('day of the year and day');
    this.month = date.month;
    this.day = date.day;
  }
}

/** As Go's `time.Parse` where the local zone is UTC: nanoseconds since 1970. Throws `BuiltinError`. */
export const parseTime = (layout: string, value: string): bigint => boundedMoment(new TimeReader(layout, value).read());

/** Whether Go's `time.Parse` takes the text, whatever moment it is. */
export const matchesLayout = (layout: string, value: string): boolean => {
  try {
    new TimeReader(layout, value).read();
    return true;
  } catch (error) {
    if (error instanceof BuiltinError) return false;
    throw error;
  }
};
