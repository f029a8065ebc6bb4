import type { Obligation } from '../../shared/contracts/decision.ts';
import { canonicalJson } from '../../shared/contracts/json.ts';
import type { PolicyOutput } from '../../shared/contracts/policy-io.ts';

type Duty = PolicyOutput['obligations'][number];

const NONE: readonly Obligation[] = [];
const known = new WeakMap<readonly Duty[], readonly Obligation[]>();

/**
 * Drops repetitions (same type, same properties) and makes the ids unique: the second use of an id gets `#2`.
 * Order and the first id are kept.
 */
export const mergeObligations = (duties: readonly Duty[]): readonly Obligation[] => {
  if (duties.length === 0) return NONE;
  // An output is one object as long as the policy says the same.
  const found = known.get(duties);
  if (found !== undefined) return found;
  const merged: Obligation[] = [];
  const seen = new Set<string>();
  const ids = new Set<string>();
  for (const { id, type, properties = {} } of duties) {
    if (duties.length > 1) {
      const content = `${type}\0${canonicalJson(properties)}`;
      if (seen.has(content)) continue;
      seen.add(content);
    }
    let unique = id;
    for (let n = 2; ids.has(unique); n += 1) unique = `${id}#${n}`;
    ids.add(unique);
    merged.push({ id: unique, type, properties });
  }
  known.set(duties, merged);
  return merged;
};
