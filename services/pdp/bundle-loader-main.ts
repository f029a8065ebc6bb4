// The thread that loads bundles; started by `bundle-loader.ts`, which says what to load.
import { parentPort } from 'node:worker_threads';
import { AppError, errorMessage, isAppError } from '../shared/contracts/errors.ts';
import type { LoadAnswer } from './bundle-loader.ts';
import { loadBundle, type LoadRequest } from './policy/load-bundle.ts';

if (parentPort === null) throw new AppError('internal', 'this is a thread of the decision point, and no program');
const port = parentPort;
const never = new AbortController().signal;

const answer = async (request: LoadRequest): Promise<void> => {
  try {
    const bundle = await loadBundle(request, never);
    // What others may have a part of cannot be handed over, and is small.
    const whole = bundle.whole === undefined ? undefined : new Uint8Array(bundle.whole);
    const { image } = bundle.policy?.module ?? {};
    const handed = [whole?.buffer, image?.bytes.buffer].filter((buffer) => buffer instanceof ArrayBuffer);
    port.postMessage({ bundle: { ...bundle, whole } } satisfies LoadAnswer, handed);
  } catch (cause) {
    const error = isAppError(cause)
      ? { code: cause.code, message: cause.message, details: cause.details }
      : { code: 'internal' as const, message: errorMessage(cause), details: {} };
    port.postMessage({ error } satisfies LoadAnswer);
  }
};

port.on('message', (request: LoadRequest) => void answer(request));
