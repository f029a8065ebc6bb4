import { setTimeout as sleep } from 'node:timers/promises';
import { AppError } from '../../shared/contracts/errors.ts';
import { readPolicyFile } from '../../shared/settings/policy-file.ts';
import { DURATION_PATTERN, durationMs } from '../../shared/settings/units.ts';
import type { VerifierKey } from '../../shared/contracts/signatures.ts';
import type { Checkpoint } from '../../shared/tlog/checkpoint.ts';
import type { Policy } from '../../shared/tlog/policy.ts';
import { consistencyProof, isConsistent, type ReadHashes } from '../../shared/tlog/proofs.ts';
import { formatTilePath, TILE_WIDTH } from '../../shared/tlog/tiles.ts';
import { judgeWitnessed, NOT_ASKED, type WitnessedVerdict } from '../../audit/core/verify-witnessed.ts';
import type { AuditClient, Parameters } from './audit-client.ts';

/** A checkpoint that was signed just now is cosigned a moment later. */
const WAIT_MS = 10_000;
const POLL_MS = 250;
/** One for each count of witnesses. */
const MAX_OTHERS = 64;
export const DEFAULT_MAX_AGE = '15m';

/** The policy in a file, which names the meta log. Throws `usage`. */
export const readMetaPolicy = (file: string): Policy => {
  const invalid = (what: string, cause?: unknown): AppError => new AppError('usage', `--policy: ${what}`, { cause });
  const policy = readPolicyFile(file, invalid);
  if (policy.logs.length === 0) throw invalid(`${file}: names no log; \`log <verifier key of the meta log>\` does`);
  return policy;
};

/** Seconds of `--max-age`, which goes with `--policy`. Throws `usage`. */
export const maxAgeOf = (options: { readonly policy?: string; readonly maxAge?: string }): number => {
  if (options.maxAge !== undefined && options.policy === undefined)
    throw new AppError('usage', '--max-age: goes with --policy only');
  const text = options.maxAge ?? DEFAULT_MAX_AGE;
  if (!new RegExp(DURATION_PATTERN).test(text))
    throw new AppError('usage', `--max-age: ${JSON.stringify(text)} is no duration, such as 15m`);
  return durationMs(text) / 1_000;
};

/** Where the log of an origin `<authority>/<tenant>/<shard>/<incarnation>` is served. */
export const logPath = (origin: string, named: string | undefined): string => {
  const [shownTenant, shard, incarnation] = origin.split('/').slice(-3);
  const tenant = named ?? shownTenant;
  return `/log/${[tenant, shard, incarnation].map((part = '') => encodeURIComponent(part)).join('/')}`;
};

/** Hashes out of the tiles that are served under `path`. */
export const hashesOver =
  (client: AuditClient, path: string): ReadHashes =>
  async (level, from, count) => {
    const tile = formatTilePath({ content: 'hashes', level, index: from / BigInt(TILE_WIDTH), width: count });
    const { bytes } = await client.download(`${path}/tile/${tile}`, {});
    if (bytes.length !== count * 32)
      throw new AppError('upstream_unavailable', `tile ${tile} has ${bytes.length} bytes`);
    return Array.from({ length: count }, (_, n) => bytes.subarray(n * 32, (n + 1) * 32));
  };

/** The log that is asked about, as the auditor sees it. */
export interface SeenLog {
  readonly origin: string;
  readonly tenant: string | undefined;
  /** The newest checkpoint, opened. */
  readonly newest: Checkpoint;
  /** The log’s own; without it the policy’s of that origin. */
  readonly key?: VerifierKey;
}

/**
 * Whether a quorum of the policy’s witnesses has seen the log’s newest checkpoint, or a later one that continues it. Waits
 * a little for a checkpoint that was signed just now. Without a policy: `not_checked`.
 */
export const askWitnessed = async (
  client: AuditClient,
  { origin, tenant, newest, key }: SeenLog,
  policy: Policy | undefined,
  maxAgeS: number,
): Promise<WitnessedVerdict> => {
  if (policy === undefined) return NOT_ASKED;
  if (newest.size === 0n) return { status: 'failed', note: 'not witnessed: the newest checkpoint is of an empty log' };
  const parameters: Parameters = { log: origin, ...(tenant === undefined ? {} : { tenant }) };
  for (const deadline = Date.now() + WAIT_MS; ; await sleep(POLL_MS)) {
    const { witnessed, others } = await client.get('/v1/witnessed', parameters);
    const nowS = Math.floor(Date.now() / 1_000);
    const judge = (shown: unknown) =>
      judgeWitnessed(policy, shown, { origin, nowS, maxAgeS, ...(key === undefined ? {} : { key }) });
    // The newest first; what most witnesses cosigned says best why there is no quorum.
    const fresher = Array.isArray(others) ? (others as readonly unknown[]).slice(0, MAX_OTHERS).map(judge) : [];
    const { verdict, checkpoint, mayHeal } =
      fresher.find((judged) => judged.checkpoint !== undefined) ?? judge(witnessed);
    const isCovered = checkpoint !== undefined && checkpoint.size >= newest.size;
    const isEarly = checkpoint === undefined ? mayHeal === true : !isCovered;
    if (isEarly && Date.now() < deadline && policy.quorum.kind !== 'none') continue;
    if (checkpoint === undefined) return verdict;
    const [smaller, larger] = checkpoint.size < newest.size ? [checkpoint, newest] : [newest, checkpoint];
    const proof = await consistencyProof(smaller.size, larger.size, hashesOver(client, logPath(origin, tenant)));
    const facts = { ...verdict, status: 'failed' } as const;
    if (!isConsistent(smaller, larger, proof))
      return {
        ...facts,
        note: `not witnessed: witnesses have seen another log: size ${checkpoint.size} does not fit the one shown, ${newest.size}`,
      };
    return isCovered
      ? verdict
      : {
          ...facts,
          note: `not witnessed: the newest checkpoint, of size ${newest.size}; only up to ${checkpoint.size}`,
        };
  }
};
