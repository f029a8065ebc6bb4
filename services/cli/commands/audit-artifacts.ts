import { isArtifactIntact } from '../../shared/bundles/artifact-digest.ts';
import { BUNDLE_MEDIA_TYPE } from '../../shared/contracts/artifact.ts';
import { parseDataNode } from '../../shared/contracts/data-node.ts';
import { AppError } from '../../shared/contracts/errors.ts';
import { canonicalJson } from '../../shared/contracts/json.ts';
import type { AuditClient } from './audit-client.ts';

/** What stands under a digest. */
export interface FoundArtifact {
  readonly mediaType: string;
  /** Of pushed data: the document as RFC 8785 JSON. */
  readonly bytes: Uint8Array;
  /** False: what came has another digest. */
  readonly isIntact: boolean;
  /** Of a state of pushed data. */
  readonly nodes?: number;
}

/** Of one state: far above what `pdp.data_max` lets be. */
const MAX_NODES = 65_536;
const MAX_BYTES = 64 * 1024 * 1024;
const MAX_DEPTH = 512;

/**
 * The document of a state, put together of its nodes. `fetchNode` gives bytes that have the digest, or throws. Throws
 * `upstream_unavailable` for nodes that are none, or too many.
 */
export const composeState = async (
  root: Uint8Array,
  fetchNode: (digest: string) => Promise<Uint8Array>,
): Promise<{ readonly document: Readonly<Record<string, unknown>>; readonly nodes: number }> => {
  let [nodes, bytes] = [0, 0];
  const compose = async (text: Uint8Array, depth: number): Promise<Record<string, unknown>> => {
    nodes += 1;
    bytes += text.length;
    const node = parseDataNode(text);
    if (node === undefined || nodes > MAX_NODES || bytes > MAX_BYTES || depth > MAX_DEPTH)
      throw new AppError('upstream_unavailable', 'what came is no state of pushed data');
    const below = async (digest: string): Promise<Record<string, unknown>> =>
      compose(await fetchNode(digest), depth + 1);
    const members = new Map<string, unknown>();
    const take = (more: Readonly<Record<string, unknown>>): void => {
      for (const [name, value] of Object.entries(more)) members.set(name, value);
    };
    if ('parts' in node) for (const part of node.parts) take(await below(part));
    else {
      take(node.members);
      for (const [name, digest] of Object.entries(node.nodes)) members.set(name, await below(digest));
    }
    return Object.fromEntries(members);
  };
  return { document: await compose(root, 0), nodes };
};

/** Neither the service nor the way to it is trusted: nothing counts that has not the digest. */
export const fetchArtifact = async (
  client: AuditClient,
  tenant: string | undefined,
  digest: string,
): Promise<FoundArtifact> => {
  const download = async (wanted: string): Promise<FoundArtifact> => {
    const found = await client.download(`/v1/artifacts/${wanted}`, tenant === undefined ? {} : { tenant });
    const [mediaType = ''] = found.mediaType.split(';');
    const { bytes } = found;
    return { mediaType, bytes, isIntact: await isArtifactIntact({ digest: wanted, mediaType, bytes }) };
  };
  const found = await download(digest);
  // By what it is, which its digest covers, and not by what it is said to be.
  const isNode = found.mediaType !== BUNDLE_MEDIA_TYPE && parseDataNode(found.bytes) !== undefined;
  if (!isNode || !found.isIntact) return found;
  let isIntact = true;
  const { document, nodes } = await composeState(found.bytes, async (wanted) => {
    const node = await download(wanted);
    isIntact &&= node.isIntact;
    return node.bytes;
  });
  return { mediaType: 'application/json', bytes: Buffer.from(canonicalJson(document), 'utf8'), isIntact, nodes };
};
