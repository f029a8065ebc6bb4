import { pino, type DestinationStream, type Logger as PinoLogger } from 'pino';

export type Logger = PinoLogger;
export type LogLevel = 'fatal' | 'error' | 'warn' | 'info' | 'debug' | 'trace' | 'silent';

/** Members whose value never reaches the log, at any depth. */
const SECRET_NAME =
  /authorization|cookie|passw|secret|token|api[-_]?key|private[-_]?key|credential|^body$|^proof$|_url$|connection_?string/i;
/** Secrets inside texts: API keys, bearer credentials, passwords of URLs. */
const SECRET_TEXT =
  /edict_[a-z0-9]{12}_[A-Za-z0-9_-]{43}|\b(?:Bearer|DPoP|Basic)\s+[\w.~+/=-]+|(?<=:\/\/[^/\s:@]*):[^@/\s]+(?=@)/gi;
/** For the bindings of child loggers, which no formatter sees; top level and one below. */
const SECRET_BINDINGS = [
  'authorization',
  'token',
  'tokens',
  'secret',
  'password',
  'api_key',
  'api_keys',
  'body',
  'cookie',
];
const REDACTED = '[redacted]';
const MAX_DEPTH = 6;
const MAX_MEMBERS = 100;
const MAX_CAUSES = 4;

const isErrorLike = (value: object): value is Error =>
  'message' in value && 'stack' in value && typeof value.message === 'string';

const cleanText = (text: string): string => text.replace(SECRET_TEXT, REDACTED);

/** SQLSTATE classes whose messages quote values (PostgreSQL, appendix A): data exceptions, violated constraints. */
const QUOTING_STATE = /^2[23][0-9A-Z]{3}$/;

const isQuoting = (error: Error): boolean =>
  'code' in error && typeof error.code === 'string' && QUOTING_STATE.test(error.code);

/** Only what errors of ours and of Node surely hold; drivers hang rows and requests on theirs. */
const cleanError = (error: Error, depth: number): Readonly<Record<string, unknown>> => ({
  type: error.name,
  ...('code' in error ? { code: String(error.code) } : {}),
  ...(isQuoting(error) ? { message: REDACTED } : { message: cleanText(error.message) }),
  ...(error.name === 'AppError' && 'details' in error ? { details: clean(error.details, depth + 1) } : {}),
  ...(typeof error.stack === 'string' && !isQuoting(error) ? { stack: cleanText(error.stack) } : {}),
  ...(typeof error.cause === 'object' && error.cause !== null && isErrorLike(error.cause) && depth < MAX_CAUSES
    ? { cause: cleanError(error.cause, depth + 1) }
    : {}),
});

const clean = (value: unknown, depth: number): unknown => {
  if (typeof value === 'string') return cleanText(value);
  if (typeof value === 'bigint') return value.toString();
  if (typeof value !== 'object' || value === null) return value;
  if (isErrorLike(value)) return cleanError(value, depth);
  if (ArrayBuffer.isView(value)) return `[${value.byteLength} bytes]`;
  if (depth >= MAX_DEPTH) return '[deep]';
  if (Array.isArray(value)) return value.slice(0, MAX_MEMBERS).map((item) => clean(item, depth + 1));
  return cleanMembers(value, depth);
};

const cleanMembers = (value: object, depth: number): Record<string, unknown> =>
  Object.fromEntries(
    Object.entries(value)
      .slice(0, MAX_MEMBERS)
      .map(([name, member]) => [name, SECRET_NAME.test(name) ? REDACTED : clean(member, depth + 1)]),
  );

/**
 * One JSON line an event. Secrets are removed by the name of the member at any depth and by their shape inside
 * texts; errors keep type, code, message, stack, causes and, when they are ours, details. Messages of a database that may
 * quote values are left out.
 */
export const createLogger = (options: {
  readonly service: string;
  readonly level?: LogLevel;
  /** Default: standard output, written at once, so that the last line before an exit is there. */
  readonly destination?: DestinationStream;
}): Logger =>
  pino(
    {
      level: options.level ?? 'info',
      base: { service: options.service },
      redact: { paths: SECRET_BINDINGS.flatMap((name) => [name, `*.${name}`]), censor: REDACTED },
      // The formatter below made it what it shall be; pino's own would run over that again.
      serializers: { err: (cleaned: unknown) => cleaned },
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: {
        level: (label) => ({ level: label }),
        bindings: (bindings) => cleanMembers(bindings, 0),
        log: (members) => cleanMembers(members, 0),
      },
    },
    options.destination ?? pino.destination({ fd: 1, sync: true }),
  );
