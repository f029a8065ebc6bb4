import { createServer } from 'node:http';
import express from 'express';
import { healthHandlers, type Checks } from './health.ts';
import { listen, parseListen, type ListeningServer } from './http-server.ts';
import type { Registry } from './metrics.ts';

/**
 * Answers `/health/live`, `/health/ready` and `/metrics` for a program that answers nothing else. `measure` comes before
 * metrics are read; when it rejects the last figures stand. Rejects with `settings_invalid` for an address that is none.
 */
export const listenHealth = async (
  address: string,
  { checks, registry, measure }: { checks: Checks; registry: Registry; measure?: () => Promise<unknown> },
): Promise<ListeningServer> => {
  const app = express().disable('x-powered-by');
  const health = healthHandlers(checks);
  app.get('/health/live', health.live);
  app.get('/health/ready', health.ready);
  app.get('/metrics', async (_request, response) => {
    await measure?.().catch(() => undefined);
    response.type(registry.contentType).send(await registry.metrics());
  });
  return await listen(createServer(app), parseListen(address));
};
