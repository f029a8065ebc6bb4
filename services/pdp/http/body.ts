import type { IncomingMessage } from 'node:http';

export type Body =
  | { readonly kind: 'whole'; readonly bytes: Buffer }
  /** More than allowed was announced or came; `bytes` is what was read. */
  | { readonly kind: 'too_large'; readonly bytes: Buffer; readonly lengthBytes: number }
  | { readonly kind: 'slow'; readonly bytes: Buffer }
  /** The client is gone. */
  | { readonly kind: 'aborted' };

export interface BodyReader {
  /** Never rejects. A body that is not `whole` is left unread on the paused request. */
  read(request: IncomingMessage, limitBytes: number): Promise<Body>;
  close(): void;
}

interface Reading {
  readonly deadlineMs: number;
  readonly expire: () => void;
}

const SWEEPS_PER_TIMEOUT = 8;
const EMPTY = Buffer.alloc(0);

const announcedBytes = (request: IncomingMessage): number => {
  const length = request.headers['content-length'];
  return length === undefined ? 0 : Number(length);
};

/**
 * Reads request bodies up to a limit and within `timeoutMs`, counted from the start of the reading. One timer looks
 * after all of them: their deadlines are in the order in which they began.
 */
export const createBodyReader = (options: {
  readonly timeoutMs: number;
  readonly monotonicMs: () => number;
}): BodyReader => {
  const { timeoutMs, monotonicMs } = options;
  const readings = new Set<Reading>();
  const sweep = setInterval(
    () => {
      const now = monotonicMs();
      for (const reading of readings) {
        if (reading.deadlineMs > now) break;
        reading.expire();
      }
    },
    Math.max(1, Math.ceil(timeoutMs / SWEEPS_PER_TIMEOUT)),
  );
  sweep.unref();

  const read = (request: IncomingMessage, limitBytes: number): Promise<Body> => {
    const announced = announcedBytes(request);
    if (announced > limitBytes) return Promise.resolve({ kind: 'too_large', bytes: EMPTY, lengthBytes: announced });
    return new Promise((resolve) => {
      const chunks: Buffer[] = [];
      let received = 0;
      const bytes = (): Buffer => (chunks.length === 1 && chunks[0] !== undefined ? chunks[0] : Buffer.concat(chunks));
      let finished = false;
      const finish = (body: Body): void => {
        if (finished) return;
        finished = true;
        readings.delete(reading);
        // After the end nothing comes but `close`, so the listeners of a whole body may go with the request.
        if (body.kind !== 'whole') {
          request.off('data', onData).off('end', onEnd).off('close', onClose).off('error', onClose);
          request.pause().on('error', ignore);
        }
        resolve(body);
      };
      const onData = (chunk: Buffer): void => {
        received += chunk.length;
        if (received <= limitBytes) chunks.push(chunk);
        else finish({ kind: 'too_large', bytes: bytes(), lengthBytes: received });
      };
      const onEnd = (): void => finish({ kind: 'whole', bytes: bytes() });
      const onClose = (): void => finish({ kind: 'aborted' });
      const reading: Reading = {
        deadlineMs: monotonicMs() + timeoutMs,
        expire: () => finish({ kind: 'slow', bytes: bytes() }),
      };
      readings.add(reading);
      request.on('data', onData).on('end', onEnd).on('close', onClose).on('error', onClose);
    });
  };
  return { read, close: () => clearInterval(sweep) };
};

const ignore = (): void => undefined;
