import cluster, { type Worker } from 'node:cluster';
import { fileURLToPath } from 'node:url';
import type { Logger } from '../shared/runtime/logger.ts';
import { createRegistry } from '../shared/runtime/metrics.ts';
import { watchSettings, type PrepareReload } from '../shared/runtime/reload.ts';
import type { Settings } from '../shared/settings/schema.ts';
import type { Handle } from '../shared/runtime/lifecycle.ts';
import { parseListen } from '../shared/runtime/http-server.ts';
import { createKnownCallers } from './callers/known-callers.ts';
import { createMaskKeys } from './callers/mask-keys.ts';
import { checkBundleKeys } from './policy/source-settings.ts';
import { startSupervisor, type WorkerProcess } from './workers/supervisor.ts';

export interface Primary extends Handle {
  /** Where the workers listen. */
  readonly url: string;
  close(): Promise<void>;
}

export interface PrimaryOptions {
  readonly logger: Logger;
  readonly load: () => Settings;
  readonly settingsFile: string | undefined;
  /** Refuses settings whose fixed parts are not those of the start. */
  readonly refuseFixed: PrepareReload;
  /** Aborted: the start is given up. */
  readonly stopping: AbortSignal;
}

const workerProcess = (worker: Worker): WorkerProcess => ({
  pid: worker.process.pid,
  send: (message) => {
    // What cannot be sent was for one whose end is seen in a moment.
    if (worker.isConnected()) worker.send(message, undefined, () => undefined);
  },
  kill: (signal) => void worker.process.kill(signal),
  onMessage: (listener) => void worker.on('message', (message: unknown) => listener(message)),
  onExit(listener) {
    let isOver = false;
    const over = (code: number | null, signal: string | null): void => {
      if (!isOver) listener(code, signal);
      isOver = true;
    };
    worker.once('exit', over);
    // It may not even be there (EAGAIN), or the channel breaks, and then its exit comes.
    worker.on('error', () => {
      if (worker.process.pid === undefined) setImmediate(() => over(null, null));
    });
  },
});

/**
 * The process above `pdp.workers` workers: it checks what they would all refuse, makes the keys that they share, starts
 * them, and starts again what ends. It takes no connection itself: each worker accepts from the one socket
 * (`SCHED_NONE`), so nothing that a client sent is lost here when a worker dies. A worker ends when this process is gone.
 */
export const startPrimary = async (settings: Settings, options: PrimaryOptions): Promise<Primary> => {
  const { logger, settingsFile } = options;
  parseListen(settings.pdp.listen);
  const callers = createKnownCallers(settings);
  const maskKeys = createMaskKeys(settings);
  await checkBundleKeys(settings.pdp.bundle_keys);
  let current = settings;

  cluster.schedulingPolicy = cluster.SCHED_NONE;
  const isSource = import.meta.url.endsWith('.ts');
  cluster.setupPrimary({
    exec: fileURLToPath(new URL(`worker-main${isSource ? '.ts' : '.js'}`, import.meta.url)),
    args: [],
    // Settings and facts as they are, not as JSON makes them.
    serialization: 'advanced',
  });
  const supervisor = await startSupervisor({
    count: settings.pdp.workers,
    fork: () => workerProcess(cluster.fork()),
    orders: (index) => ({ index, count: settings.pdp.workers, settings: current, settingsFile }),
    logger,
    stopping: options.stopping,
  });
  // Each worker watches the files too. This one is for who starts later, when they may hold something wrong.
  const reload = watchSettings({
    initial: settings,
    load: options.load,
    parts: [
      callers.reload,
      maskKeys.reload,
      options.refuseFixed,
      (next) => () => {
        current = { ...settings, callers: next.callers, tenants: next.tenants };
      },
    ],
    files: ({ tenants }) => [
      ...(settingsFile === undefined ? [] : [settingsFile]),
      ...Object.values(tenants).flatMap(({ mask_key_file: file }) => (file === undefined ? [] : [file])),
    ],
    logger,
    registry: createRegistry({ service: 'pdp', processMetrics: false }),
  });
  process.on('SIGHUP', supervisor.reload);
  return {
    url: supervisor.url,
    async close() {
      process.off('SIGHUP', supervisor.reload);
      reload.close();
      await supervisor.close();
    },
  };
};
