import { BuiltinError } from './builtin.ts';

const ALPHABETS = { standard: /^[A-Za-z0-9+/]*$/, url: /^[A-Za-z0-9_-]*$/ } as const;

/**
 * Base64 (RFC 4648) as Go reads it: line ends are skipped, padding is demanded or refused as `padded` says, bits left
 * over at the end are not looked at. Throws `BuiltinError`.
 */
export const decodeBase64 = (text: string, alphabet: keyof typeof ALPHABETS, padded: boolean): Buffer => {
  const lines = /[\r\n]/.test(text) ? text.replaceAll(/[\r\n]/g, '') : text;
  const padding = padded ? Number(lines.endsWith('=')) + Number(lines.endsWith('==')) : 0;
  const digits = lines.slice(0, lines.length - padding);
  const isComplete = padded ? lines.length % 4 === 0 : digits.length % 4 !== 1;
  if (!isComplete || !ALPHABETS[alphabet].test(digits)) throw new BuiltinError('malformed base64');
  return Buffer.from(digits, 'base64');
};

export interface PemBlock {
  readonly type: string;
  readonly bytes: Buffer;
}

const BEGIN = '-----BEGIN ';
const END = '\n-----END ';
const DASHES = '-----';

/** The line at `start` without white space at its end, and where the next one starts. */
const lineAt = (text: string, start: number): { line: string; next: number } => {
  const end = text.indexOf('\n', start);
  const until = end === -1 ? text.length : end;
  const isCrLf = end !== -1 && until > start && text.charCodeAt(until - 1) === 0x0d;
  let last = isCrLf ? until - 1 : until;
  while (last > start && (text[last - 1] === ' ' || text[last - 1] === '\t')) last -= 1;
  return { line: text.slice(start, last), next: end === -1 ? text.length : end + 1 };
};

/** Where the headers (RFC 1421) that start at `start` end; they do not go on beyond `limit`. */
const afterHeaders = (text: string, start: number, limit: number): number => {
  let at = start;
  while (at <= limit) {
    const { line, next } = lineAt(text, at);
    if (!line.includes(':')) break;
    at = next;
  }
  return at;
};

/**
 * The first PEM block (RFC 7468) at or after `start`, and the text after it; what comes before it, and what only looks
 * like one, is skipped. `undefined` when there is none. As lenient as Go's decoder, and linear.
 */
export const nextPemBlock = (text: string): { block: PemBlock; rest: string } | undefined => {
  let from = 0;
  for (;;) {
    const end = text.indexOf(END, from);
    if (end === -1) return undefined;
    const found = readBlock(text, from, end);
    if (found === 'no more') return undefined;
    if (found !== undefined) return found;
    from = end + END.length;
  }
};

const readBlock = (
  text: string,
  from: number,
  end: number,
): { block: PemBlock; rest: string } | 'no more' | undefined => {
  const begin = text.slice(from, end).lastIndexOf(BEGIN);
  if (begin === -1 || (begin > 0 && text[from + begin - 1] !== '\n')) return undefined;
  const { line, next } = lineAt(text, from + begin + BEGIN.length);
  if (!line.endsWith(DASHES)) return undefined;
  const type = line.slice(0, -DASHES.length);
  const body = afterHeaders(text, next, end + 1);
  // Headers are followed by a line of their own. Where the end of the block was taken for one of them, Go gives up.
  if (body > next && body > end) return body > end + END.length ? 'no more' : undefined;
  const trailer = text.slice(end + END.length, end + END.length + type.length + DASHES.length);
  if (trailer !== type + DASHES) return undefined;
  if (lineAt(text, end + END.length + trailer.length).line !== '') return undefined;
  try {
    const bytes =
      end > body ? decodeBase64(text.slice(body, end).replaceAll(/[ \t]/g, ''), 'standard', true) : Buffer.alloc(0);
    return { block: { type, bytes }, rest: text.slice(lineAt(text, end + END.length - 1).next) };
  } catch (cause) {
    if (cause instanceof BuiltinError) return undefined;
    throw cause;
  }
};
