import { AppError } from '../../shared/contracts/errors.ts';
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

/**
 * The key that signs acknowledgements, made when missing; the verifier key is written to `vkeyFile` when it is not
 * there already. Throws `settings_invalid` when the file holds something else.
 */
export const openAckKey = (keyFile: string, vkeyFile: string): AckKey => {
  const pem = readOrCreateFile(keyFile, () => Buffer.from(generateSigningKey().pem, 'utf8')).toString('utf8');
  let key: SigningKey;
  try {
    key = signingKeyFromPem(pem);
  } catch (cause) {
    throw new AppError('settings_invalid', `${keyFile}: is not an Ed25519 private key in PEM`, { cause });
  }
  const vkey = formatVkey(KEY_NAME, key.publicKey);
  const line = `${vkey}\n`;
  // A key that was replaced leaves an old line behind.
  if (readOrCreateFile(vkeyFile, () => Buffer.from(line, 'utf8')).toString('utf8') !== line)
    replaceFile(vkeyFile, line);
  return { key, vkey, verifier: parseVkey(vkey) };
};
