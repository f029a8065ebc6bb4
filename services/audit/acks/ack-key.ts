import { readFileSync } from 'node:fs';
import { AppError, errorCode, errorMessage } from '../../shared/contracts/errors.ts';
import {
  formatVkey,
  generateSigningKey,
  parseVkey,
  signingKeyFromPem,
  type SigningKey,
  type VerifierKey,
} from '../../shared/contracts/signatures.ts';
import { readOrCreateFile } from '../../shared/settings/home.ts';
import { replaceFile } from '../../shared/spool/files.ts';

const KEY_NAME = 'edict-audit-ack';

export interface AckKey {
  readonly key: SigningKey;
  /** What `audit.ack_vkey_files` of the decision points names. */
  readonly vkey: string;
  readonly verifier: VerifierKey;
}

const keyOf = (file: string, pem: Buffer): SigningKey => {
  try {
    return signingKeyFromPem(pem.toString('utf8'));
  } catch (cause) {
    throw new AppError('settings_invalid', `${file}: is not an Ed25519 private key in PEM`, { cause });
  }
};

/**
 * The key that signs acknowledgements, made when missing; the verifier key is written to `vkeyFile` when it is not
 * there already. Both are files of this service's own. Throws `settings_invalid` when the file holds something else.
 */
export const openAckKey = (keyFile: string, vkeyFile: string): AckKey => {
  const key = keyOf(
    keyFile,
    readOrCreateFile(keyFile, () => Buffer.from(generateSigningKey().pem, 'utf8')),
  );
  const vkey = formatVkey(KEY_NAME, key.publicKey);
  const line = `${vkey}\n`;
  // A key that was replaced leaves an old line behind.
  if (readOrCreateFile(vkeyFile, () => Buffer.from(line, 'utf8')).toString('utf8') !== line)
    replaceFile(vkeyFile, line);
  return { key, vkey, verifier: parseVkey(vkey) };
};

const readIfThere = (file: string): Buffer | undefined => {
  try {
    return readFileSync(file);
  } catch (cause) {
    if (errorCode(cause) === 'ENOENT') return undefined;
    throw new AppError('settings_invalid', `${file}: cannot be read (${errorCode(cause) ?? errorMessage(cause)})`, {
      cause,
    });
  }
};

/**
 * The key that `audit.ack_key_file` names, a file of the operator's: nothing is written. When a file of the same name
 * with the ending `.vkey` lies beside it, one of its lines (one verifier key each) must be of this key; its name is
 * used then. Throws `settings_invalid`.
 */
export const readAckKey = (keyFile: string): AckKey => {
  const pem = readIfThere(keyFile);
  if (pem === undefined) throw new AppError('settings_invalid', `/audit/ack_key_file: ${keyFile} is missing`);
  const key = keyOf(keyFile, pem);
  const vkeyFile = keyFile.replace(/(\.pem)?$/, '.vkey');
  const lines = readIfThere(vkeyFile)
    ?.toString('utf8')
    .split('\n')
    .filter((line) => line.trim() !== '');
  if (lines === undefined) {
    const vkey = formatVkey(KEY_NAME, key.publicKey);
    return { key, vkey, verifier: parseVkey(vkey) };
  }
  for (const line of lines) {
    let verifier: VerifierKey;
    try {
      verifier = parseVkey(line);
    } catch (cause) {
      throw new AppError('settings_invalid', `${vkeyFile}: ${errorMessage(cause)}`, { cause });
    }
    if (verifier.publicKey.equals(key.publicKey)) return { key, vkey: line.trim(), verifier };
  }
  throw new AppError('settings_invalid', `${vkeyFile}: is not the verifier key of ${keyFile}`);
};
