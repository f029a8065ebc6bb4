/**
 * What OCSF 1.8 demands of an API Activity event with the profile `security_control`: transcribed from the published
 * schema (github.com/ocsf/ocsf-schema: events/application/api_activity.json, events/base_event.json,
 * profiles/security_control.json, objects/{actor,user,metadata,product,api,request,network_endpoint,authorization,
 * policy,resource_details,session}.json, dictionary.json).
 */
type Kind = 'integer' | 'timestamp' | 'string' | 'strings' | 'json' | ObjectRule | readonly [ObjectRule];

interface ObjectRule {
  readonly attributes: Readonly<Record<string, Kind>>;
  readonly required?: readonly string[];
  readonly atLeastOne?: readonly string[];
  readonly enums?: Readonly<Record<string, readonly number[]>>;
}

const user: ObjectRule = {
  attributes: { uid: 'string', name: 'string', type: 'string', type_id: 'integer', domain: 'string' },
  atLeastOne: ['account', 'name', 'uid'],
  enums: { type_id: [0, 1, 2, 3, 4, 99] },
};
const policy: ObjectRule = { attributes: { name: 'string', uid: 'string' }, atLeastOne: ['name', 'uid'] };
const API_ACTIVITY: ObjectRule = {
  attributes: {
    activity_id: 'integer',
    activity_name: 'string',
    category_uid: 'integer',
    category_name: 'string',
    class_uid: 'integer',
    class_name: 'string',
    type_uid: 'integer',
    time: 'timestamp',
    severity_id: 'integer',
    status_id: 'integer',
    action_id: 'integer',
    action: 'string',
    disposition_id: 'integer',
    disposition: 'string',
    message: 'string',
    metadata: {
      attributes: {
        version: 'string',
        product: { attributes: { name: 'string', vendor_name: 'string' }, atLeastOne: ['name', 'uid'] },
        profiles: 'strings',
        uid: 'string',
        log_name: 'string',
        sequence: 'integer',
        logged_time: 'timestamp',
        correlation_uid: 'string',
      },
      required: ['product', 'version'],
    },
    actor: {
      attributes: { user, app_uid: 'string', session: { attributes: { uid: 'string' } } },
      atLeastOne: ['process', 'user', 'invoked_by', 'session', 'app_name', 'app_uid'],
    },
    api: {
      attributes: { operation: 'string', request: { attributes: { uid: 'string' }, required: ['uid'] } },
      required: ['operation'],
    },
    src_endpoint: { attributes: { uid: 'string' }, atLeastOne: ['ip', 'uid', 'name', 'hostname', 'svc_name'] },
    resources: [{ attributes: { uid: 'string', name: 'string', type: 'string' }, atLeastOne: ['name', 'uid'] }],
    authorizations: [{ attributes: { decision: 'string', policy } }],
    unmapped: 'json',
  },
  required: [
    'activity_id',
    'category_uid',
    'class_uid',
    'type_uid',
    'time',
    'severity_id',
    'metadata',
    'actor',
    'api',
    'src_endpoint',
  ],
  enums: {
    activity_id: [0, 1, 2, 3, 4, 99],
    category_uid: [6],
    class_uid: [6003],
    severity_id: [0, 1, 2, 3, 4, 5, 6, 99],
    status_id: [0, 1, 2, 99],
    action_id: [0, 1, 2],
    disposition_id: [...Array.from({ length: 28 }, (_, id) => id), 99],
  },
};

const isRecord = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

const faultsOf = (kind: Kind, value: unknown, at: string): readonly string[] => {
  if (kind === 'json') return [];
  if (kind === 'string') return typeof value === 'string' ? [] : [`${at}: no text`];
  if (kind === 'strings')
    return Array.isArray(value) && value.every((each) => typeof each === 'string') ? [] : [`${at}: no texts`];
  if (kind === 'integer' || kind === 'timestamp') return Number.isSafeInteger(value) ? [] : [`${at}: no integer`];
  if (Array.isArray(kind)) {
    const [rule] = kind as readonly [ObjectRule];
    return Array.isArray(value)
      ? value.flatMap((each, index) => faultsOf(rule, each, `${at}/${index}`))
      : [`${at}: no list`];
  }
  const { attributes, required = [], atLeastOne, enums = {} } = kind as ObjectRule;
  if (!isRecord(value)) return [`${at}: no object`];
  return [
    ...required.filter((name) => !(name in value)).map((name) => `${at}/${name}: required`),
    ...(atLeastOne === undefined || atLeastOne.some((name) => name in value)
      ? []
      : [`${at}: none of ${atLeastOne.join()}`]),
    ...Object.entries(enums).flatMap(([name, ids]) =>
      !(name in value) || ids.includes(Number(value[name])) ? [] : [`${at}/${name}: ${String(value[name])}`],
    ),
    ...Object.entries(value).flatMap(([name, member]) => {
      const rule = attributes[name];
      return rule === undefined ? [`${at}/${name}: unknown attribute`] : faultsOf(rule, member, `${at}/${name}`);
    }),
  ];
};

/** Every fault of an event; `type_uid` must follow from class and activity, and 99 needs a name. */
export const ocsfFaults = (event: unknown): readonly string[] => {
  const faults = faultsOf(API_ACTIVITY, event, '');
  if (!isRecord(event)) return faults;
  const { class_uid: classUid, activity_id: activity, type_uid: type, activity_name: name } = event;
  return [
    ...faults,
    ...(type === Number(classUid) * 100 + Number(activity) ? [] : ['/type_uid: does not follow']),
    ...(activity !== 99 || typeof name === 'string' ? [] : ['/activity_name: needed beside 99']),
  ];
};
