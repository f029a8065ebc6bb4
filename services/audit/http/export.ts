import { createHash } from 'node:crypto';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import type { RequestHandler, Response } from 'express';
import { AppError } from '../../shared/contracts/errors.ts';
import type { Logger } from '../../shared/runtime/logger.ts';
import { exportRow, type ExportRow } from '../core/export-row.ts';
import { LINE_FORMATS, type LineFormat } from '../core/export-text.ts';
import { parseExportQuery, type ExportFormat } from '../core/query.ts';
import type { RecordAccess } from '../core/record-access.ts';
import { auditorOf, parametersOf, sendProblem } from './access.ts';
import { criteriaOf, newestCheckpoints } from './decisions.ts';
import { openEvidence, type AskedEvidence, type Evidence, type EvidenceDeps } from './evidence.ts';
import { encodeParquet } from './parquet.ts';

/** Exports at the same time: each decrypts a ledger. */
const MAX_AT_ONCE = 2;
/** A reader that takes nothing for so long has gone. */
const IDLE_MS = 60_000;
const CHUNK_BYTES = 64 * 1024;
const TRAILERS = ['edict-export-rows', 'edict-export-sha256', 'edict-export-entry'];

const encodeLines = async function* (rows: AsyncIterable<ExportRow>, format: LineFormat): AsyncGenerator<Uint8Array> {
  let parts: Buffer[] = [Buffer.from(format.head)];
  let bytes = parts[0]?.length ?? 0;
  for await (const row of rows) {
    const line = format.line(row);
    const part = typeof line === 'string' ? Buffer.from(line) : line;
    parts.push(part);
    bytes += part.length;
    if (bytes < CHUNK_BYTES) continue;
    yield Buffer.concat(parts);
    [parts, bytes] = [[], 0];
  }
  if (bytes > 0) yield Buffer.concat(parts);
};

type RowFormat = Exclude<ExportFormat, 'bundle'>;

const mediaTypeOf = (format: RowFormat): string =>
  format === 'parquet' ? 'application/vnd.apache.parquet' : LINE_FORMATS[format].mediaType;

const encode = (format: RowFormat, rows: AsyncIterable<ExportRow>): AsyncIterable<Uint8Array> =>
  format === 'parquet' ? encodeParquet(rows) : encodeLines(rows, LINE_FORMATS[format]);

export interface ExportDeps extends EvidenceDeps {
  /** Absent in a service that writes nothing: then nothing is exported. */
  readonly recordAccess?: RecordAccess;
  readonly logger: Logger;
}

/** What is exported. Evidence is as of a checkpoint, anything else as of the log's size now. */
const open = async (deps: ExportDeps, asked: AskedEvidence, format: ExportFormat): Promise<Evidence> => {
  if (format === 'bundle') return openEvidence(deps, asked);
  const { tenant, filter, log } = asked;
  const rows = async function* (onRow: () => void): AsyncGenerator<ExportRow> {
    const newestOf = newestCheckpoints(deps.tiles);
    const page = { order: 'oldest', asOf: { logId: log.id, size: log.size } } as const;
    for await (const found of deps.reader.decisions(tenant, criteriaOf(deps, tenant, filter), page)) {
      onRow();
      yield exportRow(tenant, found, deps.nameSubject, (await newestOf(found.log.id))?.size ?? 0n);
    }
  };
  return {
    size: log.size,
    mediaType: mediaTypeOf(format),
    chunks: (_begun, onRow) => encode(format, rows(onRow)),
  };
};

/**
 * `GET /v1/export`: the decisions of a filter, oldest first, as a stream; as a bundle, with their proofs. An entry says that it began before its first
 * byte is given, and another who got how much, and its digest, before its last one; or that it was broken off.
 */
export const exportHandler = (deps: ExportDeps): RequestHandler => {
  let atOnce = 0;

  const run = async (record: RecordAccess, url: string, response: Response): Promise<void> => {
    const { tenant, caller } = auditorOf(response);
    const { filter, format, incarnation } = parseExportQuery(
      [...parametersOf(url)].filter(([name]) => name !== 'tenant'),
    );
    const logs = await deps.reader.logs(tenant);
    const [log] = incarnation === undefined ? logs : logs.filter((each) => each.incarnation === incarnation);
    if (log === undefined)
      throw new AppError(
        'ledger_missing',
        `tenant ${tenant} has no ${incarnation === undefined ? 'ledger' : 'such incarnation'}`,
      );
    const source = await open(deps, { tenant, caller, filter, log }, format);
    const about = { access: 'export', by: caller, tenant, format };
    const begun = await record(tenant, {
      ...about,
      state: 'begun',
      filter,
      as_of: { log: log.origin, size: String(source.size) },
    });

    let [rows, bytes] = [0n, 0n];
    let isRecorded = false;
    const hash = createHash('sha256');
    const end = async (state: 'complete' | 'aborted'): Promise<void> => {
      const sha256 = hash.copy().digest('hex');
      const counts = { rows: String(rows), bytes: String(bytes), sha256 };
      const entry = await record(tenant, { ...about, state, begun: String(begun.seq), ...counts });
      isRecorded = true;
      if (state === 'complete')
        response.addTrailers([
          ['edict-export-rows', counts.rows],
          ['edict-export-sha256', sha256],
          ['edict-export-entry', `${entry.log} ${String(entry.seq)}`],
        ]);
    };
    const count = (chunk: Uint8Array): Uint8Array => {
      hash.update(chunk);
      bytes += BigInt(chunk.length);
      return chunk;
    };
    // One chunk is held back, so that the last is given only after the entry.
    const withheld = async function* (): AsyncGenerator<Uint8Array> {
      let held: Uint8Array | undefined;
      for await (const chunk of source.chunks(begun, () => (rows += 1n))) {
        if (held !== undefined) yield count(held);
        held = chunk;
      }
      const last = held === undefined ? undefined : count(held);
      await end('complete');
      if (last !== undefined) yield last;
    };
    response.set({
      'content-type': source.mediaType,
      'content-disposition': `attachment; filename="decisions-${tenant}.${format === 'bundle' ? 'tar' : format}"`,
      'edict-export-begun': `${begun.log} ${String(begun.seq)}`,
      trailer: TRAILERS.join(', '),
    });
    response.setTimeout(IDLE_MS, () => response.destroy());
    try {
      await pipeline(Readable.from(withheld(), { objectMode: false, highWaterMark: CHUNK_BYTES }), response);
    } catch (error) {
      deps.logger.info({ err: error, tenant, begun: String(begun.seq) }, 'an export was broken off');
      response.destroy();
      if (!isRecorded) await end('aborted');
    }
  };

  return async (request, response) => {
    const { recordAccess } = deps;
    if (recordAccess === undefined) throw new AppError('internal', 'this service exports nothing');
    if (request.method !== 'GET') {
      response.set('allow', 'GET');
      return sendProblem(response, 405, 'method_not_allowed', 'use GET');
    }
    // It writes entries, so a page of another origin may not make a browser ask for it.
    const site = request.headers['sec-fetch-site'] ?? 'none';
    if (site !== 'none' && site !== 'same-origin')
      return sendProblem(response, 403, 'forbidden', 'an export is not for pages of other origins');
    if (atOnce >= MAX_AT_ONCE)
      return sendProblem(response, 503, 'overloaded', `${MAX_AT_ONCE} exports are running; try again later`);
    atOnce += 1;
    try {
      await run(recordAccess, request.originalUrl, response);
    } finally {
      atOnce -= 1;
    }
  };
};
