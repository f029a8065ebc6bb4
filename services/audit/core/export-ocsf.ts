import type { ExportRow } from './export-row.ts';

const OCSF_VERSION = '1.8.0';
/** Application Activity. */
const CATEGORY = 6;
/** API Activity: category · 1000 + 3. */
const CLASS = 6003;
const OTHER = 99;

/** `activity_id` of actions that OCSF has; any other is 99, with its own name. */
const ACTIVITIES: ReadonlyMap<string, readonly [id: number, name: string]> = new Map([
  ['create', [1, 'Create']],
  ['read', [2, 'Read']],
  ['update', [3, 'Update']],
  ['delete', [4, 'Delete']],
]);

/** `user.type_id`. */
const USER_TYPES: ReadonlyMap<string, number> = new Map([
  ['user', 1],
  ['service', 4],
]);

/** `{[name]: value}` when there is a value. */
const some = (name: string, value: unknown): Readonly<Record<string, unknown>> =>
  value === undefined ? {} : { [name]: value };

const userOf = ({ subject }: ExportRow['shown']): Readonly<Record<string, unknown>> | undefined => {
  if (subject === undefined || subject.id === '') return undefined;
  const typeId = USER_TYPES.get(subject.type) ?? OTHER;
  return { uid: subject.id, type: subject.type, type_id: typeId, ...some('domain', subject.issuer) };
};

/**
 * A decision as an OCSF 1.8 event: class 6003 API Activity with the profile `security_control`. The subject is the
 * actor's user, the agent its application, the caller the source endpoint, each reason an authorization.
 */
export const ocsfEvent = ({ shown, leaf }: ExportRow): Readonly<Record<string, unknown>> => {
  const [activity, activityName] = ACTIVITIES.get(shown.action) ?? [OTHER, shown.action];
  const isDenied = shown.decision === 'deny';
  const user = userOf(shown);
  const app = shown.agent ?? (user === undefined ? shown.caller || 'unknown' : undefined);
  const policies = shown.reasons.map(({ code, rule }) => ({ name: code, uid: rule ?? code }));
  const resource = `${shown.resource.type}/${shown.resource.id}`;
  const time = Date.parse(shown.event_time);
  const ingestTime = Date.parse(shown.ingest_time);
  return {
    activity_id: activity,
    activity_name: activityName,
    category_uid: CATEGORY,
    category_name: 'Application Activity',
    class_uid: CLASS,
    class_name: 'API Activity',
    type_uid: CLASS * 100 + activity,
    time: Number.isNaN(time) ? ingestTime : time,
    severity_id: isDenied ? 2 : 1,
    status_id: isDenied ? 2 : 1,
    action_id: isDenied ? 2 : 1,
    action: isDenied ? 'Denied' : 'Allowed',
    disposition_id: isDenied ? 2 : 1,
    disposition: isDenied ? 'Blocked' : 'Allowed',
    message: `${shown.decision} ${shown.action} ${resource}: ${shown.reasons.map(({ code }) => code).join(' ')}`,
    metadata: {
      version: OCSF_VERSION,
      product: { name: 'Edict', vendor_name: 'Edict' },
      profiles: ['security_control'],
      uid: shown.decision_id,
      log_name: shown.log,
      sequence: Number(shown.seq),
      logged_time: ingestTime,
      ...some('correlation_uid', shown.session),
    },
    actor: {
      ...some('user', user),
      ...some('app_uid', app),
      ...some('session', shown.session === undefined ? undefined : { uid: shown.session }),
    },
    api: { operation: shown.action, request: { uid: shown.request_id ?? shown.decision_id } },
    src_endpoint: { uid: shown.caller || 'unknown' },
    resources: [{ uid: shown.resource.id, name: shown.resource.id, type: shown.resource.type }],
    authorizations:
      policies.length === 0
        ? [{ decision: shown.decision }]
        : policies.map((policy) => ({ decision: shown.decision, policy })),
    unmapped: {
      leaf,
      ...some('chain', shown.chain),
      ...some('purpose', shown.purpose),
      ...some('obligations', shown.obligations),
      ...some('search_mismatch', shown.search_mismatch),
      read_from: shown.read_from,
    },
  };
};
