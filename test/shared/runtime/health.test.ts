import express from 'express';
import { createServer } from 'node:http';
import { healthHandlers, readiness, type Checks } from '../../../services/shared/runtime/health.ts';
import { listen } from '../../../services/shared/runtime/http-server.ts';

describe('readiness', () => {
  it('is ready when every check is ok, and shows facts of what is degraded', async () => {
    const found = await readiness({ bundle: () => ({ ok: true, facts: { reload: 'failed: no wasm' } }) });
    expect(found).toEqual({
      ready: true,
      failing: [],
      checks: { bundle: { ok: true, facts: { reload: 'failed: no wasm' } } },
    });
  });

  it('names checks that say no, throw, or do not answer in time', async () => {
    const found = await readiness(
      {
        fine: () => ({ ok: true }),
        no: () => ({ ok: false, reason: 'spool full' }),
        throws: () => {
          throw new Error('broken');
        },
        hangs: () => new Promise(() => undefined),
      },
      20,
    );
    expect(found.failing).toEqual(['no', 'throws', 'hangs']);
    expect(found.checks['throws']).toEqual({ ok: false, reason: 'broken' });
  });

  it('answers 200 or 503 over HTTP', async () => {
    const state = { ok: true };
    const checks: Checks = { spool: () => (state.ok ? { ok: true } : { ok: false, reason: 'full' }) };
    const { live, ready } = healthHandlers(checks, { failureMembers: { decision: 'deny' } });
    const app = express().get('/health/live', live).get('/health/ready', ready);
    const server = await listen(createServer(app), { host: '127.0.0.1', port: 0 });
    try {
      expect((await fetch(`${server.url}/health/live`)).status).toBe(200);
      expect((await fetch(`${server.url}/health/ready`)).status).toBe(200);
      state.ok = false;
      const response = await fetch(`${server.url}/health/ready`);
      expect(response.status).toBe(503);
      expect(await response.json()).toEqual({
        status: 'unavailable',
        failing: ['spool'],
        decision: 'deny',
        checks: { spool: { ok: false, reason: 'full' } },
      });
    } finally {
      await server.close();
    }
  });
});
