import { readFileSync, statSync } from 'node:fs';
import { errorCode, errorMessage, type AppError } from '../contracts/errors.ts';
import { MAX_POLICY_BYTES, parsePolicy, type Policy } from '../tlog/policy.ts';

/** The C2SP tlog-policy in a file; a longer one is not read. Throws what `invalid` makes of the fault. */
export const readPolicyFile = (file: string, invalid: (what: string, cause?: unknown) => AppError): Policy => {
  let bytes: Buffer;
  try {
    if (statSync(file).size > MAX_POLICY_BYTES) throw new RangeError(`longer than ${MAX_POLICY_BYTES} bytes`);
    bytes = readFileSync(file);
  } catch (cause) {
    throw invalid(`${file} cannot be read (${errorCode(cause) ?? errorMessage(cause)})`, cause);
  }
  const policy = parsePolicy(bytes);
  if ('problem' in policy) throw invalid(`${file}: ${policy.problem}`);
  return policy;
};
