import { rmSync } from 'node:fs';
import { isObject } from '../../shared/contracts/json.ts';
import { fromHex } from '../../shared/contracts/bytes.ts';
import { parseTreeSize } from '../../shared/tlog/checkpoint.ts';
import { formatProof } from '../../shared/tlog/proof-file.ts';
import { formatExtra } from '../../audit/core/proof-pair.ts';
import { openShown } from './audit-proof.ts';
import { replaceFile } from '../replace-file.ts';

type Json = Readonly<Record<string, unknown>>;

const text = (value: unknown): string => (typeof value === 'string' ? value : '');
const bytesOf = (value: unknown): Buffer => Buffer.from(text(value), 'base64');

/** `<name>.meta.tlog-proof` beside `<name>.tlog-proof`. */
const metaProofFile = (file: string): string => `${file.replace(/\.tlog-proof$/, '')}.meta.tlog-proof`;

/** A proof file of what the answer shows; undefined where it shows none. */
const fileOf = (checkpoint: unknown, proof: unknown, extra?: Uint8Array): Buffer | undefined => {
  if (typeof checkpoint !== 'string' || !isObject(proof)) return undefined;
  const index = parseTreeSize(text(proof['index']));
  const hashes = Array.isArray(proof['hashes']) ? (proof['hashes'] as readonly unknown[]).map(bytesOf) : [];
  if (index === undefined || hashes.some(({ length }) => length !== 32)) return undefined;
  const base = { index, hashes, checkpoint: Buffer.from(checkpoint, 'utf8') };
  return formatProof(extra === undefined ? base : { ...base, extra });
};

interface ProofFiles {
  readonly entry: Buffer | undefined;
  readonly meta: Buffer | undefined;
  readonly event: Uint8Array | undefined;
}

/** Of an answer of `GET /v1/decisions/{id}`; a text says why it is none that could be proven. */
const proofFilesOf = (id: string, shown: Json): ProofFiles | string => {
  const opened = openShown(id, shown);
  if (typeof opened === 'string') return opened;
  const opening = { salt: fromHex(text(shown['salt'])), contentType: text(shown['content_type']) };
  const extra = formatExtra({ entry: opened.entryBytes, opening: opened.payload === undefined ? undefined : opening });
  const witnessed = isObject(shown['witnessed']) ? shown['witnessed'] : undefined;
  // The checkpoint that the meta log covers may be older than the newest, and is the one to hold.
  const { checkpoint, proof } = witnessed ?? shown;
  const meta = witnessed?.['meta'];
  return {
    entry: fileOf(checkpoint, proof, extra),
    meta: isObject(meta) ? fileOf(meta['checkpoint'], meta) : undefined,
    event: opened.payload,
  };
};

export interface WrittenFiles {
  readonly files: readonly string[];
  /** What was asked for and is not there, or not yet. */
  readonly warnings: readonly string[];
  /** False where `proof` or `event` could not be written; without the meta log a proof is still one. */
  readonly isWhole: boolean;
}

/** Writes what `edict audit verify-proof` reads: whole files, or none. */
export const writeProofFiles = async (
  id: string,
  shown: Json,
  { proof, event }: { readonly proof?: string; readonly event?: string },
): Promise<WrittenFiles> => {
  if (proof === undefined && event === undefined) return { files: [], warnings: [], isWhole: true };
  const made = proofFilesOf(id, shown);
  if (typeof made === 'string') return { files: [], warnings: [`nothing is written: ${made}`], isWhole: false };
  const wanted: (readonly [file: string | undefined, bytes: Uint8Array | undefined, otherwise: string])[] = [
    [proof, made.entry, 'no proof is written: no checkpoint covers the entry yet'],
    [event, made.event, 'no event is written: its payload is gone'],
  ];
  const files: string[] = [];
  const warnings: string[] = [];
  for (const [file, bytes, otherwise] of wanted) {
    if (file === undefined) continue;
    if (bytes === undefined) warnings.push(otherwise);
    else {
      await replaceFile(file, bytes);
      files.push(file);
    }
  }
  const isWhole = warnings.length === 0;
  if (proof !== undefined && made.meta !== undefined) {
    const file = metaProofFile(proof);
    await replaceFile(file, made.meta);
    files.push(file);
  } else if (proof !== undefined) {
    // One of an earlier run would be taken for that of this proof.
    rmSync(metaProofFile(proof), { force: true });
    warnings.push('the meta log does not cover it yet: no witness can have seen it');
  }
  return { files, warnings, isWhole };
};
