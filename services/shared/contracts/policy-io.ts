import { Type, type Static } from 'typebox';

const strict = { additionalProperties: false } as const;
const Properties = Type.Record(Type.String(), Type.Unknown());

/** One party as the policy sees it. `verified` false means: its properties are a claim that nobody vouches for. */
const Party = {
  type: Type.String(),
  id: Type.String(),
  properties: Properties,
  verified: Type.Boolean(),
  claims: Type.Optional(Properties),
};

/** The document that Rego sees as `input`, version 1. */
export const PolicyInput = Type.Object(
  {
    version: Type.Literal(1),
    tenant: Type.String(),
    caller: Type.Object({ id: Type.String(), properties: Properties }, strict),
    subject: Type.Object(Party, strict),
    agent: Type.Optional(Type.Object({ ...Party, chain: Type.Array(Type.Object(Party, strict)) }, strict)),
    action: Type.Object({ name: Type.String(), properties: Properties }, strict),
    resource: Type.Object({ type: Type.String(), id: Type.String(), properties: Properties }, strict),
    context: Properties,
    session: Type.Object({ labels: Type.Array(Type.String()), step: Type.Integer() }, strict),
    time: Type.Object({ rfc3339: Type.String(), ns: Type.Number() }, strict),
  },
  strict,
);
export type PolicyInput = Static<typeof PolicyInput>;

const Text = Type.String({ maxLength: 4096 });
const Code = Type.String({ pattern: '^[a-z][a-z0-9_]{0,63}$' });

const OutputReason = Type.Object(
  {
    code: Code,
    leg: Type.Optional(Type.String({ pattern: '^(subject|agent|chain/(0|[1-9][0-9]{0,2}))$' })),
    rule: Type.Optional(Type.String({ maxLength: 128 })),
    message: Type.Optional(Text),
  },
  strict,
);

const OutputObligation = Type.Object(
  { id: Type.String({ minLength: 1, maxLength: 128 }), type: Code, properties: Type.Optional(Properties) },
  strict,
);

/** What `edict/decide` must give; anything else is a policy fault, so a deny. */
export const PolicyOutput = Type.Object(
  {
    version: Type.Literal(1),
    allow: Type.Boolean(),
    reasons: Type.Array(OutputReason, { maxItems: 256 }),
    obligations: Type.Array(OutputObligation, { maxItems: 64 }),
    advice: Type.Array(OutputObligation, { maxItems: 64 }),
    expires_in_s: Type.Optional(Type.Number({ minimum: 0, maximum: 86_400 })),
    legs: Type.Record(Type.String({ pattern: '^(subject|agent|chain/(0|[1-9][0-9]{0,2}))$' }), Type.Boolean(), strict),
    session: Type.Optional(
      Type.Object({ labels: Type.Array(Type.String({ maxLength: 256 }), { maxItems: 256 }) }, strict),
    ),
  },
  strict,
);
export type PolicyOutput = Static<typeof PolicyOutput>;
