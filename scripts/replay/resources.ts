import { isObject } from '../../services/shared/contracts/json.ts';
import type { Environments, RecordedCall } from './recording.ts';

/** What an action is done to. */
export interface ReplayResource {
  readonly type: string;
  readonly id: string;
}

/** The objects of one suite's world by type. */
export type Catalogue = ReadonlyMap<string, ReadonlySet<string>>;

/** Which argument names an object, and what kind. Names of arguments, so it holds for every tool of every suite. */
const OBJECT_ARGUMENTS: Readonly<Record<string, readonly string[]>> = {
  file_id: ['file'],
  file_path: ['file'],
  filename: ['file'],
  email_id: ['email'],
  event_id: ['event'],
  id: ['scheduled_transaction'],
  channel: ['channel'],
  recipient: ['account', 'user'],
  user: ['user'],
  url: ['webpage'],
  hotel: ['hotel'],
  hotel_name: ['hotel'],
  hotel_names: ['hotel'],
  restaurant: ['restaurant'],
  restaurant_names: ['restaurant'],
  company: ['car_rental'],
  company_name: ['car_rental'],
};

/** Tools that name no object still touch the user's own mailbox, calendar, account or drive: told by their name. */
const OWN_OBJECTS: readonly (readonly [word: RegExp, type: string])[] = [
  [/email/, 'mailbox'],
  [/calendar/, 'calendar'],
  [/transaction|balance|iban|money/, 'account'],
  [/file/, 'drive'],
];

/** Where a world lists its objects: path to a list (each item named by a member) or to a mapping (named by its keys). */
const LISTS: readonly (readonly [type: string, path: readonly string[], member?: string])[] = [
  ['file', ['cloud_drive', 'initial_files'], 'id_'],
  ['file', ['cloud_drive', 'initial_files'], 'filename'],
  ['file', ['filesystem', 'files']],
  ['drive', ['cloud_drive', 'account_email']],
  ['email', ['inbox', 'initial_emails'], 'id_'],
  ['mailbox', ['inbox', 'account_email']],
  ['event', ['calendar', 'initial_events'], 'id_'],
  ['calendar', ['calendar', 'account_email']],
  ['channel', ['slack', 'channels']],
  ['user', ['slack', 'users']],
  ['webpage', ['web', 'web_content']],
  ['hotel', ['hotels', 'hotel_list'], 'name'],
  ['restaurant', ['restaurants', 'restaurant_list'], 'name'],
  ['car_rental', ['car_rental', 'company_list'], 'name'],
  ['account', ['bank_account', 'iban']],
  ['account', ['bank_account', 'transactions'], 'recipient'],
  ['account', ['bank_account', 'transactions'], 'sender'],
  ['account', ['bank_account', 'scheduled_transactions'], 'recipient'],
  ['scheduled_transaction', ['bank_account', 'scheduled_transactions'], 'id'],
];

const idOf = (value: unknown): readonly string[] =>
  typeof value === 'string' && value !== '' ? [value] : typeof value === 'number' ? [String(value)] : [];

const namesIn = (value: unknown, member: string | undefined): readonly string[] => {
  if (Array.isArray(value))
    return value.flatMap((item) => (member === undefined ? idOf(item) : isObject(item) ? idOf(item[member]) : []));
  return isObject(value) ? Object.keys(value) : idOf(value);
};

/** The objects of one suite's environment. */
export const catalogueOf = (environment: Readonly<Record<string, unknown>>): Catalogue => {
  const catalogue = new Map<string, Set<string>>();
  for (const [type, path, member] of LISTS) {
    let value: unknown = environment;
    for (const name of path) value = isObject(value) ? value[name] : undefined;
    const ids = catalogue.get(type) ?? new Set<string>();
    for (const id of namesIn(value, member)) ids.add(id);
    if (ids.size > 0) catalogue.set(type, ids);
  }
  return catalogue;
};

/** The catalogues of all suites. */
export const cataloguesOf = (environments: Environments): ReadonlyMap<string, Catalogue> =>
  new Map(Object.entries(environments).map(([suite, { environment }]) => [suite, catalogueOf(environment)]));

/** A list of one names one object; a longer list names no single one. */
const singleId = (value: unknown): string | undefined => {
  const [only, ...more] = Array.isArray(value) ? value.flatMap(idOf) : idOf(value);
  return more.length === 0 ? only : undefined;
};

const firstOf = (ids: ReadonlySet<string> | undefined): string | undefined => ids?.values().next().value;

/**
 * The object that a call touches: the one that an argument names, if the world has it; else the user's own mailbox,
 * calendar, account or drive; else the tool itself, as it is when the model made an object up.
 */
export const resourceOf = (call: RecordedCall, catalogue: Catalogue): ReplayResource => {
  let namesObject = false;
  for (const [argument, types] of Object.entries(OBJECT_ARGUMENTS)) {
    if (!Object.hasOwn(call.args, argument)) continue;
    namesObject = true;
    const id = singleId(call.args[argument]);
    const type = id === undefined ? undefined : types.find((each) => catalogue.get(each)?.has(id) === true);
    if (id !== undefined && type !== undefined) return { type, id };
  }
  if (!namesObject) {
    for (const [word, type] of OWN_OBJECTS) {
      const own = word.test(call.function) ? firstOf(catalogue.get(type)) : undefined;
      if (own !== undefined) return { type, id: own };
    }
  }
  return { type: 'tool', id: call.function };
};
