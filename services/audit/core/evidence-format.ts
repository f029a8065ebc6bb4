import { isObject } from '../../shared/contracts/json.ts';
import { AppError } from '../../shared/contracts/errors.ts';

/** An evidence bundle, docs/ledger.md, "Evidence bundle": a POSIX ustar archive with these members in this order. */
export const EVIDENCE_FORMAT = 'edict-evidence/v1';

export const MEMBERS = {
  readme: 'README.md',
  about: 'about.json',
  vkey: 'keys/log.vkey',
  checkpoint: 'checkpoint',
  /** Then `entries/00000001.ndjson` and so on, none when nothing was found; then: */
  manifest: 'manifest.json',
} as const;

/** The most bytes of a member that are read into memory; one of entries holds whole lines. */
export const MAX_MEMBER_BYTES = 32 * 1024 * 1024;
export const BLOCK_BYTES = 512;
/** Two empty blocks, and nothing behind them. */
export const END_BYTES = 2 * BLOCK_BYTES;
/** Different policy sets that a manifest lists. */
export const MAX_POLICIES = 1_000;

/** `number` from 1. */
export const entriesMember = (number: number): string => `entries/${String(number).padStart(8, '0')}.ndjson`;

/** The one header that a member has: mode 0644, no times, no owners. */
export const tarHeader = (name: string, bytes: number): Buffer => {
  const header = Buffer.alloc(BLOCK_BYTES);
  const put = (text: string, at: number): void => void header.write(text, at, 'latin1');
  put(name, 0);
  put('0000644', 100);
  put('0000000', 108);
  put('0000000', 116);
  put(bytes.toString(8).padStart(11, '0'), 124);
  put('0'.repeat(11), 136);
  put(' '.repeat(8), 148);
  put('0', 156);
  put('ustar', 257);
  put('00', 263);
  put('0000000', 329);
  put('0000000', 337);
  const sum = header.reduce((total, byte) => total + byte, 0);
  put(`${sum.toString(8).padStart(6, '0')}\0 `, 148);
  return header;
};

/** How many zero bytes follow a member. */
export const paddingOf = (bytes: number): number => (BLOCK_BYTES - (bytes % BLOCK_BYTES)) % BLOCK_BYTES;

/** `member`: shown to a person, so that its name is one of ours or says where it stands. */
export const evidenceInvalid = (member: string, why: string): AppError =>
  new AppError('evidence_invalid', `${member}: ${why}`, { details: { member, why } });

/** What the entries of a bundle are. */
export type EvidenceScope =
  /** All entries between two checkpoints. */
  | 'range'
  /** The decisions that a filter found, each with a proof of its own. */
  | 'filter';

/** `about.json`: who asked for what, and where the entries begin. Numbers are decimal text, hashes base64. */
export interface EvidenceAbout {
  readonly format: typeof EVIDENCE_FORMAT;
  readonly scope: EvidenceScope;
  readonly tenant: string;
  readonly origin: string;
  readonly by: string;
  readonly exported_at: string;
  readonly filter: Readonly<Record<string, string | readonly string[]>>;
  /** The entry that says that this export began. */
  readonly access: { readonly log: string; readonly begun: string };
  /** Of the tree that `checkpoint` signs. */
  readonly size: string;
  /** `range` only: the tree before the first entry, roots of its full subtrees, largest first, and its checkpoint. */
  readonly start: {
    readonly size: string;
    readonly subtrees: readonly string[];
    readonly checkpoint: string | null;
  } | null;
}

/** A line of `entries/…`. */
export interface EvidenceLine {
  readonly seq: string;
  /** E_i, base64. */
  readonly entry: string;
  /** Base64, with `content_type` and `payload`; or `gone`. */
  readonly salt?: string;
  readonly content_type?: string;
  readonly payload?: string;
  readonly gone?: 'missing' | 'no_key' | 'unopened';
  /** `filter` only: RFC 6962 inclusion in the tree of `size`, base64, lowest first. */
  readonly proof?: readonly string[];
  /** `range` only: the note of the checkpoint that ends with this entry. */
  readonly checkpoint?: string;
}

export interface EvidencePolicy {
  /** `sha256:` and hex, as all digests here. */
  readonly set: string;
  readonly decisions: string;
  /** Of which the set is made; empty when no decision of it could be read. */
  readonly bundles: readonly string[];
}

export interface EvidenceMember {
  readonly name: string;
  readonly bytes: string;
  readonly sha256: string;
}

/** `manifest.json`, the last member. */
export interface EvidenceManifest {
  readonly format: typeof EVIDENCE_FORMAT;
  readonly counts: {
    readonly entries: string;
    readonly payloads: string;
    readonly gone: string;
    readonly checkpoints: string;
  };
  readonly policies: readonly EvidencePolicy[];
  /** True where there were more than are listed. */
  readonly policies_cut: boolean;
  readonly members: readonly EvidenceMember[];
}

const isText = (value: unknown): value is string => typeof value === 'string';
const isTexts = (value: unknown): value is readonly string[] => Array.isArray(value) && value.every(isText);
const isBoolean = (value: unknown): boolean => typeof value === 'boolean';
const orNull =
  (is: (value: unknown) => boolean) =>
  (value: unknown): boolean =>
    value === null || is(value);
const listOf =
  (is: (value: unknown) => boolean) =>
  (value: unknown): boolean =>
    Array.isArray(value) && value.every(is);

type Shape = Readonly<Record<string, (value: unknown) => boolean>>;

/** An object with exactly these members, those of `optional` perhaps. */
const shaped =
  (shape: Shape, optional: Shape = {}) =>
  (value: unknown): boolean =>
    isObject(value) &&
    Object.entries(shape).every(([name, is]) => Object.hasOwn(value, name) && is(value[name])) &&
    Object.keys(value).every(
      (name) => Object.hasOwn(shape, name) || (Object.hasOwn(optional, name) && optional[name]?.(value[name]) === true),
    );

const isFilter = shaped(
  {},
  {
    from: isText,
    to: isText,
    subject: isText,
    subject_type: isText,
    agent: isText,
    chain: isTexts,
    action: isText,
    resource: isText,
    resource_type: isText,
    decision: isText,
    reason: isText,
    session: isText,
    purpose: isText,
    request_id: isText,
  },
);

const ABOUT = shaped({
  format: (value) => value === EVIDENCE_FORMAT,
  scope: (value) => value === 'range' || value === 'filter',
  tenant: isText,
  origin: isText,
  by: isText,
  exported_at: isText,
  filter: isFilter,
  access: shaped({ log: isText, begun: isText }),
  size: isText,
  start: orNull(shaped({ size: isText, subtrees: isTexts, checkpoint: orNull(isText) })),
});
const LINE = shaped(
  { seq: isText, entry: isText },
  { salt: isText, content_type: isText, payload: isText, gone: isText, proof: isTexts, checkpoint: isText },
);
const MANIFEST = shaped({
  format: (value) => value === EVIDENCE_FORMAT,
  counts: shaped({ entries: isText, payloads: isText, gone: isText, checkpoints: isText }),
  policies: listOf(shaped({ set: isText, decisions: isText, bundles: isTexts })),
  policies_cut: isBoolean,
  members: listOf(shaped({ name: isText, bytes: isText, sha256: isText })),
});

const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

const parse = (member: string, bytes: Uint8Array, is: (value: unknown) => boolean): unknown => {
  let value: unknown;
  try {
    value = JSON.parse(utf8.decode(bytes));
  } catch {
    throw evidenceInvalid(member, 'is not JSON in UTF-8');
  }
  if (!is(value)) throw evidenceInvalid(member, 'has other members than the format');
  return value;
};

/** Throw `evidence_invalid`: not JSON, a member too many or too few, or of another type. */
export const parseAbout = (bytes: Uint8Array): EvidenceAbout => parse(MEMBERS.about, bytes, ABOUT) as EvidenceAbout;
export const parseLine = (member: string, bytes: Uint8Array): EvidenceLine =>
  parse(member, bytes, LINE) as EvidenceLine;
export const parseManifest = (bytes: Uint8Array): EvidenceManifest =>
  parse(MEMBERS.manifest, bytes, MANIFEST) as EvidenceManifest;
