import type { Certificate } from './x509-certificate.ts';

/** A node of the policy graph (RFC 9618): a policy, and those that the next certificate may name for it. */
interface PolicyNode {
  readonly policy: string;
  expected: readonly string[];
  readonly parents: Set<PolicyNode>;
  readonly children: Set<PolicyNode>;
}

type Stratum = Map<string, PolicyNode>;

/** `anyPolicy`, 2.5.29.32.0, as the bytes of its identifier; policies are keyed by theirs. */
const ANY = '551d2000';

const insert = (stratum: Stratum, policy: string, parents: readonly PolicyNode[], expected = [policy]): void => {
  const node: PolicyNode = { policy, expected, parents: new Set(parents), children: new Set() };
  for (const parent of parents) parent.children.add(node);
  stratum.set(policy, node);
};

const remove = (stratum: Stratum, node: PolicyNode): void => {
  for (const parent of node.parents) parent.children.delete(node);
  for (const child of node.children) child.parents.delete(node);
  stratum.delete(node.policy);
};

/** Takes away what no later certificate goes on with; the root stays. */
const prune = (strata: readonly Stratum[]): void => {
  for (const stratum of strata.slice(1, -1).reverse())
    for (const node of stratum.values()) if (node.children.size === 0) remove(stratum, node);
};

const byExpected = (stratum: Stratum): Map<string, PolicyNode[]> => {
  const nodes = new Map<string, PolicyNode[]>();
  for (const node of stratum.values())
    for (const policy of node.expected) {
      const known = nodes.get(policy);
      if (known === undefined) nodes.set(policy, [node]);
      else known.push(node);
    }
  return nodes;
};

/** Adds the stratum of a certificate's policies. */
const addPolicies = (strata: Stratum[], policies: readonly string[], isAnyTaken: boolean): void => {
  const parents = strata.at(-1) ?? new Map<string, PolicyNode>();
  const expected = byExpected(parents);
  const stratum: Stratum = new Map();
  strata.push(stratum);
  const anyParent = parents.get(ANY);
  for (const policy of policies) {
    if (policy === ANY) continue;
    const own = expected.get(policy) ?? (anyParent === undefined ? [] : [anyParent]);
    if (own.length > 0) insert(stratum, policy, own);
  }
  if (isAnyTaken) for (const [policy, own] of expected) if (!stratum.has(policy)) insert(stratum, policy, own);
  prune(strata);
};

/** Applies the mappings of a certificate that is no leaf; false when one of them is not allowed. */
const mapPolicies = (strata: readonly Stratum[], { policyMappings }: Certificate, isMapped: boolean): boolean => {
  const stratum = strata.at(-1);
  if (stratum === undefined) return true;
  const mappings = new Map<string, string[]>();
  for (const mapping of policyMappings) {
    const [issuer, subject] = [mapping.issuer.toString('hex'), mapping.subject.toString('hex')];
    if (isMapped) {
      if (issuer === ANY || subject === ANY) return false;
      const known = mappings.get(issuer);
      if (known === undefined) mappings.set(issuer, [subject]);
      else known.push(subject);
      continue;
    }
    const node = stratum.get(issuer);
    if (node !== undefined) remove(stratum, node);
  }
  prune(strata);
  for (const [issuer, subjects] of mappings) {
    const node = stratum.get(issuer);
    const any = stratum.get(ANY);
    if (node !== undefined) node.expected = subjects;
    else if (any !== undefined) insert(stratum, issuer, [any], subjects);
  }
  return true;
};

/** Whether a policy is left that the chain asserts as a whole. */
const hasValidPolicy = (strata: readonly Stratum[]): boolean =>
  strata.at(-1)?.has(ANY) === true ||
  strata.some((stratum) =>
    [...stratum.values()].some(
      ({ policy, parents }) => policy !== ANY && parents.size === 1 && [...parents][0]?.policy === ANY,
    ),
  );

const lowered = (limit: number, own: number | undefined): number =>
  own !== undefined && own >= 0 && own < limit ? own : limit;

/** How many more certificates may pass before each of the three rules applies. */
interface Limits {
  readonly explicit: number;
  readonly mapping: number;
  readonly any: number;
}

const nextLimits = ({ explicit, mapping, any }: Limits, certificate: Certificate, isSelfIssued: boolean): Limits => {
  const step = isSelfIssued ? 0 : 1;
  return {
    explicit: lowered(Math.max(0, explicit - step), certificate.requireExplicitPolicy),
    mapping: lowered(Math.max(0, mapping - step), certificate.inhibitPolicyMapping),
    any: lowered(Math.max(0, any - step), certificate.inhibitAnyPolicy),
  };
};

/** Whether the policies of a chain (leaf first, root last) are valid (RFC 5280, 6.1.3 to 6.1.5), for any policy. */
export const arePoliciesValid = (chain: readonly Certificate[]): boolean => {
  const count = chain.length - 1;
  if (count === 0) return true;
  let limits: Limits = { explicit: count + 1, mapping: count + 1, any: count + 1 };
  const root: Stratum = new Map();
  insert(root, ANY, []);
  let strata: Stratum[] | undefined = [root];
  for (const [place, certificate] of [...chain.entries()].slice(0, -1).reverse()) {
    const policies: readonly string[] = (certificate.policies ?? []).map((policy) => policy.toString('hex'));
    const isSelfIssued = certificate.rawIssuer.equals(certificate.rawSubject);
    if (policies.length === 0) strata = undefined;
    if (strata === undefined && limits.explicit === 0) return false;
    if (strata !== undefined) {
      const isAnyTaken = policies.includes(ANY) && (limits.any > 0 || (place > 0 && isSelfIssued));
      addPolicies(strata, policies, isAnyTaken);
      const isMapping = place > 0 && certificate.policyMappings.length > 0;
      if (isMapping && !mapPolicies(strata, certificate, limits.mapping > 0)) return false;
    }
    if (place > 0) limits = nextLimits(limits, certificate, isSelfIssued);
  }
  const isExplicit = limits.explicit <= 1 || chain[0]?.requireExplicitPolicy === 0;
  return !isExplicit || (strata !== undefined && hasValidPolicy(strata));
};
