import { databaseError } from '../../../services/audit/core/database.ts';

describe('what a database refuses', () => {
  it('names the missing role when a login lacks a privilege, and nothing else does', () => {
    const refused = (code: string) => databaseError({ code, message: 'permission denied for table entry' });
    expect(refused('42501')).toMatchObject({ code: 'internal', details: { sqlstate: '42501' } });
    expect(refused('42501').message).toMatch(/SQLSTATE 42501\); .*migrations\/roles\.sql/);
    expect(refused('42P01').message).not.toMatch(/roles\.sql/);
  });
});
