import { sha256 } from '../../shared/contracts/bytes.ts';
import { AppError } from '../../shared/contracts/errors.ts';
import { SYSTEM_TENANT } from '../../shared/contracts/tenant.ts';
import type { PrepareReload } from '../../shared/runtime/reload.ts';
import { homePaths, readKeyFile, readOrCreateKey } from '../../shared/settings/home.ts';
import type { Settings } from '../../shared/settings/schema.ts';
import { tenantNames } from '../../shared/settings/settings.ts';
import type { MaskKey } from '../core/mask.ts';

export interface MaskKeys {
  /** Throws `internal` for a tenant that is not in the settings. */
  readonly of: (tenant: string) => MaskKey;
  readonly reload: PrepareReload;
}

const KEY_BYTES = 32;

const readKeys = (settings: Settings): ReadonlyMap<string, MaskKey> =>
  new Map(
    [SYSTEM_TENANT, ...tenantNames(settings)].map((tenant) => {
      const file = settings.tenants[tenant]?.mask_key_file;
      const key =
        file === undefined ? readOrCreateKey(homePaths(settings.home).maskKey(tenant)) : readKeyFile(file, KEY_BYTES);
      return [tenant, { key, id: sha256(key).toString('hex').slice(0, 8) }];
    }),
  );

/**
 * The masking key of each tenant: `tenants.*.mask_key_file`, else a file below home, made when it is missing. Throws
 * `settings_invalid` when a named file is missing or has not 32 bytes.
 */
export const createMaskKeys = (initial: Settings): MaskKeys => {
  let keys = readKeys(initial);
  return {
    of(tenant) {
      const key = keys.get(tenant);
      if (key === undefined) throw new AppError('internal', `tenant ${tenant} has no masking key`);
      return key;
    },
    reload: (settings) => {
      const next = readKeys({ ...settings, home: initial.home });
      return () => {
        // Refusals of a tenant that is gone may still wait to be written.
        keys = new Map([...keys, ...next]);
      };
    },
  };
};
