import { Type, type Static } from 'typebox';
import { LIMITS } from '../contracts/decision.ts';
import { SIZE_PATTERN, sizeBytes } from './units.ts';

const strict = { additionalProperties: false } as const;
const Size = (description: string) => Type.Optional(Type.String({ pattern: SIZE_PATTERN, description }));

/** Members of all objects of one request. */
const MAX_MEMBERS = 10_000;

export const fuelRange = { minimum: 1_000, maximum: 2_000_000_000 } as const;
export const inputRanges = {
  /** A request has two levels at least, and eight members. */
  depth: { minimum: 2, maximum: LIMITS.requestDepth },
  members: { minimum: 8, maximum: MAX_MEMBERS },
} as const;

/** What a tenant may have of its own, and a bundle may ask for. */
export const OptionalLimits = {
  fuel: Type.Optional(Type.Integer({ ...fuelRange, description: 'Default: pdp.fuel.' })),
  policy_memory: Size('Default: pdp.policy_memory.'),
  policy_result: Size('Default: pdp.policy_result.'),
  input: Type.Optional(
    Type.Object(
      {
        max: Size('Default: pdp.input.max.'),
        depth: Type.Optional(Type.Integer({ ...inputRanges.depth, description: 'Default: pdp.input.depth.' })),
        members: Type.Optional(Type.Integer({ ...inputRanges.members, description: 'Default: pdp.input.members.' })),
      },
      { ...strict, description: 'What one request may be.' },
    ),
  ),
};
const Limits = Type.Object(OptionalLimits, strict);
export type OptionalLimits = Static<typeof Limits>;

/** The largest that `input.max` may be: what a request may have by contract. */
export const isInputTooLarge = ({ max }: { readonly max?: string | undefined }): boolean =>
  max !== undefined && sizeBytes(max) > LIMITS.requestBytes;
