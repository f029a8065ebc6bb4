import { errorCode } from '../shared/contracts/errors.ts';

interface Output {
  on(event: 'error', listener: (error: unknown) => void): unknown;
}

let isGone = false;

/** True once whoever read standard output has closed it: what is printed from now on reaches nobody. */
export const isOutputGone = (): boolean => isGone;

/**
 * A reader that has seen enough (`| head`) is no failure: what is printed after it is dropped, and the exit code stays
 * that of the command, so that a check cannot pass because nobody read its answer. Any other failure of standard
 * output is told to `onFailure`; one of standard error has nobody to be told to.
 */
export const watchOutput = (streams: {
  readonly stdout: Output;
  readonly stderr: Output;
  readonly onFailure: (error: unknown) => void;
}): void => {
  streams.stdout.on('error', (error) => {
    if (errorCode(error) === 'EPIPE') isGone = true;
    else if (!isGone) streams.onFailure(error);
  });
  streams.stderr.on('error', () => undefined);
};
