import { AppError } from '../../shared/contracts/errors.ts';
import { parseListen } from '../../shared/runtime/http-server.ts';
import { loadSettings } from '../../shared/settings/settings.ts';

/** Where a command finds the service that it asks. */
export interface Address {
  readonly url?: string;
  /** The settings file; default: what `EDICT_CONFIG` names, or no file. */
  readonly config?: string;
}

/**
 * `--url`, or where the settings say that the service listens; a service that listens everywhere is asked on loopback.
 * Throws `usage` for what is no http(s) address, and `settings_invalid`.
 */
export const serviceAddress = ({ url, config }: Address, service: 'pdp' | 'audit'): string => {
  if (url !== undefined) {
    if (!URL.canParse(url) || !/^https?:/.test(url)) throw new AppError('usage', `--url: ${url} is no http(s) address`);
    return url;
  }
  const { host, port } = parseListen(loadSettings({ file: config }).settings[service].listen);
  const reachable = host === '0.0.0.0' ? '127.0.0.1' : host === '::' ? '::1' : host;
  return `http://${reachable.includes(':') ? `[${reachable}]` : reachable}:${port}`;
};
