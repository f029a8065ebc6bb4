import type { PolicyOutput } from '../../shared/contracts/policy-io.ts';

/** The answer of one bundle of a set. */
export interface NamedOutput {
  readonly bundle: string;
  readonly output: PolicyOutput;
}

type Duty = PolicyOutput['obligations'][number];

const onlyIf = <T>(condition: boolean, list: readonly T[]): T[] => (condition ? [...list] : []);

/** Two bundles may use the same id for different duties; the name of the bundle keeps them apart. */
const keptApart = (outputs: readonly NamedOutput[], dutiesOf: (output: PolicyOutput) => readonly Duty[]): Duty[] => {
  const counts = new Map<string, number>();
  for (const { output } of outputs) for (const { id } of dutiesOf(output)) counts.set(id, (counts.get(id) ?? 0) + 1);
  return outputs.flatMap(({ bundle, output }) =>
    dutiesOf(output).map((duty) => ((counts.get(duty.id) ?? 0) > 1 ? { ...duty, id: `${bundle}/${duty.id}` } : duty)),
  );
};

/** A leg that one bundle finds not permitted is not permitted. */
const combineLegs = (outputs: readonly NamedOutput[]): Record<string, boolean> => {
  const legs: Record<string, boolean> = {};
  for (const { output } of outputs) {
    for (const [leg, permitted] of Object.entries(output.legs)) legs[leg] = permitted && (legs[leg] ?? true);
  }
  return legs;
};

/**
 * One answer from the answers of every bundle of a set: allowed only when each allows, with the duties of all; the
 * reasons of a denial are those of the bundles that deny; reused only as long as each permits. An empty set denies.
 */
export const combineOutputs = (outputs: readonly NamedOutput[]): PolicyOutput => {
  const allow = outputs.length > 0 && outputs.every(({ output }) => output.allow);
  const spoken = outputs.filter(({ output }) => output.allow === allow);
  const expiries = spoken.map(({ output }) => output.expires_in_s);
  const finite = expiries.filter((seconds) => seconds !== undefined);
  const labels = new Set(outputs.flatMap(({ output }) => output.session?.labels ?? []));
  return {
    version: 1,
    allow,
    reasons: spoken.flatMap(({ output }) => output.reasons),
    obligations: onlyIf(
      allow,
      keptApart(spoken, (output) => output.obligations),
    ),
    advice: keptApart(spoken, (output) => output.advice),
    legs: combineLegs(outputs),
    ...(finite.length > 0 && finite.length === expiries.length ? { expires_in_s: Math.min(...finite) } : {}),
    ...(labels.size > 0 ? { session: { labels: [...labels].sort() } } : {}),
  };
};
