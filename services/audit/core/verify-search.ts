import { bytesEqual, hex } from '../../shared/contracts/bytes.ts';
import { isObject } from '../../shared/contracts/json.ts';
import { bytesToUuid } from '../../shared/contracts/uuid.ts';
import { ENTRY_KINDS, type Entry } from './entry.ts';
import { describeDecision } from './ingest-search.ts';
import type { NameSubject } from './pseudonym.ts';
import type { Finding } from './verify-report.ts';

/** One search row: the columns by their names. */
export type SearchColumns = Readonly<Record<string, string | number | bigint | null | Uint8Array | readonly string[]>>;

/** The search row of a decision's event, by the columns of the search table; undefined when it makes none. */
export const searchColumns = (
  nameSubject: NameSubject,
  tenant: string,
  entry: Entry,
  event: Readonly<Record<string, unknown>>,
): SearchColumns | undefined => {
  const { data, time } = event;
  if (entry.kind !== ENTRY_KINDS.decision || !isObject(data) || typeof time !== 'string') return undefined;
  const eventId = bytesToUuid(entry.eventId);
  const timeMs = Date.parse(time);
  const row = describeDecision(data, eventId, timeMs, tenant)?.search;
  if (row === undefined || Number.isNaN(timeMs)) return undefined;
  return {
    event_id: eventId,
    event_time_ms: BigInt(row.eventTimeMs),
    ingest_us: entry.ingestUs,
    decision: row.decision,
    reasons: row.reasons,
    subject: nameSubject(tenant, row.subject),
    agent: row.agent ?? null,
    chain: row.chain ?? [],
    action: row.action,
    resource_type: row.resourceType,
    resource: row.resource,
    purpose: row.purpose ?? null,
    session_id: row.session ?? null,
    request_id: row.requestId ?? null,
    caller: row.caller,
  };
};

const text = (value: SearchColumns[string] | undefined): string => {
  if (value === undefined) return 'no such column';
  if (value instanceof Uint8Array) return hex(value);
  if (typeof value === 'bigint') return String(value);
  return JSON.stringify(value);
};

const isSame = (a: SearchColumns[string], b: SearchColumns[string] | undefined): boolean => {
  if (a === b) return true;
  if (a instanceof Uint8Array) return b instanceof Uint8Array && bytesEqual(a, b);
  return Array.isArray(a) && Array.isArray(b) && a.length === b.length && a.every((item, index) => item === b[index]);
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
    .filter(([column, value]) => !isSame(value, row[column]) && text(value) !== text(row[column]))
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
