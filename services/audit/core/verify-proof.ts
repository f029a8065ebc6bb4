import { bytesEqual } from '../../shared/contracts/bytes.ts';
import { errorMessage } from '../../shared/contracts/errors.ts';
import { bytesToUuid } from '../../shared/contracts/uuid.ts';
import { openCheckpoint, parseCheckpoint, type ParsedCheckpoint } from '../../shared/tlog/checkpoint.ts';
import { witnessed, type Policy } from '../../shared/tlog/policy.ts';
import { parseProof, type TlogProof } from '../../shared/tlog/proof-file.ts';
import { rootOfInclusion } from '../../shared/tlog/proofs.ts';
import { parseNote } from '../../shared/tlog/signed-note.ts';
import { commitPayload, decodeEntry, leafHash, type Entry } from './entry.ts';
import { metaEntry, metaLeafHash } from './meta-log.ts';
import { parseExtra, type ProofExtra } from './proof-pair.ts';
import { parseObject } from './verify-event.ts';

/** Each stands for itself, in this order. */
export const PROOF_VERDICTS = [
  'event',
  'inclusion',
  'log_signature',
  'meta_inclusion',
  'meta_signature',
  'quorum',
] as const;
export type ProofVerdictName = (typeof PROOF_VERDICTS)[number];

export interface ProofVerdict {
  /** `not_witnessed`: no quorum, or the policy asks for none; nothing in the files is wrong then. */
  readonly status: 'ok' | 'failed' | 'not_checked' | 'not_witnessed';
  readonly note: string;
}

export interface ProofReport {
  readonly origin: string | null;
  readonly index: string | null;
  readonly treeSize: string | null;
  readonly eventId: string | null;
  readonly verdicts: Readonly<Record<ProofVerdictName, ProofVerdict>>;
  /** Of the policy's witnesses, on the checkpoint that stands for the entry. */
  readonly cosignatures: readonly { readonly witness: string; readonly timeS: number }[];
  /** Everything that the policy asks for is there, and nothing that was checked is wrong. */
  readonly isGood: boolean;
}

/** A proof file that could be read, with its checkpoint, of which nothing is verified. */
interface ReadProof extends TlogProof {
  readonly stated: ParsedCheckpoint;
}

const ok = (note: string): ProofVerdict => ({ status: 'ok', note });
const bad = (note: string): ProofVerdict => ({ status: 'failed', note });
const unchecked = (note: string): ProofVerdict => ({ status: 'not_checked', note });

const readProof = (bytes: Uint8Array): ReadProof | { readonly problem: string } => {
  const proof = parseProof(bytes);
  if ('problem' in proof) return proof;
  const stated = parseCheckpoint(parseNote(proof.checkpoint)?.text ?? '');
  return stated === undefined ? { problem: 'what should be a checkpoint is none' } : { ...proof, stated };
};

/** Whether a file is one of the meta log: its entries are checkpoints, and no tenant is called `-`. */
export const isMetaProof = (bytes: Uint8Array): boolean => {
  const read = readProof(bytes);
  return !('problem' in read) && /\/-\/meta\/[1-9]\d*$/.test(read.stated.origin);
};

const signatureOf = ({ checkpoint, stated }: ReadProof, policy: Policy): ProofVerdict => {
  const keys = policy.logs.filter(({ key }) => key.name === stated.origin);
  if (keys.length === 0) return bad(`the policy names no log ${stated.origin}`);
  return keys.some(({ key }) => openCheckpoint(checkpoint, key) !== undefined)
    ? ok(stated.origin)
    : bad('the checkpoint is not signed with the key that the policy names');
};

const inclusionOf = ({ index, hashes, stated }: ReadProof, leaf: Uint8Array, what: string): ProofVerdict => {
  const root = rootOfInclusion(leaf, index, stated.size, hashes);
  return root !== undefined && bytesEqual(root, stated.root)
    ? ok(`${what} ${index} of ${stated.size}`)
    : bad(`the path of ${what} ${index} does not lead to the root of size ${stated.size}`);
};

interface Opened {
  readonly extra: ProofExtra;
  readonly entry: Entry;
}

const openEntry = ({ extra: bytes }: ReadProof): Opened | { readonly problem: string } => {
  const extra = bytes === undefined ? undefined : parseExtra(bytes);
  if (extra === undefined) return { problem: 'the file does not bring its entry along' };
  try {
    return { extra, entry: decodeEntry(extra.entry) };
  } catch (error) {
    return { problem: `what it brings along is no entry: ${errorMessage(error)}` };
  }
};

const eventOf = ({ extra, entry }: Opened, event: Uint8Array | undefined): ProofVerdict => {
  if (event === undefined) return unchecked('no event was given');
  if (extra.opening === undefined) return bad('the file has no salt to check it with: the payload was gone');
  const { salt, contentType } = extra.opening;
  if (!bytesEqual(commitPayload(salt, contentType, event), entry.commitment))
    return bad('the entry commits to other bytes');
  const id = parseObject(event)?.['id'];
  return typeof id === 'string' && id !== bytesToUuid(entry.eventId)
    ? bad(`the event is ${id}, the entry of ${bytesToUuid(entry.eventId)}`)
    : ok('the entry commits to these bytes');
};

const entryInclusion = (proof: ReadProof, { extra, entry }: Opened): ProofVerdict =>
  entry.seq === proof.index
    ? inclusionOf(proof, leafHash(extra.entry), 'entry')
    : bad(`the entry says that it is ${entry.seq}, the proof that it is ${proof.index}`);

const noMeta = unchecked('no proof of the meta log was given');

const metaOf = (proof: ReadProof, bytes: Uint8Array | undefined, policy: Policy) => {
  if (bytes === undefined) return { inclusion: noMeta, signature: noMeta, proof: undefined };
  const meta = readProof(bytes);
  if ('problem' in meta)
    return { inclusion: bad(meta.problem), signature: unchecked('there is no checkpoint'), proof: undefined };
  const inclusion = inclusionOf(meta, metaLeafHash(metaEntry(proof.checkpoint)), 'the checkpoint as entry');
  return { inclusion, signature: signatureOf(meta, policy), proof: meta };
};

/** The quorum is counted on one checkpoint: that of the meta log where there is one, else the log's own. */
const quorumOf = (policy: Policy, proof: ReadProof) => {
  const found = witnessed(policy, proof.checkpoint);
  const cosignatures = (found?.cosignatures ?? []).map(({ witness, timeS }) => ({ witness: witness.name, timeS }));
  const verdict = ((): ProofVerdict => {
    if (found === undefined) return bad('a cosignature does not verify');
    const count = `${cosignatures.length} of the ${policy.witnesses.length} witnesses of the policy cosigned`;
    if (policy.quorum.kind === 'none') return { status: 'not_witnessed', note: `the policy asks for nobody; ${count}` };
    return found.isQuorumReached ? ok(count) : { status: 'not_witnessed', note: `no quorum: ${count}` };
  })();
  return { cosignatures, verdict };
};

const isEnough = (verdicts: ProofReport['verdicts'], policy: Policy): boolean =>
  PROOF_VERDICTS.every((name) => verdicts[name].status !== 'failed') &&
  verdicts.inclusion.status === 'ok' &&
  (verdicts.quorum.status === 'ok' || policy.quorum.kind === 'none');

/**
 * What the files prove, with the keys of the policy and nothing else: that the event belongs to the entry, the entry to
 * the log, the log's checkpoint to the meta log, and that enough witnesses saw that.
 */
export const verifyProof = (
  files: { readonly entry: Uint8Array; readonly meta: Uint8Array | undefined; readonly event: Uint8Array | undefined },
  policy: Policy,
): ProofReport => {
  const proof = readProof(files.entry);
  if ('problem' in proof) {
    const nothing = unchecked('the file cannot be read');
    const verdicts = {
      ...Object.fromEntries(PROOF_VERDICTS.map((name) => [name, nothing])),
      inclusion: bad(proof.problem),
    } as ProofReport['verdicts'];
    return { origin: null, index: null, treeSize: null, eventId: null, verdicts, cosignatures: [], isGood: false };
  }
  const opened = openEntry(proof);
  const meta = metaOf(proof, files.meta, policy);
  const quorum = quorumOf(policy, meta.proof ?? proof);
  const verdicts = {
    event: 'problem' in opened ? unchecked(opened.problem) : eventOf(opened, files.event),
    inclusion: 'problem' in opened ? bad(opened.problem) : entryInclusion(proof, opened),
    log_signature: signatureOf(proof, policy),
    meta_inclusion: meta.inclusion,
    meta_signature: meta.signature,
    quorum: quorum.verdict,
  };
  return {
    origin: proof.stated.origin,
    index: String(proof.index),
    treeSize: String(proof.stated.size),
    eventId: 'problem' in opened ? null : bytesToUuid(opened.entry.eventId),
    verdicts,
    cosignatures: quorum.cosignatures,
    isGood: isEnough(verdicts, policy),
  };
};
