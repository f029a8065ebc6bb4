import { AppError } from '../../shared/contracts/errors.ts';
import type { Pushed, PushData } from './data-stream.ts';
import type { DataPath } from './json-pointer.ts';
import { dataInsideRoots, ownershipProblem, type DataChange, type PushedData } from './pushed-data.ts';

/** A bundle has its own there: nothing was put into the stream. */
export interface Owned {
  readonly kind: 'owned';
  readonly message: string;
}

/**
 * Keeps pushes and sets of bundles out of each other's way, also while a push is on its way and a set is about to
 * decide: whoever comes first has it. Other decision points are not asked; where one of them lets in what a set here
 * owns, the tenant is denied here.
 */
export interface DataOwners {
  /** `roots`: those of the set that decides for the tenant now. Rejects as `PushData` does. */
  readonly push: (
    tenant: string,
    change: DataChange,
    roots: readonly DataPath[] | undefined,
  ) => Promise<Pushed | Owned>;
  /**
   * Nothing new is pushed inside `roots` until the function that this resolves to is called, when the set decides or
   * was refused. Waits for the pushes there that are under way. Rejects with `bundle_invalid` when one of the tenants
   * has pushed data there.
   */
  readonly claim: (tenants: readonly string[], roots: readonly DataPath[]) => Promise<() => void>;
  /** Once true after the last of the pushed data that a claim was refused for is gone: it may be made again. */
  readonly isCleared: (tenant: string) => boolean;
}

interface Claim {
  readonly tenants: readonly string[];
  readonly roots: readonly DataPath[];
}

interface UnderWay {
  readonly tenant: string;
  readonly change: DataChange;
  readonly done: Promise<unknown>;
}

export const createDataOwners = (options: {
  readonly push: PushData;
  readonly dataOf: (tenant: string) => PushedData;
}): DataOwners => {
  const claims = new Set<Claim>();
  const pushes = new Set<UnderWay>();
  /** The last of each set, by the tenants that it decides for. */
  const refused = new Map<string, Claim>();

  const inTheWay = ({ tenants, roots }: Claim): { readonly tenant: string; readonly inside: string } | undefined => {
    for (const tenant of tenants) {
      const inside = dataInsideRoots(options.dataOf(tenant), roots);
      if (inside !== undefined) return { tenant, inside };
    }
    return undefined;
  };

  const refuseRoots = (claim: Claim): void => {
    const found = inTheWay(claim);
    const name = claim.tenants.join();
    if (found === undefined) {
      refused.delete(name);
      return;
    }
    refused.set(name, claim);
    const owned = found.inside === '' ? 'all data' : found.inside;
    throw new AppError(
      'bundle_invalid',
      `the roots of the set have ${owned}, where data of tenant ${found.tenant} was pushed; DELETE that first`,
    );
  };

  const claimedProblem = (tenant: string, change: DataChange) =>
    [...claims]
      .filter(({ tenants }) => tenants.includes(tenant))
      .map(({ roots }) => ownershipProblem(change, roots))
      .find((problem) => problem !== undefined);

  return {
    async push(tenant, change, roots) {
      const problem = ownershipProblem(change, roots) ?? claimedProblem(tenant, change);
      if (problem !== undefined) return { kind: 'owned', message: problem.message };
      const done = options.push(tenant, change);
      const underWay = { tenant, change, done };
      pushes.add(underWay);
      try {
        return await done;
      } finally {
        pushes.delete(underWay);
      }
    },
    async claim(tenants, roots) {
      const claim = { tenants, roots };
      claims.add(claim);
      const before = [...pushes].filter(
        ({ tenant, change }) => tenants.includes(tenant) && ownershipProblem(change, roots) !== undefined,
      );
      try {
        await Promise.allSettled(before.map(({ done }) => done));
        refuseRoots(claim);
      } catch (cause) {
        claims.delete(claim);
        throw cause;
      }
      return () => {
        claims.delete(claim);
      };
    },
    isCleared(tenant) {
      let isCleared = false;
      for (const [name, claim] of refused) {
        if (!claim.tenants.includes(tenant) || inTheWay(claim) !== undefined) continue;
        refused.delete(name);
        isCleared = true;
      }
      return isCleared;
    },
  };
};
