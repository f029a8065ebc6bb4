import { createHash } from 'node:crypto';
import { createWriteStream, renameSync, rmSync } from 'node:fs';
import { request as httpRequest, type IncomingMessage } from 'node:http';
import { request as httpsRequest } from 'node:https';
import { pipeline } from 'node:stream/promises';
import { Command, Option } from 'commander';
import { AppError, errorCode, errorMessage } from '../../shared/contracts/errors.ts';
import { EXPORT_FORMATS } from '../../audit/core/query.ts';
import { createAuditTarget, refusal, type AuditConnection } from './audit-client.ts';
import { jsonLine, print, printable } from './audit-print.ts';
import { filterParameters, withFilters } from './audit-query.ts';

interface ExportOptions extends AuditConnection {
  readonly format: string;
  readonly out: string;
  readonly json?: boolean;
  readonly incarnation?: string;
  readonly [filter: string]: unknown;
}

/** Nothing comes for so long: the service, or the way to it, is gone. */
const IDLE_MS = 120_000;
const SHOW_EVERY_MS = 200;
const MAX_PROBLEM_BYTES = 64 * 1024;

/** The answer to a GET, as a stream: its trailers say what the service counted. */
const open = (url: URL, headers: Readonly<Record<string, string>>): Promise<IncomingMessage> =>
  new Promise((resolve, reject) => {
    const request = (url.protocol === 'https:' ? httpsRequest : httpRequest)(url, { headers }, resolve);
    request.setTimeout(IDLE_MS, () => request.destroy(new Error('nothing came for two minutes')));
    request.once('error', (cause) =>
      reject(
        new AppError(
          'upstream_unavailable',
          `no audit service answers at ${url.origin} (${errorCode(cause) ?? errorMessage(cause)})`,
          { cause },
        ),
      ),
    );
    request.end();
  });

const readProblem = async (response: IncomingMessage): Promise<Buffer> => {
  const parts: Buffer[] = [];
  let bytes = 0;
  for await (const part of response as AsyncIterable<Buffer>) {
    bytes += part.length;
    if (bytes > MAX_PROBLEM_BYTES) break;
    parts.push(part);
  }
  return Buffer.concat(parts);
};

/** Writes the file whole or not at all; what came is compared with what the service wrote into the ledger. */
const exportDecisions = async (options: ExportOptions): Promise<void> => {
  const { out, format } = options;
  const target = createAuditTarget(options);
  const url = target.url('/v1/export', [
    ...filterParameters(options),
    ['format', format],
    ...(options.incarnation === undefined ? [] : [['incarnation', options.incarnation] as const]),
  ]);
  const response = await open(url, target.headers);
  if (response.statusCode !== 200) throw refusal(response.statusCode ?? 0, await readProblem(response));
  const part = `${out}.${process.pid}.part`;
  const hash = createHash('sha256');
  let bytes = 0;
  const { stderr } = process;
  let shownMs = 0;
  const showProgress = (): void => {
    if (!stderr.isTTY || Date.now() - shownMs < SHOW_EVERY_MS) return;
    shownMs = Date.now();
    stderr.write(`\r${(bytes / 1e6).toFixed(1)} MB`);
  };
  try {
    await pipeline(
      response,
      async function* (chunks: AsyncIterable<Buffer>) {
        for await (const chunk of chunks) {
          hash.update(chunk);
          bytes += chunk.length;
          showProgress();
          yield chunk;
        }
      },
      createWriteStream(part, { flags: 'wx', mode: 0o600, flush: true }),
    );
    if (stderr.isTTY) stderr.write('\r\u001b[K');
    const digest = hash.digest('hex');
    const { trailers } = response;
    const [log = '', seq = ''] = (trailers['edict-export-entry'] ?? '').split(' ');
    if (trailers['edict-export-sha256'] !== digest || seq === '')
      throw new AppError(
        'upstream_unavailable',
        `the service did not confirm what came (sha256 ${digest}): nothing was written; is a proxy in between that drops trailers?`,
      );
    renameSync(part, out);
    const rows = trailers['edict-export-rows'] ?? '';
    if (options.json === true)
      return print(jsonLine({ out, format, rows, bytes: String(bytes), sha256: digest, log, seq }));
    return print(
      `${printable(out)}: ${printable(rows)} ${format === 'bundle' ? 'entries' : 'decisions'}, ${bytes} bytes\nsha256  ${digest}\nentry   ${printable(seq)} of ${printable(log)} says who exported what\n`,
    );
  } catch (error) {
    if (errorCode(error) === 'ENOENT' || errorCode(error) === 'EACCES' || errorCode(error) === 'EEXIST')
      throw new AppError('usage', `--out: ${out} cannot be written (${errorCode(error) ?? ''})`, { cause: error });
    if (errorCode(error) === 'ECONNRESET' || errorCode(error) === 'ERR_STREAM_PREMATURE_CLOSE')
      throw new AppError('upstream_unavailable', 'the audit service broke the export off: nothing was written', {
        cause: error,
      });
    throw error;
  } finally {
    rmSync(part, { force: true });
  }
};

/** `common`: the options that all commands of the group have. */
export const auditExportCommand = (common: (command: Command) => Command): Command =>
  withFilters(
    common(new Command('export'))
      .description(
        'write the decisions of a filter, or evidence of them, into a file; the ledger says who exported what',
      )
      .addOption(new Option('--format <format>', 'what to write').choices([...EXPORT_FORMATS]).default('ndjson'))
      .option('--incarnation <n>', 'of a bundle: which log of the tenant, from 1; the newest when left out')
      .requiredOption('-o, --out <file>', 'where to write it; readable by you only'),
  )
    .addHelpText(
      'after',
      '\nThe format bundle is evidence: entries with what proves them, for `audit verify --file` or scripts/verify-ledger.py.\n' +
        'With no filter but --from and --to it holds every entry that the ledger took in then, widened to checkpoints;\n' +
        'with others the decisions found, each with a proof of its own.\n' +
        '\nExit codes: 0 written, 2 usage, or no answer from the audit service.\n',
    )
    .action(exportDecisions);
