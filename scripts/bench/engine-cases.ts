import { createPrivateKey, generateKeyPairSync, sign } from 'node:crypto';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { NOT_IN_BUNDLE } from '../../services/cli/commands/policy-build.ts';
import { policyInputText } from '../../services/pdp/core/policy-input.ts';
import { readBundle } from '../../services/pdp/policy/bundle-reader.ts';
import type { DecisionRequest } from '../../services/shared/contracts/decision.ts';
import type { CedarSide } from './engine-hosts.ts';
import { BODIES } from './bodies.ts';
import { compileRego, POLICIES } from './opa.ts';

/** One row of the table: a policy and what it is asked. */
export interface EngineCase {
  readonly name: string;
  /** As in the module: `bench/boolean/allow`. */
  readonly entrypoint: string;
  readonly wasm: Uint8Array;
  /** What `opa bench` reads. */
  readonly opaArgs: readonly string[];
  /** The `data` document. */
  readonly dataJson: string;
  /** Asked in turn. */
  readonly inputs: readonly unknown[];
  /** The same policy in Cedar, where it can be said. */
  readonly cedar?: CedarSide;
  /** Answers that a user waits for are booleans or flat texts; the target of 0.85 × the SDK is theirs. */
  readonly isFlat: boolean;
}

const USERS = 10_000;
const ROLES = 20;
const RULES = 1_000;
const TYPES = ['report', 'invoice', 'payment', 'contract', 'ticket'];
const ITEMS = 200;

/** Users with two roles each, and five grants a role. */
export const rbacData = (users: number) => ({
  users: Object.fromEntries(
    Array.from({ length: users }, (_, user) => [
      `user-${user}`,
      [`role-${user % ROLES}`, `role-${(user * 7) % ROLES}`],
    ]),
  ),
  roles: Object.fromEntries(
    Array.from({ length: ROLES }, (_, role) => [
      `role-${role}`,
      TYPES.map((type, at) => ({ type, action: (role + at) % 2 === 0 ? 'read' : 'write' })),
    ]),
  ),
});

interface Prepared {
  readonly name: string;
  readonly rule: string;
  readonly data?: unknown;
  readonly inputs: readonly unknown[];
  readonly cedar?: CedarSide;
  /** Rego text, where the policy is made and not one of the files. */
  readonly rego?: string;
  readonly isFlat?: boolean;
}

const id = (type: string, name: string) => ({ type, id: name });

const booleanCase = (): Prepared => {
  const ask = (action: string, clearance: number) => ({
    action,
    subject: { id: 'alice', department: 'hr', clearance },
    resource: { id: 'salaries', department: 'hr', sensitivity: 3 },
  });
  const inputs = [ask('read', 4), ask('read', 2), ask('write', 4)];
  return {
    name: 'boolean ABAC',
    rule: 'boolean/allow',
    inputs,
    isFlat: true,
    cedar: {
      policies: `permit(principal, action == Action::"read", resource) when {
        principal.department == resource.department && principal.clearance >= resource.sensitivity };`,
      calls: inputs.map(({ action, subject, resource }) => ({
        principal: id('User', subject.id),
        action: id('Action', action),
        resource: id('Dataset', resource.id),
        context: {},
        entities: [
          {
            uid: id('User', subject.id),
            attrs: { department: subject.department, clearance: subject.clearance },
            parents: [],
          },
          {
            uid: id('Dataset', resource.id),
            attrs: { department: resource.department, sensitivity: resource.sensitivity },
            parents: [],
          },
        ],
      })),
    },
  };
};

const rbacCase = (): Prepared => {
  const data = rbacData(USERS);
  const inputs = [
    { user: 'user-4711', action: 'read', type: 'invoice' },
    { user: 'user-42', action: 'write', type: 'report' },
    { user: 'user-of-no-list', action: 'read', type: 'report' },
  ];
  const permits = Object.entries(data.roles).flatMap(([role, grants]) =>
    grants.map(
      ({ type, action }) => `permit(principal in Role::"${role}", action == Action::"${action}", resource is ${type});`,
    ),
  );
  return {
    name: 'RBAC, 10,000 users',
    rule: 'rbac/allow',
    data,
    inputs,
    isFlat: true,
    // Cedar has no data: its caller looks the user up, which is no part of what is measured.
    cedar: {
      policies: permits.join('\n'),
      calls: inputs.map(({ user, action, type }) => ({
        principal: id('User', user),
        action: id('Action', action),
        resource: id(type, 'one'),
        context: {},
        entities: [
          { uid: id('User', user), attrs: {}, parents: (data.users[user] ?? []).map((role) => id('Role', role)) },
        ],
      })),
    },
  };
};

const comprehensionCase = (): Prepared => {
  const items = Array.from({ length: ITEMS }, (_, at) => ({
    id: `item-${at}`,
    owner: `user-${at % 50}`,
    size: (at * 37) % 1_000,
    tag: `t${at % 7}`,
  }));
  return {
    name: '14 kB input, set',
    rule: 'comprehension/allow',
    inputs: ['user-7', 'user-60'].map((user) => ({ user, items })),
  };
};

const rulesCase = (): Prepared => {
  const all = Array.from({ length: RULES }, (_, at) => ({ user: `user-${at}`, path: `/path/${at}` }));
  const rego = [
    'package bench.rules',
    'default allow := false',
    ...all.map(({ user, path: where }) => `allow if {\n\tinput.user == "${user}"\n\tinput.path == "${where}"\n}`),
  ].join('\n\n');
  const inputs = [
    { user: 'user-999', path: '/path/999' },
    { user: 'user-500', path: '/path/501' },
  ];
  return {
    name: '1,000 rules',
    rule: 'rules/allow',
    rego,
    inputs,
    cedar: {
      policies: all
        .map(({ user, path: where }) => `permit(principal == User::"${user}", action, resource == Path::"${where}");`)
        .join('\n'),
      calls: inputs.map(({ user, path: where }) => ({
        principal: id('User', user),
        action: id('Action', 'any'),
        resource: id('Path', where),
        context: {},
        entities: [],
      })),
    },
  };
};

const globCase = (): Prepared => {
  const inputs = [{ path: 'api:eu:customers:orders' }, { path: 'api:eu:customers' }];
  return {
    name: 'glob',
    rule: 'glob/allow',
    inputs,
    cedar: {
      policies: 'permit(principal, action, resource) when { context.path like "api:*:orders" };',
      calls: inputs.map((context) => ({
        principal: id('User', 'any'),
        action: id('Action', 'any'),
        resource: id('Path', 'any'),
        context,
        entities: [],
      })),
    },
  };
};

const base64url = (value: unknown): string => Buffer.from(JSON.stringify(value)).toString('base64url');

const jwtCase = (): Prepared => {
  const { privateKey, publicKey } = generateKeyPairSync('rsa', {
    modulusLength: 2048,
    publicKeyEncoding: { type: 'spki', format: 'pem' },
    privateKeyEncoding: { type: 'pkcs8', format: 'pem' },
  });
  const claims = { iss: 'https://issuer.test', aud: 'bench', sub: 'alice', actions: ['read'], exp: 4_102_444_800 };
  const signed = `${base64url({ alg: 'RS256', typ: 'JWT' })}.${base64url(claims)}`;
  const signature = sign('sha256', Buffer.from(signed), createPrivateKey(privateKey)).toString('base64url');
  const token = `${signed}.${signature}`;
  return {
    name: 'JWT, RS256',
    rule: 'jwt/allow',
    data: { keys: publicKey },
    inputs: ['read', 'write'].map((action) => ({ action, token })),
  };
};

const regoCases = (): readonly Prepared[] => [
  booleanCase(),
  rbacCase(),
  comprehensionCase(),
  rulesCase(),
  {
    name: 'regex',
    rule: 'regex/allow',
    inputs: [{ path: '/users/4711/orders/7f3a-99aa-0001' }, { path: '/users/4711/orders/' }],
  },
  globCase(),
  jwtCase(),
  {
    name: 'sprintf',
    rule: 'sprintf/message',
    data: { limit: 500 },
    inputs: [
      { user: 'alice', amount: 900 },
      { user: 'bob', amount: 1200 },
    ],
    isFlat: true,
  },
];

const NOW_MS = 1_767_225_600_123;

const meshCase = async (root: string): Promise<EngineCase> => {
  const file = path.join(root, 'bundles', 'mesh.tar.gz');
  const { wasm, dataJson } = await readBundle(readFileSync(file));
  const caller = { id: 'gw', tenant: 'acme', requires_agent: false, believe_unverified: false, properties: {} };
  return {
    name: 'mesh bundle',
    entrypoint: 'edict/decide',
    wasm,
    dataJson: Buffer.from(dataJson).toString('utf8'),
    // Its sources: a bundle with a module would ask OPA for its WebAssembly runtime.
    opaArgs: ['--bundle', path.join(root, 'policies'), ...NOT_IN_BUNDLE.flatMap((pattern) => ['--ignore', pattern])],
    inputs: BODIES.map((body): unknown =>
      JSON.parse(policyInputText(JSON.parse(body) as DecisionRequest, caller, NOW_MS)),
    ),
    isFlat: false,
  };
};

/** Compiles all policies with the pinned OPA into `scratch`. */
export const engineCases = async (root: string, scratch: string): Promise<readonly EngineCase[]> => {
  const cases: EngineCase[] = [await meshCase(root)];
  for (const { name, rule, data = {}, inputs, cedar, rego, isFlat = false } of regoCases()) {
    const [file = ''] = rule.split('/');
    const source = rego ?? readFileSync(path.join(POLICIES, `${file}.rego`), 'utf8');
    const compiled = await compileRego({ scratch, name: file, source, entrypoints: [`bench/${rule}`], data });
    cases.push({
      name,
      entrypoint: `bench/${rule}`,
      wasm: compiled.wasm,
      dataJson: JSON.stringify(data),
      opaArgs: compiled.opaArgs,
      inputs,
      isFlat,
      ...(cedar === undefined ? {} : { cedar }),
    });
  }
  return cases;
};
