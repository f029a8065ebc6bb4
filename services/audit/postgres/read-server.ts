import type { Sql } from '../core/append.ts';

interface ServerRow {
  readonly checksums: string;
  readonly fsync: string;
  readonly full_page_writes: string;
  readonly synchronous_commit: string;
  readonly is_superuser: boolean;
  readonly is_owner: boolean;
}

/**
 * What a ledger's server lacks, one sentence each, for the writer's own session. None of it stops the service: each is
 * a promise that somebody relies on and that is void.
 */
export const readServerWarnings = async (sql: Pick<Sql, 'query'>): Promise<readonly string[]> => {
  const [row] = await sql.query<ServerRow>(
    `select current_setting('data_checksums') as checksums, current_setting('fsync') as fsync,
            current_setting('full_page_writes') as full_page_writes,
            current_setting('synchronous_commit') as synchronous_commit,
            r.rolsuper or r.rolbypassrls as is_superuser, pg_has_role('edict_owner', 'member') as is_owner
     from pg_roles r where r.rolname = current_user`,
    [],
  );
  if (row === undefined) return [];
  const found: readonly (readonly [isWrong: boolean, warning: string])[] = [
    [row.checksums !== 'on', 'data_checksums are off: a disk that alters pages is noticed by verification only'],
    [row.fsync !== 'on', 'fsync is off: a power cut may take entries that were acknowledged'],
    [row.full_page_writes !== 'on', 'full_page_writes are off: a power cut may tear pages'],
    [row.synchronous_commit === 'off', 'synchronous_commit is off: a crash may take entries that were acknowledged'],
    [row.is_superuser, 'the writer’s login is a superuser or passes by row-level security: its role is void'],
    [!row.is_superuser && row.is_owner, 'the writer’s login may act as edict_owner: its role is void'],
  ];
  return found.flatMap(([isWrong, warning]) => (isWrong ? [warning] : []));
};
