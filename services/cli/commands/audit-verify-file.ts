import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { AppError, errorCode, errorMessage } from '../../shared/contracts/errors.ts';
import { exitCodeOf } from '../../audit/core/verify-report.ts';
import { verifyEvidence } from '../../audit/core/verify-evidence.ts';
import { readVkeys } from './audit-keys.ts';
import { jsonLine, paintFor, print, printable, printReport } from './audit-print.ts';

export interface VerifyFileOptions {
  readonly file: string;
  readonly vkey?: readonly string[];
  readonly json?: boolean;
}

const CHUNK_BYTES = 1024 * 1024;
const SHOW_EVERY_MS = 200;

/** The file's chunks; `onChunk` sees each. Throws `usage` when it cannot be read. */
const chunksOf = async function* (file: string, onChunk: (chunk: Buffer) => void): AsyncGenerator<Buffer> {
  try {
    for await (const chunk of createReadStream(file, { highWaterMark: CHUNK_BYTES }) as AsyncIterable<Buffer>) {
      onChunk(chunk);
      yield chunk;
    }
  } catch (cause) {
    throw new AppError('usage', `--file: ${file} cannot be read (${errorCode(cause) ?? errorMessage(cause)})`, {
      cause,
    });
  }
};

/** How many entries were read, on a terminal's stderr. */
const progressOn = (stream: NodeJS.WriteStream) => {
  if (!stream.isTTY) return { show: () => undefined, stop: () => undefined };
  let shownMs = 0;
  return {
    show: (entries: bigint): void => {
      if (Date.now() - shownMs < SHOW_EVERY_MS) return;
      shownMs = Date.now();
      stream.write(`\r${entries} entries`);
    },
    stop: () => void stream.write('\r\u001b[K'),
  };
};

/** Verifies an evidence bundle without any service; exit codes as those of a service’s verification. */
export const verifyFile = async ({ file, vkey, json }: VerifyFileOptions): Promise<void> => {
  const keys = vkey === undefined ? undefined : readVkeys(vkey);
  const hash = createHash('sha256');
  const progress = progressOn(process.stderr);
  const { about, manifest, report } = await verifyEvidence(
    chunksOf(file, (chunk) => void hash.update(chunk)),
    { ...(keys === undefined ? {} : { keys }), now: Date.now, onProgress: progress.show },
  ).finally(progress.stop);
  // A file that could not be read to its end has no digest that somebody else could compare.
  const sha256 = manifest === undefined ? null : hash.digest('hex');
  if (json === true) print(jsonLine({ about: about ?? null, policies: manifest?.policies ?? null, sha256, report }));
  else {
    print(printReport(report, paintFor(process.stdout, process.env)));
    if (about !== undefined)
      print(
        `  exported      ${printable(about.exported_at)} for ${printable(about.by)}, tenant ${printable(about.tenant)}, ` +
          `filter ${printable(JSON.stringify(about.filter))}\n` +
          `  access entry  ${printable(about.access.begun)} of ${printable(about.access.log)} and the one that names it: ` +
          `the ledger’s own word on this export\n`,
      );
    if (sha256 !== null) print(`  sha256        ${sha256}\n`);
  }
  process.exitCode = exitCodeOf([report]);
};
