import { Type, type Static } from 'typebox';

/** Size limits of `POST /decide` and `POST /decide/batch`. */
export const LIMITS = {
  requestBytes: 256 * 1024,
  requestDepth: 64,
  batchBodyBytes: 1024 * 1024,
  batchItems: 1_000,
  batchMergedBytes: 16 * 1024 * 1024,
  /** An event larger than this is replaced by a deny that names its size. */
  eventBytes: 900_000,
} as const;

const strict = { additionalProperties: false } as const;
const Name = Type.String({ minLength: 1, maxLength: 1024 });
/** Free members: the policy author's, checked by policy. */
export const Properties = Type.Record(Type.String(), Type.Unknown());

const entity = { type: Name, id: Name, properties: Type.Optional(Properties) };

export const ChainHop = Type.Object(entity, strict);
export const Subject = Type.Object(entity, strict);
export const Agent = Type.Object({ ...entity, chain: Type.Optional(Type.Array(ChainHop, { maxItems: 32 })) }, strict);
export const Action = Type.Object({ name: Name, properties: Type.Optional(Properties) }, strict);
export const Resource = Type.Object(entity, strict);

export const Tokens = Type.Object(
  {
    subject_token: Type.Optional(Type.String()),
    actor_token: Type.Optional(Type.String()),
    dpop: Type.Optional(Type.Object({ proof: Type.String(), method: Type.String(), url: Type.String() }, strict)),
  },
  strict,
);

/** `context` is open; the members that the PDP itself reads have types. */
export const Context = Type.Object({
  purpose: Type.Optional(Type.String({ maxLength: 1024 })),
  session: Type.Optional(Type.String({ maxLength: 1024 })),
  session_tokens: Type.Optional(Type.Array(Type.String())),
  supported_obligations: Type.Optional(Type.Array(Name, { maxItems: 256 })),
});

/** The body of `POST /decide`. */
export const DecisionRequest = Type.Object(
  {
    subject: Subject,
    agent: Type.Optional(Agent),
    action: Action,
    resource: Resource,
    context: Type.Optional(Context),
    tokens: Type.Optional(Tokens),
    at_least: Type.Optional(
      Type.Object(
        { data_revision: Type.Optional(Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER })) },
        strict,
      ),
    ),
  },
  strict,
);
export type DecisionRequest = Static<typeof DecisionRequest>;

/** A party whose own rights are tested. */
export type Leg = 'subject' | 'agent' | `chain/${number}`;

export interface Reason {
  /** Stable, lower-case with underscores: what a gateway may match on. */
  readonly code: string;
  readonly leg?: string;
  /** The id of the rule that speaks. */
  readonly rule?: string;
  readonly message?: string;
}

export interface Obligation {
  readonly id: string;
  readonly type: string;
  readonly properties: Readonly<Record<string, unknown>>;
}

export type Durability = 'memory' | 'spool' | 'disk' | 'broker';

export interface BundleIdentity {
  readonly name: string;
  /** `sha256:` and 64 hex digits. */
  readonly digest: string;
  readonly serial: number;
}

export interface PolicyIdentity {
  readonly bundles: readonly BundleIdentity[];
  readonly data?: { readonly revision: number; readonly digest: string };
}

/** The answer of `POST /decide` at status 200; `audit` and `session_token` stand in no event. */
export interface DecisionAnswer {
  readonly decision_id: string;
  readonly decision: 'allow' | 'deny';
  readonly allow: boolean;
  readonly reasons: readonly Reason[];
  readonly obligations: readonly Obligation[];
  readonly advice: readonly Obligation[];
  readonly policy: PolicyIdentity;
  readonly expires_at?: string;
  readonly audit: {
    readonly durability: Durability;
    readonly emitter: string;
    readonly boot: string;
    readonly sequence: string;
  };
}
