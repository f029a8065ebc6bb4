import { isObject } from './json.ts';

/**
 * What events name by digest, and what a later reader needs to evaluate a decision again: a bundle, or a node of a state
 * of pushed data (`data-node.ts`).
 */
export interface Artifact {
  /** `sha256:` and 64 hex digits: for a bundle its digest as in `bundle-digest.ts`, else that of the bytes. */
  readonly digest: string;
  readonly mediaType: string;
  readonly bytes: Uint8Array;
}

/** An archive as a server of OPA's bundle API sends it: a gzipped tar, signatures included. */
export const BUNDLE_MEDIA_TYPE = 'application/vnd.openpolicyagent.bundles';

/** What one event carries: less than the event's limit by far, so that sending it stops the event loop shortly. */
export const ARTIFACT_PART_BYTES = 256 * 1024;
/** Larger ones are not archived; a bundle is never so large. */
export const ARTIFACT_MAX_BYTES = 64 * 1024 * 1024;
const MAX_PARTS = 4096;

/** Which part of what an artifact event carries; its bytes stand in `content`, base64. */
export interface ArtifactPart {
  readonly digest: string;
  readonly media_type: string;
  /** Of the whole. */
  readonly bytes: number;
  /** From 1 to `parts`. */
  readonly part: number;
  readonly parts: number;
}

export const partsOf = (bytes: number): number => Math.max(1, Math.ceil(bytes / ARTIFACT_PART_BYTES));

const DIGEST = /^sha256:[0-9a-f]{64}$/;
export const isArtifactDigest = (value: unknown): value is string => typeof value === 'string' && DIGEST.test(value);
const MEDIA_TYPE = /^[a-z0-9!#$&^_.+-]{1,64}\/[a-z0-9!#$&^_.+-]{1,64}$/;
const BASE64 = /^[A-Za-z0-9+/]*={0,2}$/;

const isCount = (value: unknown, least: number, most: number): value is number =>
  typeof value === 'number' && Number.isSafeInteger(value) && value >= least && value <= most;

/** The part that an event's data carry, or undefined when they are not those of an artifact event. */
export const artifactPartOf = (
  data: Readonly<Record<string, unknown>>,
): { readonly part: ArtifactPart; readonly content: Buffer } | undefined => {
  const { artifact, content } = data;
  if (!isObject(artifact) || typeof content !== 'string' || content.length % 4 !== 0 || !BASE64.test(content))
    return undefined;
  const { digest, media_type: mediaType, bytes, part, parts } = artifact;
  if (!isArtifactDigest(digest) || typeof mediaType !== 'string' || !MEDIA_TYPE.test(mediaType)) return undefined;
  if (!isCount(bytes, 1, ARTIFACT_MAX_BYTES) || !isCount(parts, 1, MAX_PARTS) || !isCount(part, 1, parts))
    return undefined;
  return { part: { digest, media_type: mediaType, bytes, part, parts }, content: Buffer.from(content, 'base64') };
};
