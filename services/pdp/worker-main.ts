// One of `pdp.workers` processes; forked by the primary (`primary.ts`), which says what it is to be.
import { errorMessage, isAppError } from '../shared/contracts/errors.ts';
import { createLifecycle } from '../shared/runtime/lifecycle.ts';
import { createLogger } from '../shared/runtime/logger.ts';
import type { Settings } from '../shared/settings/schema.ts';
import { loadSettings } from '../shared/settings/settings.ts';
import { startPdp } from './main.ts';
import { createWorkerLink } from './workers/worker-link.ts';

// The primary passes a reload on; the signal itself may come to the whole process group.
process.on('SIGHUP', () => undefined);

const link = createWorkerLink(process);
let stop = (): void => process.exit(0);
link.onStop(() => stop());
const { index, count, settings, settingsFile } = await link.orders();
const logger = createLogger({ service: 'pdp', level: settings.log.level }).child({ worker: index });
const lifecycle = createLifecycle({ logger });
let isStopping = false;

stop = () => {
  isStopping = true;
  void lifecycle.stop('the primary stops');
};
void lifecycle.stopped.then((isClean) => {
  if (isStopping) process.exit(isClean ? 0 : 1);
});

const load = (): Settings => loadSettings({ file: settingsFile, services: ['pdp'] }).settings;
try {
  const pdp = await lifecycle.start('pdp', (stopping) =>
    startPdp(settings, { logger, load, settingsFile, stopping, worker: { index, count, link } }),
  );
  await link.say({ edict: 'listening', url: pdp.url });
} catch (error) {
  if (!isStopping) {
    logger.error({ err: error }, 'a worker cannot start');
    await link.say({
      edict: 'failed',
      code: isAppError(error) ? error.code : 'internal',
      message: errorMessage(error),
    });
    process.exit(1);
  }
}
