import type { BundleSourceSettings, Settings } from '../../shared/settings/schema.ts';
import { AppError } from '../../shared/contracts/errors.ts';
import { durationMs, sizeBytes } from '../../shared/settings/units.ts';
import { BUNDLE_LIMITS } from '../../shared/bundles/bundle-archive.ts';
import { readBundleKey } from './bundle-keys.ts';
import type { SigningRequirement } from './bundle-signature.ts';
import type { BundleSigning, BundleSource } from './bundle-source.ts';
import type { HttpSourceOptions } from './http-source.ts';

type Item = string | BundleSourceSettings;
type Keys = Settings['pdp']['bundle_keys'];

const readRequirement = async (
  ids: readonly string[],
  keys: Keys,
  { isPinned, scope }: { readonly isPinned: boolean; readonly scope: string | undefined },
): Promise<SigningRequirement> => {
  const read = await Promise.all(
    ids.flatMap((id) => {
      const file = keys[id];
      return file === undefined ? [] : [readBundleKey(id, file)];
    }),
  );
  const [only] = ids;
  return { keys: new Map(read.map((key) => [key.id, key])), keyId: isPinned ? only : undefined, scope };
};

/** What a source asks of its bundles; undefined where they need no signature. */
const signingOf = (item: Item, keys: Keys): BundleSigning | undefined => {
  const all = Object.keys(keys);
  const { signing, unsigned = false } = typeof item === 'string' ? {} : item;
  if (unsigned || (signing === undefined && all.length === 0)) return undefined;
  const ids = signing?.keys ?? all;
  const keyFiles = ids.flatMap((id) => keys[id]?.key_file ?? []);
  const isPinned = signing?.keys?.length === 1;
  return { requirement: () => readRequirement(ids, keys, { isPinned, scope: signing?.scope }), keyFiles };
};

const DEFAULT_POLL = '30s';
const DEFAULT_TIMEOUT = '30s';

const serverOf = (url: string, item: BundleSourceSettings): HttpSourceOptions => {
  const { ca_file: caFile, cert_file: certFile, key_file: keyFile } = item.tls ?? {};
  return {
    url,
    bearerTokenFile: item.bearer_token_file,
    tls: {
      ...(caFile === undefined ? {} : { caFile }),
      ...(certFile === undefined ? {} : { certFile }),
      ...(keyFile === undefined ? {} : { keyFile }),
    },
    followRedirects: item.redirects === 'same_origin',
    timeoutMs: durationMs(item.timeout ?? DEFAULT_TIMEOUT),
    maxBytes: item.max_size === undefined ? BUNDLE_LIMITS.compressedBytes : sizeBytes(item.max_size),
    pollMs: durationMs(item.poll ?? DEFAULT_POLL),
    longPollMs: item.long_poll === undefined ? undefined : durationMs(item.long_poll),
  };
};

/** Sources as the settings name them; they were checked before. */
export const bundleSources = (items: readonly Item[], keys: Keys): readonly BundleSource[] =>
  items.map((item): BundleSource => {
    const signing = signingOf(item, keys);
    const more = signing === undefined ? {} : { signing };
    if (typeof item === 'string') return { path: item, ...more };
    if (item.url !== undefined) return { http: serverOf(item.url, item), ...more };
    if (item.path === undefined) throw new AppError('settings_invalid', 'a source of bundles has neither path nor url');
    return { path: item.path, ...more };
  });

/** Reads all keys once. Throws `settings_invalid` when a file is missing, or holds no key of its algorithm. */
export const checkBundleKeys = async (keys: Keys): Promise<void> => {
  await Promise.all(Object.entries(keys).map(([id, file]) => readBundleKey(id, file)));
};
