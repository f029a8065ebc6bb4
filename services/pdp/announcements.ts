import { isDeepStrictEqual } from 'node:util';
import { BUNDLE_MEDIA_TYPE } from '../shared/contracts/artifact.ts';
import type { PolicyUsed } from '../shared/contracts/events.ts';
import type { AuditTrail } from './audit-trail/audit-trail.ts';
import type { DecidingPolicy } from './core/decide.ts';
import type { LoadedArchive, PolicySnapshot } from './policy/policy-set.ts';
import type { PushedDataPart } from './pushed-data.ts';

export interface Announcements {
  /** What the active set of a tenant (undefined: of all others) is made of, for as long as it is active. */
  readonly hold: (set: string | undefined, archives: readonly LoadedArchive[]) => void;
  /**
   * Records what decides for a tenant from now on, once, and sends its bundles and its pushed data to the ledger. What is
   * not known to be all data decides nothing.
   */
  readonly announce: (tenant: string, snapshot: PolicySnapshot | undefined, archives: readonly LoadedArchive[]) => void;
}

const usedPolicy = ({ bundles, setDigest, data }: DecidingPolicy): PolicyUsed => ({
  bundles,
  ...(data === undefined ? {} : { data }),
  set: setDigest,
});

/** Tells the ledger what decides: activations, and the bytes that they name. */
export const createAnnouncements = (
  trail: Pick<AuditTrail, 'recordActivation' | 'sendArtifact' | 'sendState'>,
  pushed: Pick<PushedDataPart, 'isKnown' | 'dataOf' | 'artifactsOf'>,
): Announcements => {
  /** What was last recorded as active, by tenant. */
  const announced = new Map<string, PolicyUsed>();
  const held = new Map<string | undefined, readonly LoadedArchive[]>();
  const bytesAgain = (digest: string) => (): Uint8Array | undefined => {
    for (const archives of held.values())
      for (const { digest: found, whole } of archives) if (found === digest) return whole;
    return undefined;
  };
  return {
    hold: (set, archives) => void held.set(set, archives),
    announce(tenant, snapshot, archives) {
      if (snapshot === undefined || !pushed.isKnown(tenant)) return;
      const used = usedPolicy({ ...snapshot, data: pushed.dataOf(tenant).identity });
      const before = announced.get(tenant);
      if (isDeepStrictEqual(before, used)) return;
      announced.set(tenant, used);
      trail.recordActivation(tenant, used);
      // A push changes the data alone.
      for (const { digest, whole: bytes } of before?.set === used.set ? [] : archives)
        trail.sendArtifact(tenant, { digest, mediaType: BUNDLE_MEDIA_TYPE, bytes }, bytesAgain(digest));
      if (used.data !== undefined) trail.sendState(tenant, used.data.digest, pushed.artifactsOf(tenant));
    },
  };
};
