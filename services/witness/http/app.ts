import express, { type Express, type Request, type Response } from 'express';
import { healthHandlers, type Checks } from '../../shared/runtime/health.ts';
import type { Logger } from '../../shared/runtime/logger.ts';
import { Counter, type Registry } from '../../shared/runtime/metrics.ts';
import { problem, PROBLEM_TYPE, problemHandler, unknownRoute } from '../../shared/runtime/problem.ts';
import { MAX_ADD_CHECKPOINT_BYTES, TREE_SIZE_TYPE } from '../../shared/tlog/add-checkpoint.ts';
import type { Answer } from '../core/witness.ts';

export interface WitnessAppOptions {
  readonly addCheckpoint: (body: Uint8Array) => Answer;
  /** The verifier key line of this witness. */
  readonly vkey: string;
  /** The newest cosigned checkpoint of each known log; null before the first. */
  readonly logs: () => readonly { readonly origin: string; readonly checkpoint: string | null }[];
  readonly checks: Checks;
  readonly registry: Registry;
  readonly logger: Logger;
  /** Milliseconds; any clock that only goes forward. */
  readonly nowMs: () => number;
}

const CODES = { 400: 'request_invalid', 403: 'signature_unknown', 404: 'log_unknown', 422: 'not_consistent' } as const;
const REPORT_EVERY_MS = 60_000;

/** Anybody may repeat a request: what a log is suspected of is said once a minute, with how often it was not. */
const createReports = (logger: Logger, nowMs: () => number) => {
  const last = new Map<string, { at: number; suppressed: number }>();
  return (answer: Extract<Answer, { status: 422 }>): void => {
    const kind = `${String(answer.isFork)} ${answer.origin}`;
    const before = last.get(kind);
    if (before !== undefined && nowMs() - before.at < REPORT_EVERY_MS) {
      before.suppressed += 1;
      return;
    }
    last.set(kind, { at: nowMs(), suppressed: 0 });
    const { origin, why, note, seen } = answer;
    const facts = { origin, why, checkpoint: note, cosigned: seen ?? null, suppressed: before?.suppressed ?? 0 };
    if (answer.isFork) logger.error(facts, 'the log signed two trees of one size: keep this line');
    else logger.warn(facts, 'not cosigned');
  };
};

/** The routes of a witness: C2SP tlog-witness, what it cosigned last, health and metrics. */
export const createWitnessApp = (options: WitnessAppOptions): Express => {
  const { logger, registry } = options;
  const requests = new Counter({
    name: 'edict_witness_requests_total',
    help: 'Checkpoints that were sent to this witness, by the status of the answer',
    labelNames: ['status'],
    registers: [registry],
  });
  const forks = new Counter({
    name: 'edict_witness_forks_total',
    help: 'Checkpoints with a good signature and another root than the one of their size that was cosigned',
    registers: [registry],
  });
  const report = createReports(logger, options.nowMs);

  const addCheckpoint = (request: Request, response: Response): void => {
    const body: unknown = request.body;
    const answer = options.addCheckpoint(Buffer.isBuffer(body) ? body : Buffer.alloc(0));
    requests.inc({ status: answer.status });
    response.set('cache-control', 'no-store').status(answer.status);
    if (answer.status === 200) {
      logger.debug({ origin: answer.origin, size: answer.size }, 'cosigned');
      response.type('text/plain; charset=utf-8').send(answer.line);
      return;
    }
    if (answer.status === 409) {
      // By hand: Express would add a character set, and clients compare the type as it stands in the specification.
      response.setHeader('content-type', TREE_SIZE_TYPE);
      response.end(`${answer.size}\n`);
      return;
    }
    if (answer.status === 422) {
      if (answer.isFork) forks.inc();
      report(answer);
    }
    response.type(PROBLEM_TYPE).send(JSON.stringify(problem(answer.status, CODES[answer.status], answer.why)));
  };

  const health = healthHandlers(options.checks);
  const app = express().disable('x-powered-by').disable('etag');
  app.post(
    '/add-checkpoint',
    express.raw({ type: () => true, limit: MAX_ADD_CHECKPOINT_BYTES, inflate: false }),
    addCheckpoint,
  );
  app.get('/logs', (_request, response) => {
    response.set('cache-control', 'no-store').json({ vkey: options.vkey, logs: options.logs() });
  });
  app.get('/health/live', health.live);
  app.get('/health/ready', health.ready);
  app.get('/metrics', async (_request, response) => {
    response.type(registry.contentType).send(await registry.metrics());
  });
  const read = ['GET', 'HEAD'];
  app.use(
    unknownRoute({
      routes: {
        '/add-checkpoint': ['POST'],
        '/logs': read,
        '/health/live': read,
        '/health/ready': read,
        '/metrics': read,
      },
    }),
  );
  app.use(problemHandler({ logger }));
  return app;
};
