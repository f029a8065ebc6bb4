import type { VerificationReport } from './verify-report.ts';
import type { SealedPlace } from './verify-place.ts';
import type { Window } from './verify-window.ts';

/** What an auditor wrote down at an earlier time. */
export interface RememberedLeaf {
  readonly origin: string;
  readonly size: bigint;
  readonly leaf: Uint8Array;
}

/** Verifies every log of a tenant, newest incarnation first. */
export type VerifyTenant = (
  tenant: string,
  options: {
    readonly remembered?: readonly RememberedLeaf[];
    readonly window?: Window;
    /** Where earlier verifications stood; what is not of this service, or not of this log, is passed over. */
    readonly places?: readonly SealedPlace[];
    readonly onPlace?: (place: SealedPlace) => void;
    readonly onProgress?: (done: bigint, total: bigint) => void;
  },
) => Promise<readonly VerificationReport[]>;
