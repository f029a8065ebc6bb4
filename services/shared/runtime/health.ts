import type { RequestHandler } from 'express';
import { errorMessage } from '../contracts/errors.ts';

/** What a check found. Facts are shown whether it is ready or not: lag, a bundle whose reload failed, void promises. */
export type CheckResult =
  | { readonly ok: true; readonly facts?: Readonly<Record<string, unknown>> }
  | { readonly ok: false; readonly reason: string; readonly facts?: Readonly<Record<string, unknown>> };

export type Check = () => CheckResult | Promise<CheckResult>;
export type Checks = Readonly<Record<string, Check>>;

export interface Readiness {
  readonly ready: boolean;
  /** The names of the checks that are not ok. */
  readonly failing: readonly string[];
  readonly checks: Readonly<Record<string, CheckResult>>;
}

const DEFAULT_TIMEOUT_MS = 2_000;

const runCheck = async (check: Check, timeoutMs: number): Promise<CheckResult> => {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<CheckResult>((resolve) => {
    timer = setTimeout(() => resolve({ ok: false, reason: `no answer within ${timeoutMs} ms` }), timeoutMs);
  });
  try {
    return await Promise.race([Promise.resolve().then(check), late]);
  } catch (error) {
    return { ok: false, reason: errorMessage(error) };
  } finally {
    clearTimeout(timer);
  }
};

/** Runs all checks at once; one that throws or takes longer than `timeoutMs` is not ok. Never rejects. */
export const readiness = async (checks: Checks, timeoutMs: number = DEFAULT_TIMEOUT_MS): Promise<Readiness> => {
  const results = await Promise.all(
    Object.entries(checks).map(async ([name, check]) => [name, await runCheck(check, timeoutMs)] as const),
  );
  const failing = results.filter(([, result]) => !result.ok).map(([name]) => name);
  return { ready: failing.length === 0, failing, checks: Object.fromEntries(results) };
};

/**
 * `GET /health/live`: the event loop turns. `GET /health/ready`: 200, or 503 naming the failing checks.
 * `failureMembers` are added to the body of a 503.
 */
export const healthHandlers = (
  checks: Checks,
  options: { readonly timeoutMs?: number; readonly failureMembers?: Readonly<Record<string, unknown>> } = {},
): { readonly live: RequestHandler; readonly ready: RequestHandler } => ({
  live: (_request, response) => {
    response.set('cache-control', 'no-store').json({ status: 'ok' });
  },
  ready: async (_request, response) => {
    const { ready, failing, checks: results } = await readiness(checks, options.timeoutMs);
    response
      .set('cache-control', 'no-store')
      .status(ready ? 200 : 503)
      .json({
        status: ready ? 'ok' : 'unavailable',
        ...(ready ? {} : { failing, ...options.failureMembers }),
        checks: results,
      });
  },
});
