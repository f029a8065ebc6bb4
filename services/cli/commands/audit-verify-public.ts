import { AppError } from '../../shared/contracts/errors.ts';
import { formatVkey } from '../../shared/contracts/signatures.ts';
import { openPublicLog } from '../../audit/core/verify-public.ts';
import type { VerificationReport } from '../../audit/core/verify-report.ts';
import { verifyLog } from '../../audit/core/verify.ts';
import { createAuditClient, type AuditConnection } from './audit-client.ts';
import { readVkeys } from './audit-keys.ts';
import type { Remembered } from './audit-verify-memory.ts';
import { progressOn, type Between } from './audit-verify-service.ts';

/** As `audit.gap_grace` is by default; how long numbers may be missing without a gap entry. */
const GRACE_MS = 60_000;

/**
 * Verifies a log of which there is nothing but its tiles, in this process. Undefined when its checkpoint is not of the
 * auditor's key. Rejects with `usage`, and `upstream_unavailable` when a resource cannot be had.
 */
export const verifyPublicLog = async (
  connection: AuditConnection & { readonly vkey?: readonly string[] },
  logUrl: string,
  asked: { readonly known: readonly Remembered[]; readonly between?: Between },
): Promise<VerificationReport | undefined> => {
  const [key, ...more] = readVkeys(connection.vkey ?? []).values();
  if (key === undefined || more.length > 0) throw new AppError('usage', '--log-url: --vkey must name one key');
  if (!URL.canParse(logUrl)) throw new AppError('usage', `--log-url: ${logUrl} is no http(s) address`);
  const client = createAuditClient({ ...connection, url: logUrl });
  const base = new URL(logUrl).pathname.replace(/\/+$/, '');
  const get = async (resource: string): Promise<Uint8Array> => (await client.download(`${base}/${resource}`, {})).bytes;
  const opened = await openPublicLog(get, key, formatVkey(key.name, key.publicKey));
  if (opened === undefined) return undefined;
  const { contents } = opened;
  const { between, known } = asked;
  const progress = progressOn(process.stderr, contents.log.tenant);
  try {
    return await verifyLog({
      ...contents,
      known: known
        // A longer log than any checkpoint covers may have been seen in the database, and be no contradiction.
        .filter(({ origin, isSigned }) => origin === key.name && isSigned === true)
        .map(({ size, leaf }) => ({
          source: 'the auditor',
          size: BigInt(size),
          leaf: Buffer.from(leaf, 'hex'),
          isOutside: true,
        })),
      now: Date.now,
      graceMs: GRACE_MS,
      ...(between === undefined ? {} : { window: { fromMs: Date.parse(between.from), toMs: Date.parse(between.to) } }),
      onProgress: (done, total) => progress.show(Number(done), Number(total)),
    });
  } finally {
    progress.stop();
  }
};
