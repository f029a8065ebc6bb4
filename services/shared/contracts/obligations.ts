import { Type, type TSchema } from 'typebox';
import { Compile } from 'typebox/compile';
import type { PolicyOutput } from './policy-io.ts';

const strict = { additionalProperties: false } as const;
const Text = Type.String({ minLength: 1, maxLength: 1024 });
const Texts = Type.Array(Text, { minItems: 1, maxItems: 1024 });
const Leg = Type.String({ pattern: '^(subject|agent|chain/(0|[1-9][0-9]{0,2}))$' });
const Count = Type.Integer({ minimum: 1, maximum: 1_000_000_000 });
const Method = Type.Enum(['hash', 'partial', 'null', 'tokenize']);

/**
 * The obligations that a gateway can be asked to carry out, with their properties. A policy that asks for anything
 * else gets a deny: nobody could know whether it was carried out.
 */
const OBLIGATION_SCHEMAS: Readonly<Record<string, TSchema>> = {
  /** Remove columns, members (JSON pointers into the result) or kinds of personal data before passing a result on. */
  redact: Type.Object(
    { columns: Type.Optional(Texts), paths: Type.Optional(Texts), entities: Type.Optional(Texts) },
    { ...strict, minProperties: 1 },
  ),
  /** Replace values, keeping the member. */
  mask: Type.Object(
    { columns: Type.Optional(Texts), paths: Type.Optional(Texts), method: Type.Optional(Method) },
    { ...strict, minProperties: 1 },
  ),
  /** Wait until a person with one of these roles has agreed. */
  require_approval: Type.Object(
    {
      approvers: Type.Optional(Texts),
      count: Type.Optional(Type.Integer({ minimum: 1, maximum: 100 })),
      expires_in_s: Type.Optional(Count),
      message: Type.Optional(Text),
    },
    strict,
  ),
  /** Let the subject authenticate again, more strongly (RFC 9470). */
  step_up: Type.Object(
    { acr_values: Type.Optional(Texts), max_age_s: Type.Optional(Type.Integer({ minimum: 0 })) },
    strict,
  ),
  notify: Type.Object(
    { channel: Type.Optional(Text), recipients: Type.Optional(Texts), message: Type.Optional(Text) },
    strict,
  ),
  log: Type.Object({ level: Type.Optional(Text), message: Type.Optional(Text), fields: Type.Optional(Texts) }, strict),
  /** Hold a party to so many calls. */
  rate_limit: Type.Object(
    { leg: Type.Optional(Leg), calls_per_minute: Type.Optional(Count), calls_per_hour: Type.Optional(Count) },
    { ...strict, minProperties: 1 },
  ),
  /** Send the call to another backend. */
  route: Type.Object({ target: Text }, strict),
  /** Replace arguments of the call, by name. */
  set_args: Type.Object({ args: Type.Record(Type.String(), Type.Unknown()) }, strict),
  /** Use this credential for the backend, and no other. */
  credential: Type.Object(
    { name: Text, scopes: Type.Optional(Texts), audience: Type.Optional(Text), ttl_s: Type.Optional(Count) },
    strict,
  ),
  watermark: Type.Object({ text: Type.Optional(Text), method: Type.Optional(Text) }, strict),
  /** End the session after this call. */
  session_termination: Type.Object({ reason: Type.Optional(Text) }, strict),
};

const validators = new Map(Object.entries(OBLIGATION_SCHEMAS).map(([type, schema]) => [type, Compile(schema)]));

type Duty = PolicyOutput['obligations'][number];

/** What is wrong with an obligation, or undefined. */
export const obligationProblem = ({ type, properties }: Duty): string | undefined => {
  const validator = validators.get(type);
  if (validator === undefined) return `obligation type ${type} is not known`;
  return validator.Check(properties ?? {}) ? undefined : `obligation ${type} has properties that do not fit its type`;
};
