import { createHash } from 'node:crypto';
import { digestText } from '../../shared/contracts/bundle-digest.ts';
import { AppError } from '../../shared/contracts/errors.ts';
import { isObject, canonicalJson } from '../../shared/contracts/json.ts';
import { ENTRY_KINDS } from './entry.ts';
import {
  END_BYTES,
  entriesMember,
  EVIDENCE_FORMAT,
  MAX_MEMBER_BYTES,
  MAX_POLICIES,
  MEMBERS,
  paddingOf,
  tarHeader,
  type EvidenceAbout,
  type EvidenceLine,
  type EvidenceManifest,
  type EvidenceMember,
} from './evidence-format.ts';
import { EVIDENCE_README } from './evidence-readme.ts';
import { entryOf } from './query-reader.ts';
import { parseObject } from './verify-event.ts';
import type { StoredPayload } from './verify-input.ts';

/** Lines are put together into members of some more than this. */
const ENTRIES_BYTES = 1024 * 1024;

/** An entry as it goes into a bundle. */
export interface EvidenceRow {
  readonly seq: bigint;
  readonly header: Uint8Array;
  readonly payload: StoredPayload;
  readonly proof?: readonly Uint8Array[];
  readonly checkpoint?: Uint8Array;
}

const base64 = (bytes: Uint8Array): string =>
  Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('base64');

const lineOf = ({ seq, header, payload, proof, checkpoint }: EvidenceRow): EvidenceLine => ({
  seq: String(seq),
  entry: base64(header),
  ...(payload.state === 'opened'
    ? { salt: base64(payload.salt), content_type: payload.contentType, payload: base64(payload.payload) }
    : { gone: payload.state }),
  ...(proof === undefined ? {} : { proof: proof.map(base64) }),
  ...(checkpoint === undefined ? {} : { checkpoint: Buffer.from(checkpoint).toString('utf8') }),
});

/** The digests of the bundles that an event says its decision used. */
const bundlesIn = (payload: StoredPayload): readonly string[] => {
  const data = payload.state === 'opened' ? parseObject(payload.payload)?.['data'] : undefined;
  const policy = isObject(data) ? data['policy'] : undefined;
  const bundles = isObject(policy) ? policy['bundles'] : undefined;
  return (Array.isArray(bundles) ? (bundles as readonly unknown[]) : []).flatMap((bundle) =>
    isObject(bundle) && typeof bundle['digest'] === 'string' ? [bundle['digest']] : [],
  );
};

/** Counts what the manifest says. */
const createCounts = () => {
  const counts = { entries: 0n, payloads: 0n, gone: 0n, checkpoints: 0n };
  const policies = new Map<string, { decisions: bigint; bundles: readonly string[] }>();
  let isCut = false;
  return {
    add: (row: EvidenceRow): void => {
      counts.entries += 1n;
      if (row.payload.state === 'opened') counts.payloads += 1n;
      else counts.gone += 1n;
      if (row.checkpoint !== undefined) counts.checkpoints += 1n;
      const entry = entryOf(row.header);
      if (entry?.kind !== ENTRY_KINDS.decision) return;
      const set = digestText(entry.policySetDigest);
      const known = policies.get(set);
      if (known === undefined && policies.size >= MAX_POLICIES) {
        isCut = true;
        return;
      }
      policies.set(set, {
        decisions: (known?.decisions ?? 0n) + 1n,
        bundles: known === undefined || known.bundles.length === 0 ? bundlesIn(row.payload) : known.bundles,
      });
    },
    manifest: (members: readonly EvidenceMember[]): EvidenceManifest => ({
      format: EVIDENCE_FORMAT,
      counts: {
        entries: String(counts.entries),
        payloads: String(counts.payloads),
        gone: String(counts.gone),
        checkpoints: String(counts.checkpoints),
      },
      policies: [...policies].map(([set, { decisions, bundles }]) => ({ set, decisions: String(decisions), bundles })),
      policies_cut: isCut,
      members,
    }),
  };
};

/**
 * An evidence bundle as a stream of chunks; some MiB of entries are in memory. Rejects as `rows` does, and with `internal`
 * for an entry that is too large for a member.
 */
export const writeEvidence = async function* (
  about: EvidenceAbout,
  log: { readonly vkey: string; readonly checkpoint: Uint8Array },
  rows: AsyncIterable<EvidenceRow>,
): AsyncGenerator<Uint8Array> {
  const members: EvidenceMember[] = [];
  const counts = createCounts();
  const member = (name: string, content: string | Uint8Array): Buffer => {
    const bytes = typeof content === 'string' ? Buffer.from(content, 'utf8') : content;
    if (bytes.length > MAX_MEMBER_BYTES) throw new AppError('internal', `${name} would have ${bytes.length} bytes`);
    const sha256 = createHash('sha256').update(bytes).digest('hex');
    members.push({ name, bytes: String(bytes.length), sha256 });
    return Buffer.concat([tarHeader(name, bytes.length), bytes, Buffer.alloc(paddingOf(bytes.length))]);
  };
  yield member(MEMBERS.readme, EVIDENCE_README);
  yield member(MEMBERS.about, `${canonicalJson(about)}\n`);
  yield member(MEMBERS.vkey, `${log.vkey}\n`);
  yield member(MEMBERS.checkpoint, log.checkpoint);
  let lines: Buffer[] = [];
  let bytes = 0;
  let number = 1;
  const flush = (): Buffer => {
    const written = member(entriesMember(number), Buffer.concat(lines));
    [lines, bytes, number] = [[], 0, number + 1];
    return written;
  };
  for await (const row of rows) {
    counts.add(row);
    const line = Buffer.from(`${JSON.stringify(lineOf(row))}\n`, 'utf8');
    lines.push(line);
    bytes += line.length;
    if (bytes >= ENTRIES_BYTES) yield flush();
  }
  if (bytes > 0) yield flush();
  const manifest = counts.manifest([...members]);
  yield Buffer.concat([member(MEMBERS.manifest, `${canonicalJson(manifest)}\n`), Buffer.alloc(END_BYTES)]);
};
