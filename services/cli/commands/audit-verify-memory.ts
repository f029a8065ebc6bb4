import { readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { AppError, errorCode, errorMessage } from '../../shared/contracts/errors.ts';
import { isObject } from '../../shared/contracts/json.ts';
import { hasFailed, type VerificationReport } from '../../audit/core/verify-report.ts';

/** A leaf that the auditor keeps outside the ledger's machines. */
export interface Remembered {
  readonly origin: string;
  readonly size: string;
  readonly leaf: string;
}

const isRemembered = (value: unknown): value is Remembered =>
  isObject(value) && ['origin', 'size', 'leaf'].every((name) => typeof value[name] === 'string');

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
