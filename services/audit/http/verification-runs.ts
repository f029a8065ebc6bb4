import { AppError, errorMessage, isAppError } from '../../shared/contracts/errors.ts';
import type { VerificationReport } from '../core/verify-report.ts';
import type { SealedPlace } from '../core/verify-place.ts';
import type { VerifyTenant } from '../core/verify-tenant.ts';

export interface RunState {
  readonly id: string;
  readonly state: 'running' | 'done' | 'failed';
  readonly started_at: string;
  readonly progress: { readonly done: string; readonly total: string };
  /** When failed: why the run could not be finished. Says nothing about the ledger. */
  readonly error?: { readonly code: string; readonly message: string };
  readonly reports?: readonly VerificationReport[];
}

export interface VerificationRuns {
  /** Starts a run, or answers the one that is running; throws `upstream_unavailable` when too many tenants' are. */
  start(tenant: string, options: Omit<Parameters<VerifyTenant>[1], 'onProgress' | 'onPlace'>): RunState;
  /** The tenant's last run of this process, running or not. */
  last(tenant: string): RunState | undefined;
  /** The newest places of the tenant's logs, of runs of this process: an auditor goes on from them. */
  places(tenant: string): readonly SealedPlace[];
  /** Waits until no run is left. */
  close(): Promise<void>;
}

/** Runs at the same time, of different tenants: each reads and decrypts a whole ledger. */
const MAX_RUNS = 2;
/** Tenants whose last run is kept; the reports themselves are in the database. */
const MAX_KEPT = 1_000;

export const createVerificationRuns = (options: {
  readonly verify: VerifyTenant;
  readonly newId: () => string;
  readonly now: () => number;
  readonly onFailure: (error: unknown) => void;
}): VerificationRuns => {
  const runs = new Map<string, RunState>();
  const places = new Map<string, Map<string, SealedPlace>>();
  const active = new Map<string, Promise<void>>();

  const keep = (tenant: string, state: RunState): void => {
    runs.delete(tenant);
    runs.set(tenant, state);
    for (const name of runs.keys()) {
      if (runs.size <= MAX_KEPT) break;
      if (active.has(name)) continue;
      runs.delete(name);
      places.delete(name);
    }
  };

  return {
    start(tenant, asked) {
      const known = runs.get(tenant);
      if (known?.state === 'running') return known;
      if (active.size >= MAX_RUNS)
        throw new AppError('upstream_unavailable', `${MAX_RUNS} verifications are running; try again later`);
      const started: RunState = {
        id: options.newId(),
        state: 'running',
        started_at: new Date(options.now()).toISOString(),
        progress: { done: '0', total: '0' },
      };
      const made = new Map<string, SealedPlace>();
      places.set(tenant, made);
      let current = started;
      const update = (change: Partial<RunState>): void => {
        current = { ...current, ...change };
        keep(tenant, current);
      };
      const run = async (): Promise<void> => {
        try {
          const reports = await options.verify(tenant, {
            ...asked,
            onPlace: (place) => void made.set(place.origin, place),
            onProgress: (done, total) => update({ progress: { done: String(done), total: String(total) } }),
          });
          update({ state: 'done', reports });
        } catch (error) {
          options.onFailure(error);
          update({
            state: 'failed',
            error: {
              code: isAppError(error) ? error.code : 'internal',
              message: isAppError(error) ? errorMessage(error) : 'the verification ended early',
            },
          });
        } finally {
          active.delete(tenant);
        }
      };
      keep(tenant, current);
      active.set(tenant, run());
      return started;
    },
    last: (tenant) => runs.get(tenant),
    places: (tenant) => [...(places.get(tenant)?.values() ?? [])],
    close: async () => {
      await Promise.all(active.values());
    },
  };
};
