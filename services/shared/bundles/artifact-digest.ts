import { bundleDigest, digestText } from '../contracts/bundle-digest.ts';
import { sha256Hex } from '../contracts/bytes.ts';
import { BUNDLE_MEDIA_TYPE, type Artifact } from '../contracts/artifact.ts';
import { isAppError } from '../contracts/errors.ts';
import { unpackArchive } from './bundle-archive.ts';

/** True when the bytes are what the digest names. A bundle is unpacked for it, within the limits of bundles. */
export const isArtifactIntact = async ({ digest, mediaType, bytes }: Artifact): Promise<boolean> => {
  if (mediaType !== BUNDLE_MEDIA_TYPE) return `sha256:${sha256Hex(bytes)}` === digest;
  try {
    return digestText(bundleDigest(await unpackArchive(bytes))) === digest;
  } catch (cause) {
    if (isAppError(cause) && cause.code === 'bundle_invalid') return false;
    throw cause;
  }
};
