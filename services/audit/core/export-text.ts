import { EXPORT_COLUMNS, type ExportRow } from './export-row.ts';
import { ocsfEvent } from './export-ocsf.ts';
import type { ExportFormat } from './query.ts';

/** How a format of lines is written. */
export interface LineFormat {
  readonly mediaType: string;
  readonly head: string;
  /** With its end of line. */
  readonly line: (row: ExportRow) => string | Buffer;
}

const NEWLINES: ReadonlySet<number> = new Set([0x0a, 0x0d]);

/**
 * The row's members, its leaf and the event exactly as it was received: JSON has line breaks between tokens only, and
 * they become spaces, so no number or member of the event is written anew.
 */
const ndjsonLine = ({ shown, leaf, event }: ExportRow): Buffer => {
  const members = JSON.stringify({ ...shown, leaf });
  const raw = event === undefined ? Buffer.from('null') : Buffer.from(event);
  for (let at = 0; at < raw.length; at += 1) if (NEWLINES.has(raw[at] ?? 0)) raw[at] = 0x20;
  return Buffer.concat([Buffer.from(`${members.slice(0, -1)},"event":`), raw, Buffer.from('}\n')]);
};

/** What a spreadsheet takes for a formula at the beginning of a cell, also in full width, or for our own mark. */
const FORMULA = /^[=+\-@\t\r\n＝＋－＠']/u;

/**
 * A cell of RFC 4180, always in quotes. What a spreadsheet would evaluate begins with an apostrophe, and so does what
 * begins with one: to take one apostrophe away gives the value back.
 */
export const csvCell = (value: string): string =>
  `"${(FORMULA.test(value) ? `'${value}` : value).replaceAll('"', '""')}"`;

/** Control characters, and what some readers of logs take for the end of a line. */
// eslint-disable-next-line no-control-regex -- these characters are the point
const CONTROL = /[\u0000-\u0009\u000b\u000c\u000e-\u001f\u007f-\u009f\u2028\u2029\p{Surrogate}]/gu;

const visible = (text: string): string =>
  text.replaceAll(CONTROL, (character) => `\\u${(character.codePointAt(0) ?? 0).toString(16).padStart(4, '0')}`);

/** A field of CEF's header: backslash and pipe are escaped; a line cannot break there, so it is shown as a space. */
export const cefHeader = (text: string): string =>
  visible(text.replaceAll(/[\r\n]+/g, ' ')).replaceAll(/[\\|]/g, (character) => `\\${character}`);

/** A value of CEF's extension: backslash, equals sign and line breaks are escaped. */
export const cefValue = (text: string): string =>
  visible(text)
    .replaceAll(/[\\=]/g, (character) => `\\${character}`)
    .replaceAll('\n', '\\n')
    .replaceAll('\r', '\\r');

/** ArcSight CEF 0: `CEF:0|vendor|product|version|signature|name|severity|extension`. */
const cefLine = ({ shown, leaf }: ExportRow): string => {
  const isDenied = shown.decision === 'deny';
  const header = [
    'CEF:0',
    'Edict',
    'Edict',
    '1',
    `decision-${shown.decision}`,
    isDenied ? 'Decision: denied' : 'Decision: allowed',
    isDenied ? '5' : '1',
  ].map(cefHeader);
  const time = Date.parse(shown.event_time);
  const members: readonly (readonly [key: string, value: string | undefined, label?: string])[] = [
    ['rt', String(Date.parse(shown.ingest_time))],
    ['start', Number.isNaN(time) ? undefined : String(time)],
    ['externalId', shown.decision_id],
    ['act', shown.decision],
    ['outcome', isDenied ? 'failure' : 'success'],
    ['reason', shown.reasons.map(({ code }) => code).join(' ') || undefined],
    ['suser', shown.subject?.id],
    ['sourceServiceName', shown.agent],
    ['dvchost', shown.caller],
    ['cn1', shown.seq, 'seq'],
    ['cs1', EXPORT_COLUMNS.chain({ shown, leaf, event: undefined }), 'chain'],
    ['cs2', shown.action, 'action'],
    ['cs3', `${shown.resource.type}/${shown.resource.id}`, 'resource'],
    ['cs4', shown.purpose, 'purpose'],
    ['cs5', shown.session, 'session'],
    ['cs6', leaf ?? undefined, 'leaf'],
    ['requestContext', shown.request_id],
  ];
  const extension = members
    .flatMap(([key, value, label]) => {
      if (value === undefined) return [];
      return [`${key}=${cefValue(value)}`, ...(label === undefined ? [] : [`${key}Label=${label}`])];
    })
    .join(' ');
  return `${header.join('|')}|${extension}\n`;
};

export const LINE_FORMATS: Readonly<Record<Exclude<ExportFormat, 'parquet' | 'bundle'>, LineFormat>> = {
  ndjson: { mediaType: 'application/x-ndjson', head: '', line: ndjsonLine },
  csv: {
    mediaType: 'text/csv; charset=utf-8; header=present',
    head: `${Object.keys(EXPORT_COLUMNS).map(csvCell).join(',')}\r\n`,
    line: (row) =>
      `${Object.values(EXPORT_COLUMNS)
        .map((valueOf) => csvCell(valueOf(row) ?? ''))
        .join(',')}\r\n`,
  },
  ocsf: { mediaType: 'application/x-ndjson', head: '', line: (row) => `${JSON.stringify(ocsfEvent(row))}\n` },
  cef: { mediaType: 'text/plain; charset=utf-8', head: '', line: cefLine },
};
