import type { IncomingMessage } from 'node:http';

/** The name in a `Host` header, lower case, without its port. */
const hostName = (header: string): string => header.toLowerCase().replace(/:\d{0,5}$/, '');

/**
 * Whether a `Host` header names this listener. For listeners where nobody has to say who they are: a page that comes
 * under another name is a DNS rebinding attack.
 */
export const createHostCheck = (
  listenHost: string,
  allowed: readonly string[],
): ((header: string | undefined) => boolean) => {
  const own = listenHost.includes(':') ? `[${listenHost}]` : listenHost;
  const names = new Set(['localhost', '127.0.0.1', '[::1]', own, ...allowed].map((name) => name.toLowerCase()));
  return (header) => header !== undefined && names.has(hostName(header));
};

/**
 * True for a request that names its host twice: to be refused with 400 (RFC 9112, 3.2), for a proxy before this listener
 * may have believed the other one. Node keeps the first without a word.
 */
export const hasSeveralHosts = ({ rawHeaders }: IncomingMessage): boolean => {
  let found = 0;
  for (let n = 0; n < rawHeaders.length; n += 2) {
    const name = rawHeaders[n];
    if (name?.length === 4 && name.toLowerCase() === 'host') found += 1;
  }
  return found > 1;
};

export const SEVERAL_HOSTS = { code: 'malformed_http', detail: 'the header Host stands twice' } as const;
