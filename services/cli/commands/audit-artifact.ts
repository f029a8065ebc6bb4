import { Command } from 'commander';
import { isArtifactIntact } from '../../shared/bundles/artifact-digest.ts';
import { isArtifactDigest } from '../../shared/contracts/artifact.ts';
import { AppError } from '../../shared/contracts/errors.ts';
import { createAuditClient, type AuditConnection } from './audit-client.ts';
import { replaceFile } from './policy-build.ts';

interface ArtifactOptions extends AuditConnection {
  readonly tenant?: string;
  readonly out: string;
  readonly json?: boolean;
}

/** Writes nothing that has not the digest: neither the service nor the way to it is trusted. */
const fetchArtifact = async (digest: string, options: ArtifactOptions): Promise<void> => {
  if (!isArtifactDigest(digest)) throw new AppError('usage', `${digest} is not sha256: and 64 hex digits`);
  const client = createAuditClient(options);
  const found = await client.download(
    `/v1/artifacts/${digest}`,
    options.tenant === undefined ? {} : { tenant: options.tenant },
  );
  const [mediaType = ''] = found.mediaType.split(';');
  const { bytes } = found;
  const isIntact = await isArtifactIntact({ digest, mediaType, bytes });
  if (isIntact) await replaceFile(options.out, bytes);
  else process.exitCode = 1;
  const { out } = options;
  const document = { digest, media_type: mediaType, bytes: bytes.length, intact: isIntact, out: isIntact ? out : null };
  const text = isIntact
    ? `${out}: ${bytes.length} bytes, ${mediaType}, ${digest} as asked for\n`
    : `what came has not the digest ${digest}: nothing was written\n`;
  if (options.json === true) process.stdout.write(`${JSON.stringify(document)}\n`);
  else (isIntact ? process.stdout : process.stderr).write(text);
};

/** `common`: the options that all commands of the group have. */
export const auditArtifactCommand = (common: (command: Command) => Command): Command =>
  common(new Command('artifact'))
    .description('fetch the bundle that decisions name by its digest, and check it')
    .argument('<digest>', 'sha256:…, as in policy.bundles of a decision')
    .requiredOption('--out <file>', 'where to write it')
    .action(fetchArtifact);
