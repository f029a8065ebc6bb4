import { setTimeout as sleep } from 'node:timers/promises';
import { SingleBar } from 'cli-progress';
import { AppError } from '../../shared/contracts/errors.ts';
import { isObject } from '../../shared/contracts/json.ts';
import { isSealedPlace, type SealedPlace } from '../../audit/core/verify-place.ts';
import { VERDICTS, type VerificationReport } from '../../audit/core/verify-report.ts';
import type { AuditClient } from './audit-client.ts';
import type { Remembered } from './audit-verify-memory.ts';

const POLL_MS = 200;
/** How often what was verified so far is kept. */
const KEEP_MS = 5_000;

const isReport = (value: unknown): value is VerificationReport => {
  if (!isObject(value) || typeof value['origin'] !== 'string' || !isObject(value['verdicts'])) return false;
  const verdicts = value['verdicts'];
  return VERDICTS.every((name) => {
    const verdict = verdicts[name];
    return isObject(verdict) && typeof verdict['status'] === 'string' && isObject(verdict['checked']);
  });
};

interface Progress {
  readonly show: (done: number, total: number) => void;
  readonly stop: () => void;
}

/** A bar with rate and time left on a terminal's stderr, else nothing. */
export const progressOn = (stream: NodeJS.WriteStream, tenant: string): Progress => {
  if (!stream.isTTY) return { show: () => undefined, stop: () => undefined };
  const bar = new SingleBar({
    stream,
    format: `${tenant} [{bar}] {value}/{total} entries, {rate}/s, {eta_formatted} left`,
    hideCursor: true,
    clearOnComplete: true,
  });
  let isStarted = false;
  let begun = { atMs: performance.now(), done: 0 };
  const rateOf = (done: number): string => {
    const seconds = (performance.now() - begun.atMs) / 1_000;
    return seconds < 0.5 ? '–' : ((done - begun.done) / seconds).toFixed(0);
  };
  return {
    show: (done, total) => {
      if (total === 0) return;
      if (!isStarted) {
        begun = { atMs: performance.now(), done };
        bar.start(total, done, { rate: rateOf(done) });
      } else {
        bar.setTotal(total);
        bar.update(done, { rate: rateOf(done) });
      }
      isStarted = true;
    },
    stop: () => {
      if (isStarted) bar.stop();
    },
  };
};

/** Two RFC 3339 times, as `toISOString` writes them. */
export interface Between {
  readonly from: string;
  readonly to: string;
}

const answersFor =
  ({ from, to }: Between) =>
  (report: unknown): boolean =>
    isObject(report) &&
    isObject(report['statement']) &&
    report['statement']['from'] === from &&
    report['statement']['to'] === to;

/** Starts a verification of one tenant (or waits for the one that runs) and returns its reports. */
export const verifyTenant = async (
  client: AuditClient,
  tenant: string | undefined,
  asked: {
    readonly known: readonly Remembered[];
    readonly places: readonly SealedPlace[];
    readonly between?: Between;
  },
  keep: (places: readonly SealedPlace[]) => void,
): Promise<readonly VerificationReport[]> => {
  const parameters: Readonly<Record<string, string>> = tenant === undefined ? {} : { tenant };
  const progress = progressOn(process.stderr, tenant ?? 'verifying');
  try {
    const started = await client.post('/v1/verify', parameters, {
      ...asked,
      known: asked.known.map(({ origin, size, leaf }) => ({ origin, size, leaf })),
    });
    const id = isObject(started['run']) ? started['run']['id'] : undefined;
    let keptAt = performance.now();
    for (;;) {
      const { run } = await client.get('/v1/verify', parameters);
      if (!isObject(run) || run['id'] !== id)
        throw new AppError('upstream_unavailable', 'the audit service has lost this verification; was it restarted?');
      if (isObject(run['progress'])) progress.show(Number(run['progress']['done']), Number(run['progress']['total']));
      if (run['state'] === 'done' || performance.now() - keptAt > KEEP_MS) {
        const { places } = await client.get('/v1/verify', { ...parameters, places: 'true' });
        keep(Array.isArray(places) ? places.filter(isSealedPlace) : []);
        keptAt = performance.now();
      }
      if (run['state'] === 'failed') {
        const message = isObject(run['error']) ? String(run['error']['message']) : 'no reason given';
        throw new AppError('upstream_unavailable', `the verification could not be finished: ${message}`);
      }
      if (run['state'] === 'done') {
        const reports: readonly unknown[] = Array.isArray(run['reports']) ? run['reports'] : [];
        if (asked.between !== undefined && !reports.every(answersFor(asked.between)))
          throw new AppError(
            'upstream_unavailable',
            'another verification was running, which nobody asked for these times',
          );
        if (reports.length === 0 || !reports.every(isReport))
          throw new AppError('upstream_unavailable', 'the audit service gave no report that this program understands');
        return reports;
      }
      await sleep(POLL_MS);
    }
  } finally {
    progress.stop();
  }
};
