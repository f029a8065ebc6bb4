import { KEY_ID, type BundleSourceSettings, type Settings } from './schema.ts';
import { sizeBytes } from './units.ts';

const MAX_SIZE_BYTES = 32 * 1024 * 1024;
const LOOPBACK = /^(localhost|127(\.\d{1,3}){3}|\[::1\])$/;
/** What only servers have. */
const OF_URL = ['bearer_token_file', 'tls', 'poll', 'long_poll', 'timeout', 'max_size', 'redirects'] as const;

/** Whether bundles of this source must be signed. */
export const mustBeSigned = ({ signing, unsigned = false }: BundleSourceSettings, { pdp }: Settings): boolean =>
  !unsigned && (signing !== undefined || Object.keys(pdp.bundle_keys).length > 0);

/** Each begins with its pointer within the source. */
const urlProblems = (source: BundleSourceSettings, text: string, isSigned: boolean): readonly string[] => {
  const problems: string[] = [];
  let url: URL;
  try {
    url = new URL(text);
  } catch {
    return ['/url: is no URL'];
  }
  if (url.protocol !== 'https:' && url.protocol !== 'http:') problems.push('/url: only https and http are asked');
  if (url.username !== '' || url.password !== '' || url.search !== '' || url.hash !== '')
    problems.push('/url: has credentials, a query or a fragment; secrets stand in files');
  if (url.protocol === 'http:' && !LOOPBACK.test(url.hostname)) {
    if (!isSigned) problems.push('/url: http is for signed bundles or loopback');
    if (source.bearer_token_file !== undefined) problems.push('/bearer_token_file: would be sent in clear text');
  }
  if (url.protocol === 'http:' && source.tls !== undefined) problems.push('/tls: needs https');
  const { cert_file: cert, key_file: key } = source.tls ?? {};
  if ((cert === undefined) !== (key === undefined)) problems.push('/tls: cert_file and key_file belong together');
  if (source.max_size !== undefined && sizeBytes(source.max_size) > MAX_SIZE_BYTES)
    problems.push('/max_size: more than 32MiB are never read');
  return problems;
};

const sourceProblems = (source: BundleSourceSettings, settings: Settings): readonly string[] => {
  const { path, url, signing, unsigned } = source;
  const { bundle_keys: keys } = settings.pdp;
  const problems: string[] = [];
  if ((path === undefined) === (url === undefined)) problems.push(': needs either path or url');
  if (url === undefined)
    for (const name of OF_URL) if (source[name] !== undefined) problems.push(`/${name}: is for url only`);
  if (url !== undefined) problems.push(...urlProblems(source, url, mustBeSigned(source, settings)));
  for (const id of signing?.keys ?? [])
    if (!Object.hasOwn(keys, id)) problems.push(`/signing/keys: ${id} is not in /pdp/bundle_keys`);
  if (signing !== undefined && Object.keys(keys).length === 0) problems.push('/signing: needs /pdp/bundle_keys');
  if (signing !== undefined && unsigned === true) problems.push('/unsigned: contradicts signing');
  return problems;
};

/** What the schema cannot say of bundles: sources name keys that are there, and do not contradict themselves. */
export const bundleProblems = (settings: Settings): readonly string[] => {
  const { pdp, tenants } = settings;
  const sets = [
    ['/pdp/bundles', pdp.bundles] as const,
    ...Object.entries(tenants).map(([name, { bundles = [] }]) => [`/tenants/${name}/bundles`, bundles] as const),
  ];
  const misnamed = Object.keys(pdp.bundle_keys)
    .filter((id) => !new RegExp(KEY_ID).test(id))
    .map((id) => `/pdp/bundle_keys: ${JSON.stringify(id)} is not a key id`);
  const ofSources = sets.flatMap(([at, bundles]) => {
    const names = bundles.map((source) => (typeof source === 'string' ? source : (source.path ?? source.url)));
    return bundles.flatMap((source, index) => [
      ...(names.indexOf(names[index]) === index ? [] : [`${at}/${index}: stands there twice`]),
      ...(typeof source === 'string'
        ? []
        : sourceProblems(source, settings).map((problem) => `${at}/${index}${problem}`)),
    ]);
  });
  return [...misnamed, ...ofSources];
};
