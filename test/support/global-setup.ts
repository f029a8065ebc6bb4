import { sharedServerVariable, startPostgres, type PostgresServer } from './postgres.ts';

declare global {
  // Jest runs set-up and tear-down in one process; this is how the one hands the server to the other.
  var edictTestPostgres: PostgresServer | undefined;
}

/** Starts the Postgres server that all test files of this run share. */
export default async function startSharedParts(): Promise<void> {
  const server = await startPostgres();
  globalThis.edictTestPostgres = server;
  process.env[sharedServerVariable] = server.adminUrl;
}
