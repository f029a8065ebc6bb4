/** Every failure that Edict names. Callers match on the code, never on the text. */
export type ErrorCode =
  // The caller's or operator's mistake.
  | 'settings_invalid'
  | 'usage'
  | 'request_invalid'
  | 'bundle_invalid'
  | 'evidence_invalid'
  | 'ledger_missing'
  | 'not_found'
  // A promise that could not be kept.
  | 'policy_unavailable'
  | 'policy_fault'
  | 'data_unavailable'
  | 'data_corrupt'
  | 'spool_full'
  | 'spool_failed'
  | 'spool_locked'
  | 'spool_corrupt'
  | 'event_too_large'
  | 'event_not_durable'
  | 'database_unavailable'
  | 'database_locked'
  | 'database_conflict'
  | 'ledger_corrupt'
  | 'keys_unavailable'
  | 'journal_corrupt'
  | 'signer_failed'
  | 'signer_memory_failed'
  | 'tripwire_failed'
  | 'witness_failed'
  | 'kafka_unavailable'
  | 'upstream_unavailable'
  | 'internal';

/** The one error class. `details` holds facts for a person or a log, never secrets or personal data. */
export class AppError extends Error {
  readonly code: ErrorCode;
  readonly details: Readonly<Record<string, unknown>>;

  constructor(
    code: ErrorCode,
    message: string,
    options: { readonly cause?: unknown; readonly details?: Readonly<Record<string, unknown>> } = {},
  ) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = 'AppError';
    this.code = code;
    this.details = options.details ?? {};
  }
}

/** True for our own errors, also across module realms (Jest runs tests in one of their own). */
export const isAppError = (error: unknown): error is AppError =>
  typeof error === 'object' && error !== null && 'name' in error && error.name === 'AppError' && 'code' in error;

/** The text of anything that was thrown: libraries throw strings and errors of other realms. */
export const errorMessage = (error: unknown): string =>
  typeof error === 'object' && error !== null && 'message' in error ? String(error.message) : String(error);

/** The `code` of a Node or database error, or undefined. */
export const errorCode = (error: unknown): string | undefined =>
  typeof error === 'object' && error !== null && 'code' in error && typeof error.code === 'string'
    ? error.code
    : undefined;
