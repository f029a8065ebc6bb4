import { fork, type ChildProcess } from 'node:child_process';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { AppError } from '../../services/shared/contracts/errors.ts';
import { isObject } from '../../services/shared/contracts/json.ts';
import type { AnswerTo, EngineOrder } from './engine-child.ts';
import { builtScript } from './measure.ts';
import { compileRego, POLICIES } from './opa.ts';

export interface EngineProcess {
  ask<Order extends EngineOrder>(order: Order): Promise<AnswerTo<Order['order']>>;
  close(): void;
}

/**
 * Cedar needs it: V8 of Node 20 aborts when code that it throws away waits for an inlined WebAssembly function that
 * returns a reference, as Cedar's do and OPA's never. A call costs some ns more, of its 40 µs.
 */
export const NO_INLINED_WASM_CALLS = '--no-turbo-inline-js-wasm-calls';

const startChild = (flags: readonly string[]): EngineProcess => {
  const child: ChildProcess = fork(builtScript('engine-child'), ['--engine-child'], {
    execArgv: ['--expose-gc', ...flags],
    serialization: 'advanced',
  });
  return {
    ask: async (order) =>
      await new Promise((resolve, reject) => {
        const onExit = (): void => reject(new AppError('internal', `the measured process ended at '${order.order}'`));
        child.once('exit', onExit);
        child.once('message', (message: unknown) => {
          child.off('exit', onExit);
          if (isObject(message) && 'answer' in message) resolve(message['answer'] as never);
          else
            reject(new AppError('internal', `${order.order}: ${isObject(message) ? String(message['failed']) : ''}`));
        });
        child.send(order);
      }),
    close: () => void child.kill(),
  };
};

/** A process of its own for what is measured. */
export const withChild = async <T>(
  use: (child: EngineProcess) => Promise<T>,
  flags: readonly string[] = [],
): Promise<T> => {
  const child = startChild(flags);
  try {
    return await use(child);
  } finally {
    child.close();
  }
};

/** Compiles one of the benches' own policies with these rules as entrypoints. */
export const compileOwn = async (scratch: string, name: string, rules: readonly string[]): Promise<Uint8Array> => {
  const source = readFileSync(path.join(POLICIES, `${name}.rego`), 'utf8');
  const entrypoints = rules.map((rule) => `bench/${name}/${rule}`);
  return (await compileRego({ scratch, name, source, entrypoints, data: {} })).wasm;
};
