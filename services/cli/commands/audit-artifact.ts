import { Command } from 'commander';
import { isArtifactDigest } from '../../shared/contracts/artifact.ts';
import { AppError } from '../../shared/contracts/errors.ts';
import { createAuditClient, type AuditConnection } from './audit-client.ts';
import { fetchArtifact } from './audit-artifacts.ts';
import { replaceFile } from '../replace-file.ts';

interface ArtifactOptions extends AuditConnection {
  readonly tenant?: string;
  readonly out: string;
  readonly json?: boolean;
}

/** Writes nothing that has not the digest. */
const writeArtifact = async (digest: string, options: ArtifactOptions): Promise<void> => {
  if (!isArtifactDigest(digest)) throw new AppError('usage', `${digest} is not sha256: and 64 hex digits`);
  const { mediaType, bytes, isIntact, nodes } = await fetchArtifact(createAuditClient(options), options.tenant, digest);
  if (isIntact) await replaceFile(options.out, bytes);
  else process.exitCode = 1;
  const { out } = options;
  const described = { media_type: mediaType, bytes: bytes.length, intact: isIntact, out: isIntact ? out : null };
  const document = { digest, ...described, ...(nodes === undefined ? {} : { nodes }) };
  const what = nodes === undefined ? mediaType : `pushed data of ${nodes} nodes`;
  const text = isIntact
    ? `${out}: ${bytes.length} bytes, ${what}, ${digest} as asked for\n`
    : `what came has not the digest ${digest}: nothing was written\n`;
  if (options.json === true) process.stdout.write(`${JSON.stringify(document)}\n`);
  else (isIntact ? process.stdout : process.stderr).write(text);
};

/** `common`: the options that all commands of the group have. */
export const auditArtifactCommand = (common: (command: Command) => Command): Command =>
  common(new Command('artifact'))
    .description('fetch the bundle or the pushed data that decisions name by digest, and check it')
    .argument('<digest>', 'sha256:…, as in policy.bundles or policy.data of a decision')
    .requiredOption('--out <file>', 'where to write it')
    .action(writeArtifact);
