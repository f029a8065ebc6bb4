import { STATUS_CODES } from 'node:http';
import { errorCode } from '../contracts/errors.ts';
import { PROBLEM_TYPE } from './problem.ts';

/** A whole answer for a connection whose request could not be read, so that there is no response object. */
export const rawAnswer = (status: number, body: string): string =>
  [
    `HTTP/1.1 ${status} ${STATUS_CODES[status] ?? 'Error'}`,
    `Content-Type: ${PROBLEM_TYPE}`,
    `Content-Length: ${Buffer.byteLength(body)}`,
    'Cache-Control: no-store',
    'Connection: close',
    '',
    body,
  ].join('\r\n');

/** What a `clientError` of Node's server means. */
export const brokenRequest = (error: unknown): readonly [status: number, code: string, detail: string] => {
  switch (errorCode(error)) {
    case 'HPE_HEADER_OVERFLOW':
      return [431, 'header_too_large', 'the head of the request is too large'];
    case 'ERR_HTTP_REQUEST_TIMEOUT':
      return [408, 'request_timeout', 'the request took too long'];
    default:
      return [400, 'malformed_http', 'this is not HTTP/1.1'];
  }
};
