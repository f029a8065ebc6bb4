import { errorCode, errorMessage } from '../../shared/contracts/errors.ts';
import { isObject } from '../../shared/contracts/json.ts';
import type { WitnessResponse } from '../core/witness-answer.ts';

/** More than any list of signatures that is worth reading. */
const MAX_BODY_BYTES = 16 * 1024;

/** Why nothing answers: Node's fetch hides it in the cause. */
const reasonOf = (error: unknown): string => {
  const cause: unknown = typeof error === 'object' && error !== null ? Reflect.get(error, 'cause') : undefined;
  if (isObject(error) && error['name'] === 'TimeoutError') return 'does not answer in time';
  return `does not answer (${errorCode(cause) ?? errorCode(error) ?? errorMessage(error)})`;
};

/**
 * `POST <prefix>/add-checkpoint` (C2SP tlog-witness). A text says why there is no answer; nothing is followed, and no more
 * than a bound is read.
 */
export const askWitness = async (
  prefix: string,
  request: Uint8Array,
  signal: AbortSignal,
): Promise<WitnessResponse | string> => {
  try {
    const response = await fetch(`${prefix.replace(/\/+$/, '')}/add-checkpoint`, {
      method: 'POST',
      redirect: 'error',
      headers: { 'content-type': 'text/plain; charset=utf-8' },
      body: Buffer.from(request),
      signal,
    });
    const chunks: Uint8Array[] = [];
    let bytes = 0;
    for await (const chunk of response.body ?? []) {
      const part = chunk as Uint8Array;
      bytes += part.length;
      // Leaving the loop cancels the body, and with it the connection.
      if (bytes > MAX_BODY_BYTES) return 'answers too much';
      chunks.push(part);
    }
    return {
      status: response.status,
      contentType: response.headers.get('content-type') ?? '',
      body: Buffer.concat(chunks).toString('utf8'),
    };
  } catch (error) {
    return reasonOf(error);
  }
};
