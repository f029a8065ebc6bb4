import moment from 'moment-timezone';
import { BuiltinError } from './builtin.ts';

/** What a zone's clocks show at one moment. */
export interface ZoneReading {
  /** As the tz database has it: `CET`, `+0530`. */
  readonly abbreviation: string;
  /** Seconds east of Greenwich. */
  readonly offset: number;
}

/** A zone of the tz database: the reading at a moment, seconds since 1970. */
export type Zone = (seconds: number) => ZoneReading;

interface Table {
  /** End of each period, seconds; the last never ends. */
  readonly untils: readonly number[];
  readonly readings: readonly ZoneReading[];
}

const UTC: ZoneReading = { abbreviation: 'UTC', offset: 0 };
export const utc: Zone = () => UTC;

/** The tables end here; whoever still changes clocks is taken to do so by the rule of the years before. */
const LAST_YEAR = 2037;
const RULE_YEARS = 11;
const DAY = 86_400;

// Names are told apart by case, as in Go; the tables' own look-up is not that strict.
const names: ReadonlySet<string> = new Set(moment.tz.names());
const tables = new Map<string, Table>();

const tableOf = (name: string): Table => {
  const known = tables.get(name);
  if (known !== undefined) return known;
  const zone = names.has(name) ? moment.tz.zone(name) : null;
  if (zone === null) throw new BuiltinError(`unknown time zone ${name}`);
  const table = {
    untils: zone.untils.map((until) => (Number.isFinite(until) ? Math.round(until / 1000) : Infinity)),
    readings: zone.abbrs.map((abbreviation, index) => ({
      abbreviation,
      // Minutes west; local mean times have seconds. The sum brings -0 to 0.
      offset: 0 - Math.round((zone.offsets[index] ?? 0) * 60),
    })),
  };
  tables.set(name, table);
  return table;
};

const secondsOf = (year: number, month: number): number => Date.UTC(year, month - 1, 1) / 1000;

/**
 * The same moment in one of the last years of the tables: the year's March begins on the same day of the week, so that
 * rules such as "the last Sunday of October" give the same dates. No zone changes its clocks in January or February.
 */
const inTables = (seconds: number): number => {
  const start = secondsOf(new Date(seconds * 1000).getUTCFullYear(), 3);
  for (let year = LAST_YEAR; year > LAST_YEAR - RULE_YEARS; year -= 1) {
    const shift = start - secondsOf(year, 3);
    if (shift % (7 * DAY) === 0) return seconds - shift;
  }
  return seconds;
};

const read = ({ untils, readings }: Table, seconds: number): ZoneReading => {
  let low = 0;
  let high = untils.length - 1;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (seconds < (untils[middle] ?? Infinity)) high = middle;
    else low = middle + 1;
  }
  return readings[low] ?? UTC;
};

/**
 * The zone of that name, as Go's `LoadLocation` finds it; throws `BuiltinError` when there is none. `Local` is UTC: a
 * decision does not depend on where it is made.
 */
export const zoneNamed = (name: string): Zone => {
  if (name === '' || name === 'UTC' || name === 'Local') return utc;
  const table = tableOf(name);
  const end = secondsOf(LAST_YEAR + 1, 1);
  const changesAtEnd = (table.untils.at(-2) ?? -Infinity) > secondsOf(LAST_YEAR, 1);
  return (seconds) => read(table, changesAtEnd && seconds >= end ? inTables(seconds) : seconds);
};
