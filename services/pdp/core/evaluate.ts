import type { PolicyOutput } from '../../shared/contracts/policy-io.ts';

/** Why a policy gave no answer. Every one of them is a deny. */
export type PolicyFaultCode =
  /** `edict/decide` has no value for this input, or more than one. */
  | 'policy_undefined'
  /** The value is not the published output document, or too large. */
  | 'policy_output_invalid'
  /** The evaluation was aborted: a conflict, a broken built-in, a trap. */
  | 'policy_error'
  /** The evaluation needed more memory than it may have. */
  | 'policy_memory'
  /** The evaluation took more steps than it may. */
  | 'policy_fuel';

/** What built-ins drew in an evaluation, by name and then arguments: texts of Rego values. */
export type Drawn = Readonly<Record<string, Readonly<Record<string, string>>>>;

export type EvaluationResult =
  | {
      readonly outcome: 'answer';
      readonly value: PolicyOutput;
      /** What it cost, in the engine's units: the same for the same input, policy and data, wherever it runs. */
      readonly fuelUsed: number;
      /** What it might have cost: the configured budget, and what reading the input took. */
      readonly fuelLimit: number;
      /** What built-ins drew, by name and arguments; undefined when nothing. */
      readonly drawn: Drawn | undefined;
    }
  | {
      readonly outcome: 'fault';
      readonly code: PolicyFaultCode;
      /** For logs and events; holds no input. */
      readonly message: string;
      readonly fuelUsed: number;
      readonly fuelLimit: number;
    };

/**
 * Evaluates `edict/decide` on one policy input. Never throws, never waits.
 *
 * `inputJson` is the JSON text of the input (UTF-8 when bytes). **The caller guarantees strict JSON**, which its own
 * serialiser gives: the parser inside a policy module is lenient and takes text that is no JSON for no input.
 * `nowMs` is the evaluation's clock, whole milliseconds since 1970. `given`: what was drawn in the evaluation that this
 * one repeats, and is not drawn again.
 */
export type Evaluate = (inputJson: Uint8Array | string, nowMs: number, given?: Drawn) => EvaluationResult;

/** Told of each evaluation for a tenant, also of those whose decision could not be recorded. Never throws. */
export type ChargeFuel = (tenant: string, result: EvaluationResult) => void;
