import type { BundleSourceSettings, Settings } from '../../shared/settings/schema.ts';
import { readBundleKey } from './bundle-keys.ts';
import type { SigningRequirement } from './bundle-signature.ts';
import type { BundleSigning, BundleSource } from './bundle-source.ts';

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

/** Sources as the settings name them. */
export const bundleSources = (items: readonly Item[], keys: Keys): readonly BundleSource[] =>
  items.map((item) => {
    const signing = signingOf(item, keys);
    const path = typeof item === 'string' ? item : item.path;
    return signing === undefined ? { path } : { path, signing };
  });

/** Reads all keys once. Throws `settings_invalid` when a file is missing, or holds no key of its algorithm. */
export const checkBundleKeys = async (keys: Keys): Promise<void> => {
  await Promise.all(Object.entries(keys).map(([id, file]) => readBundleKey(id, file)));
};
