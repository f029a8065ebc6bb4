import { accessSync, constants, statSync } from 'node:fs';
import { errorCode, errorMessage } from '../contracts/errors.ts';
import { isTenant, SYSTEM_TENANT } from '../contracts/tenant.ts';
import { isLoopback, MAX_PORT, splitListen } from '../runtime/http-server.ts';
import { isInputTooLarge } from './policy-limits.ts';
import type { Settings } from './schema.ts';
import { sizeBytes } from './units.ts';

/** A program that is to be started with the settings: its listener and the files that it reads are looked at too. */
export type Service = 'pdp' | 'audit' | 'signer' | 'tripwire';

/**
 * Whether the schema has nothing against a member, nor against what holds it. A rule looks only at such members, so
 * that one fault neither hides another nor makes one up.
 */
type IsSound = (...pointers: readonly string[]) => boolean;

const KEY_BYTES = 32;
/** A snapshot of pushed data must fit into one frame of its log. */
const MAX_DATA_BYTES = 4 * 1024 * 1024;
const ANY_HOST: ReadonlySet<string> = new Set(['0.0.0.0', '::']);

const repeated = (values: readonly string[]): readonly string[] => [
  ...new Set(values.filter((value, index) => values.indexOf(value) !== index)),
];

/** True when two listeners of one machine would want the same port of the same address. */
const collide = (a: string, b: string): boolean => {
  const { host: hostA, port: portA } = splitListen(a);
  const { host: hostB, port: portB } = splitListen(b);
  if (portA !== portB || portA === 0) return false;
  return hostA === hostB || ANY_HOST.has(hostA) || ANY_HOST.has(hostB) || (isLoopback(hostA) && isLoopback(hostB));
};

const listenProblems = (settings: Settings, services: readonly Service[], isSound: IsSound): readonly string[] => {
  const problems: string[] = [];
  for (const name of ['pdp', 'audit'] as const) {
    if (!isSound(`/${name}/listen`)) continue;
    const { listen } = settings[name];
    const { host, port } = splitListen(listen);
    if (port > MAX_PORT) problems.push(`/${name}/listen: the port is not a number up to ${MAX_PORT}`);
    if (services.includes(name) && !isLoopback(host) && isSound('/callers') && settings.callers.length === 0)
      problems.push(
        `/${name}/listen: ${listen} can be reached from other machines, so /callers must name who may ask; ` +
          '`edict keys new` makes a key',
      );
  }
  // With a broker the two may run on different machines, each at the same address of its own.
  const isOneMachine = isSound('/kafka/brokers') && settings.kafka.brokers.length === 0;
  if (isOneMachine && isSound('/pdp/listen', '/audit/listen') && collide(settings.pdp.listen, settings.audit.listen))
    problems.push(`/audit/listen: ${settings.audit.listen} is taken by /pdp/listen`);
  return problems;
};

const namesOf = ({ tenants }: Pick<Settings, 'tenants'>): readonly string[] => {
  const names = Object.keys(tenants);
  return names.length === 0 ? ['default'] : names;
};

const callerProblems = (settings: Settings, isSound: IsSound): readonly string[] => {
  if (!isSound('/callers')) return [];
  const problems: string[] = [];
  const callers = settings.callers.map((caller, index) => ({ caller, at: `/callers/${index}` }));
  const ids = callers.flatMap(({ caller, at }) => (isSound(`${at}/id`) ? [caller.id] : []));
  const keyIds = callers.flatMap(({ caller, at }) =>
    isSound(`${at}/api_keys`)
      ? caller.api_keys.filter((_key, n) => isSound(`${at}/api_keys/${n}`)).map((key) => key.slice(0, 12))
      : [],
  );
  for (const id of repeated(ids)) problems.push(`/callers: id ${id} appears twice`);
  for (const id of repeated(keyIds)) problems.push(`/callers: API key id ${id} appears twice`);
  if (!isSound('/tenants')) return problems;
  const known = namesOf(settings);
  for (const { caller, at } of callers)
    if (isSound(`${at}/tenant`) && !known.includes(caller.tenant) && caller.tenant !== SYSTEM_TENANT)
      problems.push(`${at}/tenant: ${caller.tenant} is not in /tenants`);
  return problems;
};

const tenantProblems = ({ tenants }: Settings, isSound: IsSound): readonly string[] => {
  if (!isSound('/tenants')) return [];
  const problems: string[] = [];
  for (const name of Object.keys(tenants)) if (!isTenant(name)) problems.push(`/tenants: ${name} is not a tenant name`);
  if (tenants[SYSTEM_TENANT] !== undefined) problems.push(`/tenants/${SYSTEM_TENANT}: this name is the system tenant`);
  return problems;
};

const partProblems = (settings: Settings, isSound: IsSound): readonly string[] => {
  const problems: string[] = [];
  const { database, kafka, ledger, audit, pdp, spool } = settings;
  if (isSound('/database') && database.writer_url_file !== undefined) {
    for (const member of ['reader_url_file', 'keys_url_file'] as const)
      if (database[member] === undefined) problems.push(`/database/${member}: required with writer_url_file`);
    if (isSound('/audit') && audit.master_key_file === undefined)
      problems.push('/audit/master_key_file: required with database.writer_url_file');
    if (isSound('/ledger')) {
      if (ledger.authority === undefined) problems.push('/ledger/authority: required with database.writer_url_file');
      if (isSound('/ledger/blind_tenants') && ledger.blind_tenants && ledger.blind_key_file === undefined)
        problems.push('/ledger/blind_key_file: required with ledger.blind_tenants');
    }
  }
  for (const name of ['signer', 'tripwire'] as const) {
    const listen = isSound(`/${name}`) ? settings[name].listen : undefined;
    if (listen !== undefined && !isLoopback(splitListen(listen).host))
      problems.push(
        `/${name}/listen: ${listen} can be reached from other machines; it answers anybody, so loopback only`,
      );
  }
  if (isSound('/kafka/brokers') && kafka.brokers.length === 0) {
    if (kafka.tls !== undefined || kafka.sasl !== undefined) problems.push('/kafka/brokers: required with tls or sasl');
    if (isSound('/pdp/durability') && pdp.durability === 'broker')
      problems.push('/pdp/durability: broker needs kafka.brokers');
  }
  if (isSound('/kafka/brokers', '/tenants') && kafka.brokers.length > 0) {
    // Each machine would make a key of its own, and nobody could find a person in what all of them recorded.
    for (const name of namesOf(settings))
      if (settings.tenants[name]?.mask_key_file === undefined)
        problems.push(`/tenants/${name}/mask_key_file: required with kafka.brokers, the same key on every machine`);
  }
  if (isSound('/spool/reserve', '/spool/max') && sizeBytes(spool.reserve) >= sizeBytes(spool.max))
    problems.push('/spool/reserve: must be below /spool/max');
  if (isSound('/spool/segment', '/spool/max') && sizeBytes(spool.segment) > sizeBytes(spool.max))
    problems.push(`/spool/segment: ${spool.segment} is more than /spool/max, ${spool.max}`);
  if (isSound('/pdp/input/max') && isInputTooLarge(pdp.input)) problems.push('/pdp/input/max: is above 256KiB');
  if (isSound('/tenants'))
    for (const [name, tenant] of Object.entries(settings.tenants))
      if (isSound(`/tenants/${name}/input/max`) && isInputTooLarge(tenant.input ?? {}))
        problems.push(`/tenants/${name}/input/max: is above 256KiB`);
  if (isSound('/pdp/data_max') && sizeBytes(settings.pdp.data_max) > MAX_DATA_BYTES)
    problems.push('/pdp/data_max: is above 4MiB');
  return problems;
};

const AUDIT_URLS = ['writer_url_file', 'reader_url_file', 'keys_url_file'] as const;
const SIGNER_URLS = ['signer_url_file', 'keys_url_file'] as const;

interface NamedFile {
  readonly pointer: string;
  readonly file: string | undefined;
  /** What it must have, where that is fixed. */
  readonly bytes?: number;
}

/** Of the bundle sources that are servers. */
const filesOfSources = (settings: Settings, isSound: IsSound): readonly NamedFile[] => {
  const ofTenants = isSound('/tenants') ? Object.keys(settings.tenants) : [];
  const sets = [
    { at: '/pdp/bundles', bundlesOf: () => settings.pdp.bundles },
    ...ofTenants.map((name) => ({
      at: `/tenants/${name}/bundles`,
      bundlesOf: () => settings.tenants[name]?.bundles ?? [],
    })),
  ];
  return sets
    .filter(({ at }) => isSound(at))
    .flatMap(({ at, bundlesOf }) =>
      bundlesOf().flatMap((source, n) => {
        if (typeof source === 'string' || !isSound(`${at}/${n}`)) return [];
        const tls = (['ca_file', 'cert_file', 'key_file'] as const).map((member) => ({
          pointer: `${at}/${n}/tls/${member}`,
          file: source.tls?.[member],
        }));
        return [{ pointer: `${at}/${n}/bearer_token_file`, file: source.bearer_token_file }, ...tls];
      }),
    );
};

/** The files that a program reads when it starts; what others need may well not lie on its machine. */
const filesOf = (settings: Settings, service: Service, isSound: IsSound): readonly NamedFile[] => {
  const { tenants, kafka, audit, database, ledger } = settings;
  const files: NamedFile[] = [];
  if (service === 'tripwire')
    return isSound('/database')
      ? [{ pointer: '/database/tripwire_url_file', file: settings.database.tripwire_url_file }]
      : files;
  if (isSound('/tenants'))
    for (const [name, tenant] of Object.entries(tenants))
      if (isTenant(name) && isSound(`/tenants/${name}`))
        files.push({ pointer: `/tenants/${name}/mask_key_file`, file: tenant.mask_key_file, bytes: KEY_BYTES });
  if (isSound('/kafka/tls') && kafka.tls !== undefined)
    for (const member of ['ca_file', 'cert_file', 'key_file'] as const)
      files.push({ pointer: `/kafka/tls/${member}`, file: kafka.tls[member] });
  if (isSound('/kafka/sasl') && kafka.sasl !== undefined)
    files.push({ pointer: '/kafka/sasl/password_file', file: kafka.sasl.password_file });
  if (service === 'pdp') {
    files.push(...filesOfSources(settings, isSound));
    if (isSound('/audit/ack_vkey_files'))
      audit.ack_vkey_files.forEach((file, n) => files.push({ pointer: `/audit/ack_vkey_files/${n}`, file }));
    return files;
  }
  if (isSound('/audit')) {
    if (service === 'audit') files.push({ pointer: '/audit/ack_key_file', file: audit.ack_key_file });
    files.push({ pointer: '/audit/master_key_file', file: audit.master_key_file, bytes: KEY_BYTES });
  }
  if (!isSound('/database')) return files;
  if (database.writer_url_file !== undefined)
    for (const member of service === 'signer' ? SIGNER_URLS : AUDIT_URLS)
      files.push({ pointer: `/database/${member}`, file: database[member] });
  // On a server `edict ledger create` reads it, not the service.
  else if (isSound('/ledger/blind_tenants') && ledger.blind_tenants)
    files.push({ pointer: '/ledger/blind_key_file', file: ledger.blind_key_file, bytes: KEY_BYTES });
  return files;
};

const fileProblem = ({ pointer, file, bytes }: NamedFile): string | undefined => {
  if (file === undefined) return undefined;
  try {
    const found = statSync(file);
    if (found.isDirectory()) return `${pointer}: ${file} is a folder`;
    accessSync(file, constants.R_OK);
    if (bytes !== undefined && found.isFile() && found.size !== bytes)
      return `${pointer}: ${file} has ${found.size} bytes, not ${bytes}`;
    return undefined;
  } catch (cause) {
    return `${pointer}: ${file} cannot be read (${errorCode(cause) ?? errorMessage(cause)})`;
  }
};

/**
 * What the schema cannot say: how settings must fit each other, and, for the programs named, their machine. Each
 * problem begins with a JSON pointer. `settings` may have faults where `isSound` says so.
 */
export const crossProblems = (
  settings: Settings,
  services: readonly Service[],
  isSound: IsSound,
): readonly string[] => [
  ...listenProblems(settings, services, isSound),
  ...callerProblems(settings, isSound),
  ...tenantProblems(settings, isSound),
  ...partProblems(settings, isSound),
  ...new Set(
    services
      .flatMap((service) => filesOf(settings, service, isSound))
      .filter(({ pointer }) => isSound(pointer))
      .map(fileProblem)
      .filter((problem) => problem !== undefined),
  ),
];
