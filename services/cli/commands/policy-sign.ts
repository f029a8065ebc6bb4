import { readFile } from 'node:fs/promises';
import { InvalidArgumentError, type Command } from 'commander';
import { readSigningKey, readVerificationKey } from '../../pdp/policy/bundle-keys.ts';
import { signFiles, verifySignature, type VerifiedSignature } from '../../pdp/policy/bundle-signature.ts';
import { unpackArchive } from '../../shared/bundles/bundle-archive.ts';
import { SIGNATURES_PATH } from '../../shared/contracts/bundle-digest.ts';
import { AppError, errorCode } from '../../shared/contracts/errors.ts';
import { SIGNATURE_ALGORITHMS, type SignatureAlgorithm } from '../../shared/contracts/signature-algorithms.ts';
import { packArchive } from '../../shared/bundles/pack-archive.ts';

/** As `opa build` names its keys when nobody names one. */
const DEFAULT_KEY_ID = 'default';

export interface SigningOptions {
  readonly signingKey?: string;
  readonly signingAlg?: SignatureAlgorithm;
  readonly keyId?: string;
  readonly scope?: string;
}

export interface VerificationOptions {
  readonly verificationKey?: string;
  readonly signingAlg?: SignatureAlgorithm;
  readonly scope?: string;
}

const isAlgorithm = (text: string): text is SignatureAlgorithm =>
  SIGNATURE_ALGORITHMS.some((algorithm) => algorithm === text);

const algorithm = (text: string): SignatureAlgorithm => {
  if (!isAlgorithm(text)) throw new InvalidArgumentError(`one of ${SIGNATURE_ALGORITHMS.join(', ')}`);
  return text;
};

const withAlgorithm = (command: Command): Command =>
  command
    .option('--signing-alg <algorithm>', 'default: RS256, ES256 … or EdDSA, by the kind of the key', algorithm)
    .option('--scope <scope>', 'scope of the signature');

export const withSigningOptions = (command: Command): Command =>
  withAlgorithm(command.option('--signing-key <file>', 'private key (PEM), or the secret of HS256 to HS512')).option(
    '--key-id <id>',
    'what decision points call the key in pdp.bundle_keys',
    DEFAULT_KEY_ID,
  );

export const withVerificationOptions = (command: Command): Command =>
  withAlgorithm(command.option('--verification-key <file>', 'verify with this public key or certificate (PEM)'));

/** The archive with a signature over all its files in place of what signature it had. */
export const signArchive = async (archive: Uint8Array, options: SigningOptions): Promise<Uint8Array> => {
  const { signingKey, signingAlg, keyId = DEFAULT_KEY_ID, scope } = options;
  if (signingKey === undefined) throw new AppError('usage', 'name the key with --signing-key');
  const signer = await readSigningKey(signingKey, signingAlg);
  const files = (await unpackArchive(archive)).filter(({ path }) => path !== SIGNATURES_PATH);
  const signature = signFiles(files, { ...signer, keyId, ...(scope === undefined ? {} : { scope }) });
  return await packArchive([...files, signature]);
};

/** Verifies with one key, whatever the token's `kid`; undefined when no key was named. Throws `bundle_invalid`. */
export const verifyArchive = async (
  archive: Uint8Array,
  { verificationKey, signingAlg, scope }: VerificationOptions,
): Promise<VerifiedSignature | undefined> => {
  if (verificationKey === undefined) return undefined;
  const id = verificationKey;
  const key = { id, scope: undefined, ...(await readVerificationKey(verificationKey, signingAlg)) };
  return verifySignature(await unpackArchive(archive), { keys: new Map([[id, key]]), keyId: id, scope });
};

/** Reads a file that was named on the command line; throws `usage`. */
export const readArchive = async (file: string): Promise<Uint8Array> => {
  try {
    return await readFile(file);
  } catch (cause) {
    if (errorCode(cause) === 'ENOENT') throw new AppError('usage', `there is no ${file}`, { cause });
    throw new AppError('usage', `cannot read ${file}`, { cause });
  }
};
