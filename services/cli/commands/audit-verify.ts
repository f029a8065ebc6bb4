import { readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { SingleBar } from 'cli-progress';
import { AppError, errorCode, errorMessage } from '../../shared/contracts/errors.ts';
import { isObject } from '../../shared/contracts/json.ts';
import { hasFailed, VERDICTS, type VerificationReport } from '../../audit/core/verify-report.ts';
import type { AuditClient } from './audit-client.ts';

const POLL_MS = 200;

/** A leaf that the auditor keeps outside the ledger's machines. */
interface Remembered {
  readonly origin: string;
  readonly size: string;
  readonly leaf: string;
}

const isRemembered = (value: unknown): value is Remembered =>
  isObject(value) && ['origin', 'size', 'leaf'].every((name) => typeof value[name] === 'string');

const isReport = (value: unknown): value is VerificationReport => {
  if (!isObject(value) || typeof value['origin'] !== 'string' || !isObject(value['verdicts'])) return false;
  const verdicts = value['verdicts'];
  return VERDICTS.every((name) => {
    const verdict = verdicts[name];
    return isObject(verdict) && typeof verdict['status'] === 'string' && isObject(verdict['checked']);
  });
};

/** What `--remember FILE` holds; nothing when there is no such file yet. */
export const readRemembered = (file: string): readonly Remembered[] => {
  let value: unknown;
  try {
    value = JSON.parse(readFileSync(file, 'utf8'));
  } catch (cause) {
    if (errorCode(cause) === 'ENOENT') return [];
    throw new AppError('usage', `--remember: ${file} cannot be read (${errorCode(cause) ?? errorMessage(cause)})`, {
      cause,
    });
  }
  const known = isObject(value) ? value['known'] : undefined;
  if (!Array.isArray(known) || !known.every(isRemembered))
    throw new AppError('usage', `--remember: ${file} is not such a file`);
  return known;
};

/** Throws `usage` when `writeRemembered` could not write there: a verification may take hours. */
export const requireWritable = (file: string): void => {
  const temporary = `${file}.${process.pid}`;
  try {
    writeFileSync(temporary, '', { mode: 0o600 });
    rmSync(temporary);
  } catch (cause) {
    throw new AppError('usage', `--remember: ${file} cannot be written (${errorCode(cause) ?? errorMessage(cause)})`, {
      cause,
    });
  }
};

/** Keeps what this verification saw of each log that passed; the file is replaced whole. */
export const writeRemembered = (
  file: string,
  before: readonly Remembered[],
  reports: readonly VerificationReport[],
): void => {
  const known = new Map(before.map((fact) => [fact.origin, fact]));
  for (const report of reports)
    if (!hasFailed(report) && report.lastLeaf !== null)
      known.set(report.origin, { origin: report.origin, size: report.size, leaf: report.lastLeaf });
  const temporary = `${file}.${process.pid}`;
  writeFileSync(temporary, `${JSON.stringify({ known: [...known.values()] }, null, 2)}\n`, { mode: 0o600 });
  renameSync(temporary, file);
};

interface Progress {
  readonly show: (done: number, total: number) => void;
  readonly stop: () => void;
}

/** A bar on a terminal's stderr, else nothing. */
const progressOn = (stream: NodeJS.WriteStream, tenant: string): Progress => {
  if (!stream.isTTY) return { show: () => undefined, stop: () => undefined };
  const bar = new SingleBar({
    stream,
    format: `${tenant} [{bar}] {value}/{total} entries`,
    hideCursor: true,
    clearOnComplete: true,
  });
  let isStarted = false;
  return {
    show: (done, total) => {
      if (total === 0) return;
      if (!isStarted) bar.start(total, done);
      else {
        bar.setTotal(total);
        bar.update(done);
      }
      isStarted = true;
    },
    stop: () => {
      if (isStarted) bar.stop();
    },
  };
};

/** Starts a verification of one tenant (or waits for the one that runs) and returns its reports. */
export const verifyTenant = async (
  client: AuditClient,
  tenant: string | undefined,
  remembered: readonly Remembered[],
): Promise<readonly VerificationReport[]> => {
  const parameters: Readonly<Record<string, string>> = tenant === undefined ? {} : { tenant };
  const progress = progressOn(process.stderr, tenant ?? 'verifying');
  try {
    const started = await client.post('/v1/verify', parameters, remembered.length === 0 ? {} : { known: remembered });
    const id = isObject(started['run']) ? started['run']['id'] : undefined;
    for (;;) {
      const { run } = await client.get('/v1/verify', parameters);
      if (!isObject(run) || run['id'] !== id)
        throw new AppError('upstream_unavailable', 'the audit service has lost this verification; was it restarted?');
      if (isObject(run['progress'])) progress.show(Number(run['progress']['done']), Number(run['progress']['total']));
      if (run['state'] === 'failed') {
        const message = isObject(run['error']) ? String(run['error']['message']) : 'no reason given';
        throw new AppError('upstream_unavailable', `the verification could not be finished: ${message}`);
      }
      if (run['state'] === 'done') {
        const reports: readonly unknown[] = Array.isArray(run['reports']) ? run['reports'] : [];
        if (reports.length === 0 || !reports.every(isReport))
          throw new AppError('upstream_unavailable', 'the audit service gave no report that this program understands');
        return reports;
      }
      await sleep(POLL_MS);
    }
  } finally {
    progress.stop();
  }
};
