import { createServer, type Server } from 'node:http';

/**
 * The yardstick: `node:http` that reads the same body, parses it and answers a constant of the same size as a decision.
 * Not listening yet.
 */
export const createBareServer = (answerBytes: number): Server => {
  const frame = { decision: 'deny', allow: false, padding: '' };
  const padding = Math.max(0, answerBytes - JSON.stringify(frame).length);
  const answer = Buffer.from(JSON.stringify({ ...frame, padding: 'x'.repeat(padding) }), 'utf8');
  return createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on('data', (chunk: Buffer) => chunks.push(chunk));
    request.on('end', () => {
      const body: unknown = JSON.parse(Buffer.concat(chunks).toString('utf8'));
      response.writeHead(typeof body === 'object' ? 200 : 400, {
        'content-type': 'application/json',
        'content-length': answer.length,
      });
      response.end(answer);
    });
  });
};

// Run as a process of its own (`fork`): tells its parent the port and ends with it.
if (process.send !== undefined && process.argv[2] === '--bare-server') {
  const server = createBareServer(Number(process.argv[3]));
  server.listen(0, '127.0.0.1', () => {
    const address = server.address();
    if (typeof address === 'object' && address !== null) process.send?.({ port: address.port });
  });
  process.once('disconnect', () => process.exit(0));
}
