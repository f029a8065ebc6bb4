import { Command } from 'commander';
import { isArtifactIntact } from '../../shared/bundles/artifact-digest.ts';
import { isArtifactDigest } from '../../shared/contracts/artifact.ts';
import { DATA_MEDIA_TYPE } from '../../shared/contracts/data-node.ts';
import { AppError } from '../../shared/contracts/errors.ts';
import { canonicalJson } from '../../shared/contracts/json.ts';
import { createAuditClient, type AuditConnection } from './audit-client.ts';
import { composeState } from './audit-data.ts';
import { replaceFile } from './policy-build.ts';

interface ArtifactOptions extends AuditConnection {
  readonly tenant?: string;
  readonly out: string;
  readonly json?: boolean;
}

interface Found {
  readonly mediaType: string;
  readonly bytes: Uint8Array;
  readonly isIntact: boolean;
  /** Of a state of pushed data. */
  readonly nodes?: number;
}

/** Neither the service nor the way to it is trusted: nothing counts that has not the digest. */
const fetchArtifact = async (digest: string, options: ArtifactOptions): Promise<Found> => {
  const client = createAuditClient(options);
  const download = async (wanted: string): Promise<Found> => {
    const found = await client.download(
      `/v1/artifacts/${wanted}`,
      options.tenant === undefined ? {} : { tenant: options.tenant },
    );
    const [mediaType = ''] = found.mediaType.split(';');
    const { bytes } = found;
    return { mediaType, bytes, isIntact: await isArtifactIntact({ digest: wanted, mediaType, bytes }) };
  };
  const found = await download(digest);
  if (found.mediaType !== DATA_MEDIA_TYPE || !found.isIntact) return found;
  let isIntact = true;
  const { document, nodes } = await composeState(found.bytes, async (wanted) => {
    const node = await download(wanted);
    isIntact &&= node.isIntact;
    return node.bytes;
  });
  return { mediaType: 'application/json', bytes: Buffer.from(canonicalJson(document), 'utf8'), isIntact, nodes };
};

/** Writes nothing that has not the digest. */
const writeArtifact = async (digest: string, options: ArtifactOptions): Promise<void> => {
  if (!isArtifactDigest(digest)) throw new AppError('usage', `${digest} is not sha256: and 64 hex digits`);
  const { mediaType, bytes, isIntact, nodes } = await fetchArtifact(digest, options);
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
