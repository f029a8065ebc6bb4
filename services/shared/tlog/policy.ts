import { hex } from '../contracts/bytes.ts';
import { errorMessage } from '../contracts/errors.ts';
import { parseVkey, type VerifierKey } from '../contracts/signatures.ts';
import { openCosignatures, parseWitnessVkey, type Cosignature, type WitnessKey } from './cosignature.ts';

/** C2SP tlog-policy: which logs, which witnesses, and how many of whom are enough. */
export interface Policy {
  readonly logs: readonly PolicyLog[];
  readonly witnesses: readonly PolicyWitness[];
  readonly quorum: Quorum;
}

/** Its key's name is the log's origin. */
export interface PolicyLog {
  readonly key: VerifierKey;
  readonly url?: string;
}

export interface PolicyWitness {
  /** What the policy calls it; the name in its cosignatures is the key's. */
  readonly name: string;
  readonly key: WitnessKey;
  /** Where it takes checkpoints: the submission prefix of C2SP tlog-witness. */
  readonly url?: string;
}

/** `none` asks for no witness; a group is satisfied by `threshold` of its members. */
export type Quorum =
  | { readonly kind: 'none' }
  | { readonly kind: 'witness'; readonly name: string; readonly key: WitnessKey }
  | { readonly kind: 'group'; readonly name: string; readonly threshold: number; readonly members: readonly Quorum[] };

/** Longer files, and files that name more, are not read. */
export const MAX_POLICY_BYTES = 256 * 1024;
const MAX_DEFINITIONS = 1_000;
/** A note has at most 64 signatures, and one of them is the log's own. */
const MAX_WITNESSES = 63;
// eslint-disable-next-line no-control-regex
const CONTROL = /[\u0000-\u0008\u000b-\u001f\u007f]/;

class LineProblem extends Error {}

/** Octets above 0x7F have no meaning in a policy: lines are taken apart as octets, and shown as the UTF-8 they may be. */
const shown = (octets: string): string => Buffer.from(octets, 'latin1').toString('utf8');

const keyOf = <K>(what: string, parse: (line: string) => K, vkey: string): K => {
  try {
    return parse(shown(vkey));
  } catch (error) {
    throw new LineProblem(`the ${what}'s verifier key: ${errorMessage(error)}`);
  }
};

const thresholdOf = (text: string, members: number): number => {
  if (text === 'any') return 1;
  if (text === 'all') return members;
  const threshold = /^[1-9]\d{0,5}$/.test(text) ? Number(text) : 0;
  if (threshold < 1 || threshold > members)
    throw new LineProblem(`"${shown(text)}" is not any, all, or a number from 1 to ${members}`);
  return threshold;
};

/** Takes the lines one after another; each throws LineProblem when it says what it may not. */
const createParser = () => {
  const logs: PolicyLog[] = [];
  const witnesses: PolicyWitness[] = [];
  const named = new Map<string, Quorum>();
  const publicKeys = { log: new Set<string>(), witness: new Set<string>() };
  const members = new Set<string>();
  let quorum: Quorum | undefined;

  const define = (name: string, meaning: Quorum): void => {
    if (name === 'none') throw new LineProblem('"none" has a meaning already');
    if (named.has(name)) throw new LineProblem(`"${shown(name)}" is defined already`);
    named.set(name, meaning);
  };
  const defined = (name: string): Quorum => {
    const meaning = named.get(name);
    if (meaning === undefined) throw new LineProblem(`"${shown(name)}" is not defined above`);
    return meaning;
  };
  const once = (what: 'log' | 'witness', { publicKey }: VerifierKey): void => {
    if (publicKeys[what].has(hex(publicKey))) throw new LineProblem(`another ${what} has the same public key`);
    publicKeys[what].add(hex(publicKey));
  };
  const memberOf = (name: string): Quorum => {
    const meaning = defined(name);
    if (members.has(name)) throw new LineProblem(`"${shown(name)}" is a member of a group already`);
    members.add(name);
    return meaning;
  };
  const url = (text: string | undefined) => (text === undefined ? {} : { url: shown(text) });

  const take = (fields: readonly string[]): void => {
    const [keyword = '', first = '', second = '', third] = fields;
    if (logs.length + named.size >= MAX_DEFINITIONS)
      throw new LineProblem(`more than ${MAX_DEFINITIONS} logs, witnesses and groups`);
    if (keyword === 'log' && (fields.length === 2 || fields.length === 3)) {
      const key = keyOf('log', parseVkey, first);
      once('log', key);
      logs.push({ key, ...url(fields[2]) });
    } else if (keyword === 'witness' && (fields.length === 3 || fields.length === 4)) {
      if (witnesses.length === MAX_WITNESSES)
        throw new LineProblem(`more than ${MAX_WITNESSES} witnesses: no note has room for them`);
      const key = keyOf('witness', parseWitnessVkey, second);
      once('witness', key);
      define(first, { kind: 'witness', name: shown(first), key });
      witnesses.push({ name: shown(first), key, ...url(third) });
    } else if (keyword === 'group' && fields.length > 3) {
      const threshold = thresholdOf(second, fields.length - 3);
      define(first, { kind: 'group', name: shown(first), threshold, members: fields.slice(3).map(memberOf) });
    } else if (keyword === 'quorum' && fields.length === 2) {
      if (quorum !== undefined) throw new LineProblem('a second quorum');
      quorum = first === 'none' ? { kind: 'none' } : defined(first);
    } else throw new LineProblem(`not a line of a policy: "${shown(fields.join(' ')).slice(0, 80)}"`);
  };
  return { take, end: (): Policy | undefined => (quorum === undefined ? undefined : { logs, witnesses, quorum }) };
};

/** The policy in a file; `problem` names the line that is not as it must be. */
export const parsePolicy = (bytes: Uint8Array): Policy | { readonly problem: string } => {
  if (bytes.length > MAX_POLICY_BYTES) return { problem: `longer than ${MAX_POLICY_BYTES} bytes` };
  const parser = createParser();
  for (const [n, line] of Buffer.from(bytes).toString('latin1').split('\n').entries()) {
    try {
      if (CONTROL.test(line)) throw new LineProblem('a control character');
      const fields = line.split(/[ \t]+/).filter((field) => field !== '');
      if (fields.length > 0 && fields[0]?.startsWith('#') !== true) parser.take(fields);
    } catch (error) {
      if (!(error instanceof LineProblem)) throw error;
      return { problem: `line ${n + 1}: ${error.message}` };
    }
  }
  return parser.end() ?? { problem: 'no line says what the quorum is' };
};

const isReached = (quorum: Quorum, cosigners: ReadonlySet<WitnessKey>): boolean => {
  switch (quorum.kind) {
    case 'none':
      return true;
    case 'witness':
      return cosigners.has(quorum.key);
    case 'group':
      return quorum.members.filter((member) => isReached(member, cosigners)).length >= quorum.threshold;
    default:
      return quorum satisfies never;
  }
};

export interface Witnessed {
  /** One of each witness of the policy that cosigned; never empty where a quorum was asked for and reached. */
  readonly cosignatures: readonly Cosignature[];
  /** Also true when the policy asks for nobody: then no witness need have seen the checkpoint. */
  readonly isQuorumReached: boolean;
}

/** Which witnesses of a policy cosigned a checkpoint; undefined as `openCosignatures` has it. The log is not looked at. */
export const witnessed = (policy: Policy, note: Uint8Array): Witnessed | undefined => {
  const cosignatures = openCosignatures(
    note,
    policy.witnesses.map(({ key }) => key),
  );
  if (cosignatures === undefined) return undefined;
  const cosigners = new Set(cosignatures.map(({ witness }) => witness));
  return { cosignatures, isQuorumReached: isReached(policy.quorum, cosigners) };
};
