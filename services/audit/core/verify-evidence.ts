import { digestText, setDigest } from '../../shared/contracts/bundle-digest.ts';
import { bytesEqual, fromHex, hex, sha256Hex } from '../../shared/contracts/bytes.ts';
import { counterOf } from '../../shared/contracts/counter.ts';
import { errorMessage, isAppError } from '../../shared/contracts/errors.ts';
import { parseVkey, type VerifierKey } from '../../shared/contracts/signatures.ts';
import { openCheckpoint, type Checkpoint } from '../../shared/tlog/checkpoint.ts';
import { createTreeHasher } from '../../shared/tlog/merkle.ts';
import { canonicalBase64 } from '../../shared/tlog/signed-note.ts';
import {
  entriesMember,
  evidenceInvalid,
  MEMBERS,
  parseAbout,
  parseLine,
  parseManifest,
  type EvidenceAbout,
  type EvidenceManifest,
  type EvidenceMember,
} from './evidence-format.ts';
import { linesOf, readEvidence, type ReadMember } from './evidence-read.ts';
import { createEntryChecker, type EntryChecker } from './verify-evidence-entries.ts';
import { createFindings, VERDICTS, type AttackClass, type Findings, type VerificationReport } from './verify-report.ts';

export interface VerifyEvidenceOptions {
  /** Verifier keys that the auditor holds, by origin; absent: the bundle's own key is all there is. */
  readonly keys?: ReadonlyMap<string, VerifierKey>;
  readonly now: () => number;
  /** Entries so far. */
  readonly onProgress?: (entries: bigint) => void;
}

/** What a bundle is, as far as it could be read, and the verdicts on it. */
export interface EvidenceReport {
  readonly about: EvidenceAbout | undefined;
  readonly manifest: EvidenceManifest | undefined;
  readonly report: VerificationReport;
}

/** Findings that concern the bundle as a whole. */
const failerOf = (findings: Findings) => ({
  fail: (
    verdict: Parameters<Findings['fail']>[0],
    what: string,
    expected: string,
    actual: string,
    attack: AttackClass,
  ): void => findings.fail(verdict, { seq: null, what, expected, actual, attack }),
});

/** The key that the checkpoints must be signed with, and whether the auditor brought it. */
const chooseKey = (
  findings: Findings,
  about: EvidenceAbout,
  line: string,
  keys: VerifyEvidenceOptions['keys'],
): { readonly key: VerifierKey | undefined; readonly vkey: string } => {
  const { fail } = failerOf(findings);
  let named: VerifierKey | undefined;
  try {
    named = parseVkey(line);
  } catch (error) {
    fail('authenticity', MEMBERS.vkey, 'a verifier key', errorMessage(error), 'log_relabelled');
  }
  if (named !== undefined && named.name !== about.origin)
    fail('authenticity', MEMBERS.vkey, `the key of ${about.origin}`, `the key of ${named.name}`, 'log_relabelled');
  if (keys === undefined) return { key: named, vkey: line };
  const own = keys.get(about.origin);
  if (own === undefined)
    fail('authenticity', 'your key', `one of ${about.origin}`, [...keys.keys()].join(', ') || 'none', 'log_relabelled');
  else if (named !== undefined && !bytesEqual(own.publicKey, named.publicKey))
    fail('authenticity', MEMBERS.vkey, hex(own.publicKey), hex(named.publicKey), 'log_relabelled');
  return { key: own, vkey: line };
};

/** The newest checkpoint, which must be of the size that the bundle says. */
const openNewest = (findings: Findings, size: bigint, note: Uint8Array, key: VerifierKey | undefined) => {
  findings.count('authenticity', 'checkpoints');
  const signed = key === undefined ? undefined : openCheckpoint(note, key);
  if (signed?.size === size) return signed;
  const actual = signed === undefined ? 'no such note' : `size ${signed.size}`;
  const expected = `size ${size}, signed by the log’s key`;
  failerOf(findings).fail('authenticity', MEMBERS.checkpoint, expected, actual, 'checkpoint_forged');
  return undefined;
};

/** The tree before the first entry: its hashes must lead to a root that the key signed. */
const openStart = (findings: Findings, about: EvidenceAbout, key: VerifierKey | undefined) => {
  const { start } = about;
  if (start === null) return undefined;
  const size = counterOf(start.size);
  const subtrees = start.subtrees.map((text) => canonicalBase64(text) ?? Buffer.alloc(0));
  if (size === undefined) throw evidenceInvalid(MEMBERS.about, 'start.size is no number');
  let tree;
  try {
    tree = createTreeHasher({ size, subtrees });
  } catch {
    throw evidenceInvalid(MEMBERS.about, `start.subtrees are not those of a tree of size ${size}`);
  }
  const root = tree.root();
  if (size === 0n) return { size, root, subtrees };
  findings.count('authenticity', 'checkpoints');
  const note = Buffer.from(start.checkpoint ?? '', 'utf8');
  const signed = key === undefined ? undefined : openCheckpoint(note, key);
  const { fail } = failerOf(findings);
  if (signed?.size !== size)
    fail(
      'authenticity',
      'checkpoint before the first entry',
      `size ${size}, signed by the log’s key`,
      signed === undefined ? 'no such note' : `size ${signed.size}`,
      'checkpoint_forged',
    );
  else if (!bytesEqual(signed.root, root))
    fail(
      'append_only',
      `root at size ${size}, as the log’s key signed it`,
      hex(signed.root),
      hex(root),
      'history_rewritten',
    );
  return { size, root, subtrees };
};

const checkPolicies = (
  { fail }: ReturnType<typeof failerOf>,
  { policies, policies_cut: isCut }: EvidenceManifest,
  found: ReadonlyMap<string, bigint>,
): void => {
  const listed = new Map(policies.map((policy) => [policy.set, policy]));
  for (const set of new Set([...found.keys(), ...listed.keys()])) {
    const policy = listed.get(set);
    if (policy === undefined && isCut) continue;
    const count = String(found.get(set) ?? 0n);
    if (policy?.decisions !== count)
      fail('integrity', `decisions by policy set ${set}`, policy?.decisions ?? 'none', count, 'bundle_edited');
    if (policy === undefined || policy.bundles.length === 0) continue;
    const made = digestText(setDigest(policy.bundles.map((digest) => fromHex(digest.replace(/^sha256:/, '')))));
    if (made !== set) fail('integrity', `policy set of ${policy.bundles.join(', ')}`, set, made, 'bundle_edited');
  }
};

const checkManifest = (
  findings: Findings,
  manifest: EvidenceManifest,
  members: readonly EvidenceMember[],
  entries: EntryChecker,
): void => {
  const to = failerOf(findings);
  if (manifest.members.length !== members.length)
    to.fail('integrity', 'members', `${manifest.members.length}`, `${members.length}`, 'bundle_edited');
  for (const [index, { name, bytes, sha256 }] of members.entries()) {
    const listed = manifest.members[index];
    if (listed?.name === name && listed.bytes === bytes && listed.sha256 === sha256) continue;
    const expected =
      listed === undefined ? 'not listed' : `${listed.name}, ${listed.bytes} bytes, sha256 ${listed.sha256}`;
    to.fail('integrity', `member ${name}`, expected, `${name}, ${bytes} bytes, sha256 ${sha256}`, 'bundle_edited');
  }
  for (const [name, count] of Object.entries(entries.counts())) {
    const listed = manifest.counts[name as keyof EvidenceManifest['counts']];
    if (listed !== String(count)) to.fail('integrity', `count of ${name}`, listed, String(count), 'bundle_edited');
  }
  checkPolicies(to, manifest, entries.policies());
};

/** Reads the members up to the entries. */
const readHead = async (next: (name: string) => Promise<ReadMember>) => {
  await next(MEMBERS.readme);
  const about = parseAbout((await next(MEMBERS.about)).bytes);
  const vkey = (await next(MEMBERS.vkey)).bytes.toString('utf8').trimEnd();
  const note = (await next(MEMBERS.checkpoint)).bytes;
  const size = counterOf(about.size);
  if (size === undefined || size === 0n) throw evidenceInvalid(MEMBERS.about, 'size is no size of a log');
  if ((about.scope === 'range') === (about.start === null))
    throw evidenceInvalid(MEMBERS.about, 'start is there when the scope is range, and only then');
  if (about.scope === 'range' && Object.keys(about.filter).some((name) => name !== 'from' && name !== 'to'))
    throw evidenceInvalid(MEMBERS.about, 'a range has no filter but from and to');
  return { about, vkey, note, size };
};

/**
 * Checks an evidence bundle, of which nothing is believed, and says what it proves: the verdicts of docs/ledger.md,
 * "Evidence bundle". Rejects as `chunks` does, never for what stands in it. One member is in memory at a time; beside it
 * memory grows with streams and holes.
 */
export const verifyEvidence = async (
  chunks: AsyncIterable<Uint8Array>,
  options: VerifyEvidenceOptions,
): Promise<EvidenceReport> => {
  const started = options.now();
  const findings = createFindings();
  const members: EvidenceMember[] = [];
  let isUnreadable = false;
  const watched = async function* (): AsyncGenerator<Uint8Array> {
    try {
      yield* chunks;
    } catch (error) {
      isUnreadable = true;
      throw error;
    }
  };
  const source = readEvidence(watched());
  const listMember = ({ name, bytes }: ReadMember): void =>
    void members.push({ name, bytes: String(bytes.length), sha256: sha256Hex(bytes) });
  const next = async (name: string): Promise<ReadMember> => {
    const { done, value } = await source.next();
    if (done === true) throw evidenceInvalid(name, 'is missing');
    return value;
  };
  let about: EvidenceAbout | undefined;
  let manifest: EvidenceManifest | undefined;
  let entries: EntryChecker | undefined;
  let newest: Checkpoint | undefined;
  let isWhole = false;
  try {
    const head = await readHead(async (name) => {
      const member = await next(name);
      listMember(member);
      return member;
    });
    about = head.about;
    const { key, vkey } = chooseKey(findings, about, head.vkey, options.keys);
    newest = openNewest(findings, head.size, head.note, key);
    const start = openStart(findings, about, key);
    entries = createEntryChecker({
      findings,
      about,
      size: head.size,
      start,
      key,
      vkey,
      newest,
      isOwnKey: options.keys !== undefined,
    });
    for await (const member of source) {
      if (member.name === MEMBERS.manifest) {
        manifest = parseManifest(member.bytes);
        continue;
      }
      listMember(member);
      for (const line of linesOf(member)) entries.line(parseLine(member.name, line), member.name);
      options.onProgress?.(entries.counts().entries);
    }
    if (manifest !== undefined) checkManifest(findings, manifest, members, entries);
    isWhole = true;
  } catch (error) {
    // Whatever a hostile file makes the checks throw is a finding of it; what is no fault of the file is not.
    if (isUnreadable || (isAppError(error) && error.code !== 'evidence_invalid')) throw error;
    const where = isAppError(error) ? String(error.details['member']) : entriesMember(members.length - 3);
    const why = isAppError(error) ? String(error.details['why']) : errorMessage(error);
    failerOf(findings).fail('integrity', `member ${where}`, 'as the format says', why, 'bundle_edited');
  } finally {
    await source.return(undefined);
  }
  const unread = Object.fromEntries(
    VERDICTS.map((name) => [
      name,
      findings.verdict(name, 'not_checked', 'the bundle could not be read as far as that'),
    ]),
  ) as VerificationReport['verdicts'];
  return {
    about,
    manifest,
    report: {
      tenant: about?.tenant ?? '',
      origin: about?.origin ?? '',
      size: about?.size ?? '0',
      lastLeaf: entries?.lastLeaf() ?? null,
      root: newest === undefined ? '' : hex(newest.root),
      checkpoint: null,
      attacks: findings.attacks(),
      startedAt: new Date(started).toISOString(),
      endedAt: new Date(options.now()).toISOString(),
      verdicts: entries?.verdicts(isWhole, options.now()) ?? unread,
      findings: findings.list(),
    },
  };
};
