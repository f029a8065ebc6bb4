import { isArtifactDigest } from './artifact.ts';
import { sha256Hex } from './bytes.ts';
import { canonicalJson, isObject } from './json.ts';

/*
 * The form in which states of pushed data are named and archived: a tree of nodes, each an artifact of its own, so that a
 * change archives the nodes that it changed and no others. A node is the RFC 8785 text of one of
 *
 *   {"edict_data": 1, "members": {…}, "nodes": {…}}    an object: members in full, and the digests of large ones
 *   {"edict_data": 1, "parts": [D, …]}                 an object: the members of all nodes that are named
 *
 * and its digest is `sha256:` and the SHA-256 of that text. The digest of a state is that of its root.
 */

export const DATA_MEDIA_TYPE = 'application/vnd.edict.data+json';

export type DataNode =
  | { readonly members: Readonly<Record<string, unknown>>; readonly nodes: Readonly<Record<string, string>> }
  | { readonly parts: readonly string[] };

export interface DataNodeText {
  readonly text: string;
  /** `sha256:` and 64 hex digits. */
  readonly digest: string;
}

/** Throws for what has no RFC 8785 text. */
export const encodeDataNode = (node: DataNode): DataNodeText => {
  const text = canonicalJson({ edict_data: 1, ...node });
  return { text, digest: `sha256:${sha256Hex(text)}` };
};

/** Undefined for anything else than a node. */
export const parseDataNode = (bytes: Uint8Array): DataNode | undefined => {
  let node: unknown;
  try {
    node = JSON.parse(Buffer.from(bytes).toString('utf8'));
  } catch {
    return undefined;
  }
  if (!isObject(node) || node['edict_data'] !== 1) return undefined;
  const { members, nodes, parts } = node;
  if (Array.isArray(parts)) return parts.every(isArtifactDigest) ? { parts } : undefined;
  if (!isObject(members) || !isObject(nodes)) return undefined;
  const digests = Object.entries(nodes).flatMap(([name, digest]) =>
    isArtifactDigest(digest) && !Object.hasOwn(members, name) ? [[name, digest] as const] : [],
  );
  return digests.length === Object.keys(nodes).length ? { members, nodes: Object.fromEntries(digests) } : undefined;
};
