import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { rename, writeFile } from 'node:fs/promises';
import { isArtifactDigest } from '../../shared/contracts/artifact.ts';
import { isObject } from '../../shared/contracts/json.ts';

/** Remembered digests of one tenant, the newest, of each kind. */
export const MAX_SENT = 64;

type Digests = Map<string, readonly string[]>;
/** What was sent, by tenant: of roots apart, for each push makes one, and of all else. */
export interface Sent {
  readonly wholes: Digests;
  readonly states: Digests;
}

const digestsOf = (document: unknown): Digests =>
  new Map(
    Object.entries(isObject(document) ? document : {}).map(([tenant, digests]) => [
      tenant,
      (Array.isArray(digests) ? digests : []).filter(isArtifactDigest).slice(-MAX_SENT),
    ]),
  );

/** What the file says; a file that says nothing, or is another emitter's, means that nothing was sent. */
export const readSent = (file: string, emitter: string): Sent => {
  try {
    const document: unknown = JSON.parse(readFileSync(file, 'utf8'));
    if (isObject(document) && document['emitter'] === emitter)
      return { wholes: digestsOf(document['sent']), states: digestsOf(document['states']) };
  } catch {
    // Nothing is known.
  }
  return { wholes: new Map(), states: new Map() };
};

/** Half of it is no file at all, and a power cut may take it: then the artifacts are sent once more, which does no harm. */
export const writeSent = async (file: string, emitter: string, { wholes, states }: Sent): Promise<void> => {
  const temporary = `${file}.${randomBytes(6).toString('hex')}.tmp`;
  const document = { emitter, sent: Object.fromEntries(wholes), states: Object.fromEntries(states) };
  await writeFile(temporary, JSON.stringify(document), { mode: 0o600, flag: 'wx' });
  await rename(temporary, file);
};
