import { createServer } from 'node:http';

/**
 * The yardstick: `node:http` that reads the same body, parses it and answers a constant of the same size as a decision.
 * Tells its parent the port; ends with it.
 */
const [, , answerBytes = '1000'] = process.argv;
const frame = { decision: 'deny', allow: false, padding: '' };
const padding = Math.max(0, Number(answerBytes) - JSON.stringify(frame).length);
const answer = Buffer.from(JSON.stringify({ ...frame, padding: 'x'.repeat(padding) }), 'utf8');

const server = createServer((request, response) => {
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
server.listen(0, '127.0.0.1', () => {
  const address = server.address();
  if (typeof address === 'object' && address !== null) process.send?.({ port: address.port });
});
process.once('disconnect', () => process.exit(0));
