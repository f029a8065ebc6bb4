import { AppError } from '../../../services/shared/contracts/errors.ts';
import { createLogger } from '../../../services/shared/runtime/logger.ts';

const capture = (log: (logger: ReturnType<typeof createLogger>) => void): string => {
  const lines: string[] = [];
  log(createLogger({ service: 'test', destination: { write: (line: string) => void lines.push(line) } }));
  return lines.join('');
};
const SECRET = 'A'.repeat(43);
const KEY = `edict_abcdefghijkl_${SECRET}`;

describe('logger', () => {
  it('writes one JSON line with service, level and ISO time', () => {
    const line = JSON.parse(capture((logger) => logger.info({ port: 1 }, 'listening'))) as Record<string, unknown>;
    expect(line).toMatchObject({ service: 'test', level: 'info', port: 1, msg: 'listening' });
    expect(line['time']).toMatch(/^\d{4}-\d\d-\d\dT/);
  });

  it.each<[string, object]>([
    ['a header', { headers: { authorization: `Bearer ${SECRET}` } }],
    ['a token deep inside', { request: { tokens: { subject_token: SECRET } } }],
    ['an API key', { api_keys: [SECRET] }],
    ['a body', { body: { subject: SECRET } }],
    ['bytes', { raw: Buffer.from(SECRET) }],
    ['a key inside a text', { text: `sent ${KEY} along` }],
    ['a bearer credential inside a text', { text: `header was Bearer ${SECRET}` }],
    ['the password of a URL', { text: `postgres://user:${SECRET}@host/db` }],
    ['an error message', { err: new Error(`bad ${KEY}`) }],
    [
      'the details and cause of an error',
      { err: new AppError('internal', 'x', { details: { token: SECRET }, cause: new Error(KEY) }) },
    ],
    ['what a driver hangs on its error', { err: Object.assign(new Error('x'), { row: SECRET, query: SECRET }) }],
  ])('removes %s', (_name, members) => {
    expect(capture((logger) => logger.error(members, 'm'))).not.toContain(SECRET);
  });

  it('removes secrets from the bindings of a child', () => {
    expect(capture((logger) => logger.child({ token: SECRET }).info('m'))).not.toContain(SECRET);
  });

  it('keeps type, code, message, details and cause of our errors, each once', () => {
    const cause = new TypeError('a cause');
    const error = new AppError('spool_full', 'no room', { details: { bytes: 5 }, cause });
    const line = JSON.parse(capture((logger) => logger.error({ err: error }, 'm'))) as Record<string, unknown>;
    expect(line['err']).toEqual({
      type: 'AppError',
      code: 'spool_full',
      message: 'no room',
      details: { bytes: 5 },
      stack: error.stack,
      cause: { type: 'TypeError', message: 'a cause', stack: cause.stack },
    });
  });

  it.each(['22P02', '23505'])('leaves out what a database quotes in an error of state %s', (code) => {
    const text = 'invalid input syntax for type json: alice@example.com';
    const cause = Object.assign(new Error(text), { name: 'error', code });
    const logged = capture((logger) => {
      logger.error({ err: new AppError('internal', 'the statement failed', { cause }) }, 'm');
      logger.error({ err: cause }, 'm');
      logger.error({ detail: { reason: cause } }, 'm');
    });
    expect(logged).not.toContain('alice');
    expect(logged.match(new RegExp(`"code":"${code}"`, 'g'))).toHaveLength(3);
  });
});
