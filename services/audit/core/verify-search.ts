import { hex } from '../../shared/contracts/bytes.ts';
import type { Finding } from './verify-report.ts';

/** One search row: the columns by their names. */
export type SearchColumns = Readonly<Record<string, string | number | bigint | null | Uint8Array | readonly string[]>>;

const text = (value: SearchColumns[string] | undefined): string => {
  if (value === undefined) return 'no such column';
  if (value instanceof Uint8Array) return hex(value);
  if (typeof value === 'bigint') return String(value);
  return JSON.stringify(value);
};

/** What differs between the search rows of an entry and the row that its event makes. */
export const compareSearch = (
  seq: bigint,
  expected: SearchColumns | undefined,
  rows: readonly SearchColumns[],
): readonly Finding[] => {
  const at = String(seq);
  const [row, ...others] = rows;
  if (expected === undefined)
    return row === undefined
      ? []
      : [
          {
            seq: at,
            what: 'search row',
            expected: 'none: the entry is no decision',
            actual: `${rows.length}`,
            attack: 'search_inserted',
          },
        ];
  if (row === undefined)
    return [{ seq: at, what: 'search row', expected: 'one', actual: 'none', attack: 'search_removed' }];
  const findings: Finding[] = Object.entries(expected)
    .filter(([column, value]) => text(value) !== text(row[column]))
    .map(([column, value]) => ({
      seq: at,
      what: `search column ${column}`,
      expected: text(value),
      actual: text(row[column]),
      attack: 'search_edited',
    }));
  if (others.length > 0)
    findings.push({
      seq: at,
      what: 'search rows',
      expected: 'one',
      actual: `${rows.length}`,
      attack: 'search_inserted',
    });
  return findings;
};
