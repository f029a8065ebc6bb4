import { readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { AppError, errorCode, errorMessage } from '../../shared/contracts/errors.ts';
import { isObject } from '../../shared/contracts/json.ts';
import { isSealedPlace, type SealedPlace } from '../../audit/core/verify-place.ts';
import { hasFailed, type VerificationReport } from '../../audit/core/verify-report.ts';

/** A leaf that the auditor keeps outside the ledger's machines. */
export interface Remembered {
  readonly origin: string;
  readonly size: string;
  readonly leaf: string;
  /** Seen in what a checkpoint covers. */
  readonly isSigned?: boolean;
}

const isRemembered = (value: unknown): value is Remembered =>
  isObject(value) && ['origin', 'size', 'leaf'].every((name) => typeof value[name] === 'string');

/** What an auditor keeps: sizes and leaves to compare with, and places to go on from. */
export interface Memory {
  readonly known: readonly Remembered[];
  readonly places: readonly SealedPlace[];
}

export const NO_MEMORY: Memory = { known: [], places: [] };

/** What `--remember FILE` holds; nothing when there is no such file yet. */
export const readRemembered = (file: string): Memory => {
  let value: unknown;
  try {
    value = JSON.parse(readFileSync(file, 'utf8'));
  } catch (cause) {
    if (errorCode(cause) === 'ENOENT') return NO_MEMORY;
    throw new AppError('usage', `--remember: ${file} cannot be read (${errorCode(cause) ?? errorMessage(cause)})`, {
      cause,
    });
  }
  const known = isObject(value) ? value['known'] : undefined;
  if (!Array.isArray(known) || !known.every(isRemembered))
    throw new AppError('usage', `--remember: ${file} is not such a file`);
  const places = isObject(value) ? (value['places'] ?? []) : [];
  if (!Array.isArray(places) || !places.every(isSealedPlace))
    throw new AppError('usage', `--remember: ${file} is not such a file`);
  return { known, places };
};

const replace = (file: string, memory: Memory): void => {
  const temporary = `${file}.${process.pid}`;
  writeFileSync(temporary, `${JSON.stringify(memory, null, 2)}\n`, { mode: 0o600, flush: true });
  renameSync(temporary, file);
};

/** Keeps the newest places beside what is there; the file is replaced whole. */
export const rememberPlaces = (file: string, places: readonly SealedPlace[]): void => {
  const before = readRemembered(file);
  const byOrigin = new Map([...before.places, ...places].map((place) => [place.origin, place]));
  replace(file, { known: before.known, places: [...byOrigin.values()] });
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
export const writeRemembered = (file: string, reports: readonly VerificationReport[], isSigned: boolean): void => {
  const placeOf = ({ origin, isSigned: signed = false }: Remembered): string => `${origin} ${signed}`;
  const before = readRemembered(file);
  const known = new Map(before.known.map((fact) => [placeOf(fact), fact]));
  for (const report of reports)
    if (!hasFailed(report) && report.lastLeaf !== null) {
      const fact: Remembered = {
        origin: report.origin,
        size: report.size,
        leaf: report.lastLeaf,
        ...(isSigned ? { isSigned } : {}),
      };
      known.set(placeOf(fact), fact);
    }
  replace(file, { known: [...known.values()], places: before.places });
};
