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
