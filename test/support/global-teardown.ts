import './global-setup.ts';

/** Stops what the global set-up started. */
export default async function stopSharedParts(): Promise<void> {
  await globalThis.edictTestPostgres?.close();
}
