/** The tenant that holds what concerns the installation itself: start events, refusals of unknown callers. */
export const SYSTEM_TENANT = 'edict';

const TENANT = /^[a-z0-9][a-z0-9-]{0,62}$/;

export const isTenant = (text: unknown): text is string => typeof text === 'string' && TENANT.test(text);
