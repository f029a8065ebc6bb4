import { applyDelta, describeDelta, isDelta } from '../../pdp/policy/bundle-delta.ts';
import { readBundle, type Bundle } from '../../pdp/policy/bundle-reader.ts';
import { describeSignature, type VerifiedSignature } from '../../pdp/policy/bundle-signature.ts';
import { canonicalBytesOf, readDocument } from '../../pdp/policy/canonical-document.ts';
import { operationsBetween, patchOf } from '../../pdp/policy/data-patch.ts';
import { holdsPath } from '../../pdp/policy/roots.ts';
import { BUNDLE_LIMITS, unpackArchive } from '../../shared/bundles/bundle-archive.ts';
import { packArchive } from '../../shared/bundles/pack-archive.ts';
import { SIGNATURES_PATH } from '../../shared/contracts/bundle-digest.ts';
import { AppError } from '../../shared/contracts/errors.ts';
import { canonicalJson } from '../../shared/contracts/json.ts';

const WHOLE = 'publish the whole bundle';
const MANIFEST_PATH = '.manifest';
const SHOWN = 5;

const refuse = (message: string): AppError => new AppError('bundle_invalid', `${message}: ${WHOLE}`);

/** What a delta cannot change, by its bytes. */
const fixedFiles = ({ files }: Bundle): ReadonlyMap<string, Uint8Array> =>
  new Map(
    files
      .filter(({ path }) => path !== MANIFEST_PATH && path !== SIGNATURES_PATH && !/(^|\/)data\.json$/.test(path))
      .map(({ path, bytes }) => [path, bytes]),
  );

const checkFiles = (from: Bundle, to: Bundle): void => {
  const [old, wanted] = [fixedFiles(from), fixedFiles(to)];
  const differing = [...new Set([...old.keys(), ...wanted.keys()])].filter((path) => {
    const [before, after] = [old.get(path), wanted.get(path)];
    return before === undefined || after === undefined || Buffer.compare(before, after) !== 0;
  });
  if (differing.length === 0) return;
  const more = differing.length > SHOWN ? ` and ${differing.length - SHOWN} more` : '';
  throw refuse(`a delta changes data only, and these differ too: ${differing.slice(0, SHOWN).join(', ')}${more}`);
};

/**
 * An unsigned delta that makes the one bundle of the other. Throws `bundle_invalid` where more than data differs, nothing
 * does, or the delta would be larger than a decision point takes.
 */
export const makeDelta = async (from: Bundle, to: Bundle): Promise<Uint8Array> => {
  if (to.name !== from.name) throw refuse(`one bundle is ${from.name} and the other ${to.name}`);
  checkFiles(from, to);
  const [old, wanted] = [from, to].map(({ dataJson }) => readDocument('data.json', dataJson));
  if (old === undefined || wanted === undefined) throw new TypeError('two documents were read');
  const mayChange = (path: readonly string[]): boolean => from.roots.some((root) => holdsPath(root, path));
  const operations = operationsBetween(old, wanted, mayChange);
  if (operations.length === 0) throw refuse('the two have the same data, and a delta has something to change');
  if (to.serial <= from.serial) throw refuse(`serial ${to.serial} is not above ${from.serial}, that of the base`);
  const { metadata, ...manifest } = to.manifest;
  const edict = { ...metadata.edict, base: from.digest };
  return await packArchive([
    { path: MANIFEST_PATH, bytes: Buffer.from(canonicalJson({ ...manifest, metadata: { ...metadata, edict } })) },
    { path: 'patch.json', bytes: canonicalBytesOf(patchOf(operations)) },
  ]);
};

/** Throws `bundle_invalid` unless a decision point that has the base takes the delta and has the wanted bundle then. */
export const checkDelta = async (from: Bundle, archive: Uint8Array, to: Bundle): Promise<void> => {
  if (!(await isDelta(archive))) throw refuse('the delta would be larger than a decision point takes, 1 MiB');
  const { digest } = await applyDelta(from, archive, BUNDLE_LIMITS);
  if (digest === to.digest) return;
  const why = `a delta would lead to ${digest}, not to ${to.digest}`;
  throw refuse(`${why}: its files are not as 'edict policy build' writes them, or a patch cannot say what differs`);
};

export interface InspectedDelta {
  readonly document: object;
  readonly text: string;
}

/** What a delta is, and with its base what it leads to. Throws `bundle_invalid`. */
export const inspectDelta = async (
  archive: Uint8Array,
  verified: VerifiedSignature | undefined,
  baseArchive: Uint8Array | undefined,
): Promise<InspectedDelta> => {
  const files = await unpackArchive(archive);
  const { name, serial, base, operations, patchBytes } = describeDelta(files);
  const claimed = describeSignature(files);
  const signature = claimed === undefined ? undefined : { ...claimed, verified: verified !== undefined };
  const applied =
    baseArchive === undefined ? undefined : await applyDelta(await readBundle(baseArchive), archive, BUNDLE_LIMITS);
  const digest = applied?.digest;
  const counts = { operations: operations.length, bytes: archive.length, patch_bytes: patchBytes };
  return {
    document: { delta: true, name, serial, base, digest, ...counts, signature },
    text: [
      `name         ${name}`,
      `serial       ${serial}`,
      `delta of     ${base}`,
      `digest       ${digest ?? 'of what comes out: name the base with --base'}`,
      `operations   ${operations.length}`,
      `bytes        ${archive.length} (patch.json ${patchBytes})`,
      `signature    ${signatureText(claimed, verified)}`,
    ].join('\n'),
  };
};

/** One line for people. */
export const signatureText = (
  claimed: ReturnType<typeof describeSignature>,
  verified: VerifiedSignature | undefined,
): string => {
  if (claimed === undefined) return 'none';
  const { kid, alg, scope } = claimed;
  const held = verified === undefined ? 'not verified' : 'verified';
  return `key ${String(kid)}, ${String(alg)}, scope ${JSON.stringify(scope)}, ${held}`;
};
