import type { Server } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import { AppError, errorCode, errorMessage } from '../contracts/errors.ts';

export interface ListenAddress {
  readonly host: string;
  readonly port: number;
}

export const MAX_PORT = 65_535;

/** `127.0.0.1:7180` or `[::1]:7180`; the text was checked against the settings' schema, the port may be too large. */
export const splitListen = (text: string): ListenAddress => {
  const colon = text.lastIndexOf(':');
  return { host: text.slice(0, colon).replace(/^\[|\]$/g, ''), port: Number(text.slice(colon + 1)) };
};

/** As `splitListen`; throws `settings_invalid` for a port that does not exist. */
export const parseListen = (text: string): ListenAddress => {
  const { host, port } = splitListen(text);
  if (!Number.isInteger(port) || port < 0 || port > MAX_PORT)
    throw new AppError('settings_invalid', `${text}: the port is not a number up to ${MAX_PORT}`);
  return { host, port };
};

/** True for hosts that only this machine can reach. */
export const isLoopback = (host: string): boolean =>
  host === 'localhost' || host === '::1' || /^127\.\d{1,3}\.\d{1,3}\.\d{1,3}$/.test(host);

const IDLE_SWEEP_MS = 20;
const DEFAULT_DRAIN_MS = 10_000;

export interface ListeningServer {
  /** `http://host:port`, with the port that was really taken. */
  readonly url: string;
  readonly host: string;
  readonly port: number;
  /** Stops accepting, lets requests in flight finish, closes idle sockets; after `drainMs` cuts what is left. */
  close(): Promise<void>;
}

/** Resolves when the server listens. Throws `settings_invalid` when the address cannot be taken. */
export const listen = async (
  server: Server,
  address: ListenAddress,
  options: { readonly drainMs?: number } = {},
): Promise<ListeningServer> => {
  await new Promise<void>((resolve, reject) => {
    const onError = (cause: unknown): void =>
      reject(
        new AppError(
          'settings_invalid',
          `cannot listen on ${address.host}:${address.port} (${errorCode(cause) ?? errorMessage(cause)})`,
          { cause },
        ),
      );
    server.once('error', onError);
    server.listen(address.port, address.host, () => {
      server.off('error', onError);
      // From now on an error is one connection that could not be accepted (EMFILE): it must not end the process.
      server.on('error', () => undefined);
      resolve();
    });
  });
  // Sockets that have not brought a whole request yet; the server counts them as busy, not as idle.
  const silent = new Set<Socket>();
  server.on('connection', (socket) => {
    silent.add(socket);
    socket.once('close', () => silent.delete(socket));
  });
  server.on('request', (request) => silent.delete(request.socket));
  const { port } = server.address() as AddressInfo;
  const shown = address.host.includes(':') ? `[${address.host}]` : address.host;
  let closing: Promise<void> | undefined;
  const close = (): Promise<void> =>
    new Promise((resolve) => {
      // A socket whose last answer is under way when closing starts becomes idle later, so idle ones are swept.
      const sweep = setInterval(() => server.closeIdleConnections(), IDLE_SWEEP_MS);
      const cut = setTimeout(() => server.closeAllConnections(), options.drainMs ?? DEFAULT_DRAIN_MS);
      server.close(() => {
        clearInterval(sweep);
        clearTimeout(cut);
        resolve();
      });
      for (const socket of silent) socket.destroy();
      server.closeIdleConnections();
    });
  return {
    url: `http://${shown}:${port}`,
    host: address.host,
    port,
    close: () => (closing ??= close()),
  };
};
