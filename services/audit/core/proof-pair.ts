import { canonicalJson, isObject } from '../../shared/contracts/json.ts';
import { canonicalBase64 } from '../../shared/tlog/signed-note.ts';

/** What the proof file of an entry brings along (its `extra`), so that leaf and commitment can be computed. */
export interface ProofExtra {
  /** E_i. */
  readonly entry: Uint8Array;
  /** With the event's bytes it gives the commitment; undefined where the payload is gone. */
  readonly opening: { readonly salt: Uint8Array; readonly contentType: string } | undefined;
}

/** RFC 8785 JSON `{content_type, entry, salt}`, bytes in base64; without a payload `entry` alone. */
export const formatExtra = ({ entry, opening }: ProofExtra): Buffer => {
  const base64 = (bytes: Uint8Array): string => Buffer.from(bytes).toString('base64');
  return Buffer.from(
    canonicalJson({
      entry: base64(entry),
      ...(opening === undefined ? {} : { salt: base64(opening.salt), content_type: opening.contentType }),
    }),
    'utf8',
  );
};

const bytesIn = (value: unknown): Buffer | undefined =>
  typeof value === 'string' ? canonicalBase64(value) : undefined;

/** Undefined when it is nothing that `formatExtra` wrote. */
export const parseExtra = (bytes: Uint8Array): ProofExtra | undefined => {
  let document: unknown;
  try {
    document = JSON.parse(Buffer.from(bytes).toString('utf8'));
  } catch {
    return undefined;
  }
  if (!isObject(document)) return undefined;
  const entry = bytesIn(document['entry']);
  if (entry === undefined) return undefined;
  const { salt: saltText, content_type: contentType } = document;
  if (saltText === undefined && contentType === undefined) return { entry, opening: undefined };
  const salt = bytesIn(saltText);
  return salt?.length === 32 && typeof contentType === 'string' ? { entry, opening: { salt, contentType } } : undefined;
};
