import { statSync } from 'node:fs';
import { isDeepStrictEqual } from 'node:util';
import type { Registry } from 'prom-client';
import { AppError, errorMessage } from '../contracts/errors.ts';
import type { Settings } from '../settings/schema.ts';
import type { ProcessEvents } from './lifecycle.ts';
import type { Logger } from './logger.ts';
import { Counter } from './metrics.ts';

/**
 * Prepares what a part takes from new settings: reads files, checks, throws when something is wrong. What it gives
 * back switches the part over and must not fail.
 */
export type PrepareReload = (settings: Settings) => () => void;

export interface SettingsReload {
  /** Reads everything again now; false when the old settings stay. */
  reload(): boolean;
  /** Why the last attempt failed; undefined when it did not. Shown as a fact by readiness. */
  failure(): string | undefined;
  close(): void;
}

/** Members that are read again; the rest needs a restart. */
const RELOADED: readonly (keyof Settings)[] = ['callers', 'tenants'];
const DEFAULT_POLL_MS = 1_000;

const stampOf = (file: string): string => {
  try {
    const { mtimeMs, size, ino } = statSync(file);
    return `${mtimeMs}/${size}/${ino}`;
  } catch {
    return 'missing';
  }
};

/**
 * Reads callers, tenants and keys again on SIGHUP or when one of the files changed, all or nothing: a bad file leaves
 * everything as it was, is logged and counted, and tried again when it changes. So does a file without callers where
 * there were some: one that is only half written must not open the listener to everybody.
 */
export const watchSettings = (options: {
  readonly initial: Settings;
  readonly load: () => Settings;
  readonly parts: readonly PrepareReload[];
  /** Settings file and key files; asked again after each reload. */
  readonly files: (settings: Settings) => readonly string[];
  readonly logger: Logger;
  readonly registry: Registry;
  readonly pollMs?: number;
  readonly events?: ProcessEvents;
}): SettingsReload => {
  const { logger } = options;
  const events: ProcessEvents = options.events ?? process;
  const reloads = new Counter({
    name: 'edict_settings_reloads_total',
    help: 'Attempts to read the settings again.',
    labelNames: ['result'],
    registers: [options.registry],
  });
  let failed: string | undefined;
  let hasCallers = options.initial.callers.length > 0;
  const seen = new Map(options.files(options.initial).map((file) => [file, stampOf(file)]));
  const isChanged = (): boolean => [...seen].some(([file, stamp]) => stampOf(file) !== stamp);

  const reload = (): boolean => {
    // Before reading: a change during the reading is seen at the next look.
    for (const file of seen.keys()) seen.set(file, stampOf(file));
    try {
      const settings = options.load();
      if (hasCallers && settings.callers.length === 0)
        throw new AppError('settings_invalid', '/callers: none are left; to let everybody ask needs a restart');
      const commits = options.parts.map((prepare) => prepare(settings));
      for (const commit of commits) commit();
      const ignored = (Object.keys(settings) as (keyof Settings)[]).filter(
        (name) => !RELOADED.includes(name) && !isDeepStrictEqual(settings[name], options.initial[name]),
      );
      const files = options.files(settings);
      for (const file of seen.keys()) if (!files.includes(file)) seen.delete(file);
      for (const file of files) if (!seen.has(file)) seen.set(file, stampOf(file));
      hasCallers = settings.callers.length > 0;
      failed = undefined;
      reloads.inc({ result: 'ok' });
      logger.info(
        { callers: settings.callers.length, ...(ignored.length > 0 ? { needs_restart: ignored } : {}) },
        'settings reloaded',
      );
      return true;
    } catch (error) {
      failed = errorMessage(error);
      reloads.inc({ result: 'failed' });
      logger.error({ err: error }, 'settings not reloaded: the old ones stay');
      return false;
    }
  };
  const onHangUp = (): void => void reload();
  events.on('SIGHUP', onHangUp);
  const timer = setInterval(() => {
    if (isChanged()) reload();
  }, options.pollMs ?? DEFAULT_POLL_MS);
  timer.unref();
  return {
    reload,
    failure: () => failed,
    close() {
      clearInterval(timer);
      events.off('SIGHUP', onHangUp);
    },
  };
};
