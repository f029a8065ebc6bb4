import { createServer, STATUS_CODES, type IncomingMessage, type Server, type ServerOptions } from 'node:http';
import type { ServerResponse } from 'node:http';
import type { Duplex } from 'node:stream';
import { errorCode } from '../../shared/contracts/errors.ts';
import { problem, PROBLEM_TYPE } from '../../shared/runtime/problem.ts';

type Handle = (request: IncomingMessage, response: ServerResponse) => unknown;

const ignore = (): void => undefined;

const bodyOf = (status: number, code: string, detail: string): string => JSON.stringify(problem(status, code, detail));

const send = (response: ServerResponse, status: number, code: string, detail: string): void => {
  response.writeHead(status, { 'content-type': PROBLEM_TYPE, 'cache-control': 'no-store', connection: 'close' });
  response.end(bodyOf(status, code, detail));
};

const rawAnswer = (status: number, code: string, detail: string): string => {
  const body = bodyOf(status, code, detail);
  return [
    `HTTP/1.1 ${status} ${STATUS_CODES[status] ?? 'Error'}`,
    `Content-Type: ${PROBLEM_TYPE}`,
    `Content-Length: ${Buffer.byteLength(body)}`,
    'Cache-Control: no-store',
    'Connection: close',
    '',
    body,
  ].join('\r\n');
};

const brokenRequest = (error: unknown): readonly [status: number, code: string, detail: string] => {
  switch (errorCode(error)) {
    case 'HPE_HEADER_OVERFLOW':
      return [431, 'header_too_large', 'the head of the request is too large'];
    case 'ERR_HTTP_REQUEST_TIMEOUT':
      return [408, 'request_timeout', 'the request took too long'];
    default:
      return [400, 'malformed_http', 'this is not HTTP/1.1'];
  }
};

/**
 * The server in front of `handle`: what is refused before any route, also what is no HTTP at all, is answered with a
 * problem (RFC 9457) as everything else is. A target must be a path: this is no proxy.
 */
export const createAuditServer = (handle: Handle, options: ServerOptions): Server => {
  const onRequest: Handle = (request, response) => {
    if (request.headers.host === undefined && request.httpVersion !== '1.0')
      return send(response, 400, 'malformed_http', 'the header Host is missing');
    if (request.url?.startsWith('/') !== true)
      return send(response, 400, 'request_invalid', 'the target is no path: this is no proxy');
    return handle(request, response);
  };
  // Node's own answer to a missing Host has no body.
  const server = createServer({ ...options, requireHostHeader: false }, onRequest);
  server.on('checkExpectation', (_request: IncomingMessage, response: ServerResponse) =>
    send(response, 417, 'expectation_failed', 'only 100-continue is known'),
  );
  server.on('connect', (_request: IncomingMessage, socket: Duplex) => {
    socket.on('error', ignore).end(rawAnswer(405, 'method_not_allowed', 'this is no proxy'));
  });
  server.on('clientError', (error: unknown, socket: Duplex) => {
    if (errorCode(error) === 'ECONNRESET' || !socket.writable) socket.destroy();
    else socket.on('error', ignore).end(rawAnswer(...brokenRequest(error)));
  });
  return server;
};
