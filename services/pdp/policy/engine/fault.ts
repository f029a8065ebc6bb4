import { BuiltinHalt } from './builtin.ts';
import { PolicyAbort } from './instance.ts';
import { NoMemoryLeft } from './memory-pool.ts';

export interface EngineFault {
  readonly code: 'policy_error' | 'policy_memory' | 'policy_fuel' | 'policy_output_invalid';
  /** Holds no input, but what a policy's author wrote. */
  readonly message: string;
  /** Where the policy's source says it went wrong, as far as the module told. */
  readonly at?: { readonly file: string; readonly row: number };
}

const MESSAGE_CHARS = 500;
const SOURCE = /^(.{1,400}?):(\d{1,9}):\d{1,9}: /;

const bounded = (message: string): string => message.slice(0, MESSAGE_CHARS);

/** The evaluation came to its end, with more than anybody reads. */
export const resultTooLarge = (resultMaxBytes: number): EngineFault => ({
  code: 'policy_output_invalid',
  message: `the result is larger than ${resultMaxBytes} bytes`,
});

/** What ended an evaluation, as a value. */
export const faultOf = (cause: unknown, outOfFuel: boolean): EngineFault => {
  if (outOfFuel) return { code: 'policy_fuel', message: 'the evaluation took more steps than it may' };
  if (cause instanceof PolicyAbort) {
    const { message } = cause;
    if (message.startsWith('opa_malloc')) return { code: 'policy_memory', message: bounded(message) };
    const [, file, row] = SOURCE.exec(message) ?? [];
    const at = file === undefined || row === undefined ? {} : { at: { file, row: Number(row) } };
    return { code: 'policy_error', message: bounded(message), ...at };
  }
  if (cause instanceof BuiltinHalt) return { code: 'policy_error', message: bounded(`a built-in: ${cause.message}`) };
  if (cause instanceof NoMemoryLeft) return { code: 'policy_memory', message: bounded(cause.message) };
  return { code: 'policy_error', message: bounded(cause instanceof Error ? cause.message : String(cause)) };
};
