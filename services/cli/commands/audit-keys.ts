import { readFileSync } from 'node:fs';
import { openCheckpoint, type Checkpoint } from '../../shared/tlog/checkpoint.ts';
import { AppError, errorCode, errorMessage } from '../../shared/contracts/errors.ts';
import { parseVkey, type VerifierKey } from '../../shared/contracts/signatures.ts';

/** Verifier keys that the auditor holds, by the origin that is their name. Throws `usage`. */
export const readVkeys = (files: readonly string[]): ReadonlyMap<string, VerifierKey> => {
  const keys = new Map<string, VerifierKey>();
  for (const file of files) {
    let text: string;
    try {
      text = readFileSync(file, 'utf8');
    } catch (cause) {
      throw new AppError('usage', `--vkey: ${file} cannot be read (${errorCode(cause) ?? errorMessage(cause)})`, {
        cause,
      });
    }
    for (const line of text.split('\n').filter((each) => each.trim() !== '')) {
      try {
        const key = parseVkey(line);
        keys.set(key.name, key);
      } catch (cause) {
        throw new AppError('usage', `--vkey: ${file}: ${errorMessage(cause)}`, { cause });
      }
    }
  }
  return keys;
};

/** The checkpoint in `note`, signed by the auditor's own key of that log; else why it proves nothing. */
export const openWithOwnKey = (
  origin: string,
  note: string | undefined,
  keys: ReadonlyMap<string, VerifierKey>,
): { readonly checkpoint: Checkpoint } | { readonly problem: string } => {
  const key = keys.get(origin);
  if (key === undefined) return { problem: `no --vkey is of ${origin}` };
  if (note === undefined) return { problem: 'the log has no good checkpoint' };
  const checkpoint = openCheckpoint(Buffer.from(note, 'utf8'), key);
  return checkpoint === undefined ? { problem: 'the checkpoint was not signed with this key' } : { checkpoint };
};
