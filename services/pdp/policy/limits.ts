import type { PrepareReload } from '../../shared/runtime/reload.ts';
import type { OptionalLimits } from '../../shared/settings/policy-limits.ts';
import type { Settings } from '../../shared/settings/schema.ts';
import { sizeBytes } from '../../shared/settings/units.ts';
import type { InputLimits } from '../core/input-limits.ts';
import type { EngineLimits } from './engine/host.ts';

/** What a tenant's requests and their evaluations may take. */
export interface PolicyLimits extends EngineLimits {
  readonly input: InputLimits;
}

/** What the bundles of a set ask for, by their names. */
export type AskedLimits = Readonly<Record<string, OptionalLimits>>;

/** What is in force for a tenant and a set. */
export interface LimitsInForce {
  readonly input: InputLimits;
  /** Of one evaluation, by the name of the bundle that is evaluated. */
  readonly bundles: Readonly<Record<string, EngineLimits>>;
}

const bytesOf = (size: string | undefined): number | undefined => (size === undefined ? undefined : sizeBytes(size));
const least = (limit: number, asked: number | undefined): number =>
  asked === undefined ? limit : Math.min(limit, asked);

/** A bundle may ask for less than its tenant has, never for more. */
export const engineLimitsFor = (limits: EngineLimits, asked: OptionalLimits = {}): EngineLimits => ({
  fuel: least(limits.fuel, asked.fuel),
  memoryMaxBytes: least(limits.memoryMaxBytes, bytesOf(asked.policy_memory)),
  resultMaxBytes: least(limits.resultMaxBytes, bytesOf(asked.policy_result)),
});

/** Every bundle of a set sees each request, so the least of what they ask for counts. */
export const inputLimitsFor = (limits: InputLimits, asked: AskedLimits = {}): InputLimits =>
  Object.values(asked).reduce<InputLimits>(
    ({ maxBytes, maxDepth, maxMembers }, { input = {} }) => ({
      maxBytes: least(maxBytes, bytesOf(input.max)),
      maxDepth: least(maxDepth, input.depth),
      maxMembers: least(maxMembers, input.members),
    }),
    limits,
  );

export const limitsInForce = (limits: PolicyLimits, bundles: readonly string[], asked: AskedLimits): LimitsInForce => ({
  input: inputLimitsFor(limits.input, asked),
  bundles: Object.fromEntries(bundles.map((name) => [name, engineLimitsFor(limits, asked[name])])),
});

const limitsOf = ({ pdp }: Settings, own: OptionalLimits = {}): PolicyLimits => ({
  fuel: own.fuel ?? pdp.fuel,
  memoryMaxBytes: sizeBytes(own.policy_memory ?? pdp.policy_memory),
  resultMaxBytes: sizeBytes(own.policy_result ?? pdp.policy_result),
  input: {
    maxBytes: sizeBytes(own.input?.max ?? pdp.input.max),
    maxDepth: own.input?.depth ?? pdp.input.depth,
    maxMembers: own.input?.members ?? pdp.input.members,
  },
});

export interface TenantLimits {
  /** One object as long as the settings say the same; undefined: of those that have no limits of their own. */
  readonly of: (tenant: string | undefined) => PolicyLimits;
  readonly reload: PrepareReload;
}

const isSame = (a: PolicyLimits, b: PolicyLimits): boolean => JSON.stringify(a) === JSON.stringify(b);

/** The limits of each tenant: its own, else those of all. What stands below `tenants` is read again with the settings. */
export const createTenantLimits = (initial: Settings): TenantLimits => {
  const common = limitsOf(initial);
  const ownOf = ({ tenants }: Settings, known: ReadonlyMap<string, PolicyLimits>): ReadonlyMap<string, PolicyLimits> =>
    new Map(
      Object.entries(tenants).map(([tenant, own]) => {
        const limits = limitsOf(initial, own);
        const before = known.get(tenant) ?? common;
        return [tenant, isSame(limits, before) ? before : limits];
      }),
    );
  let own = ownOf(initial, new Map());
  return {
    of: (tenant) => (tenant === undefined ? common : (own.get(tenant) ?? common)),
    reload: (settings) => () => {
      own = ownOf(settings, own);
    },
  };
};
