import { readWalMessage, type ChangedRelation } from '../../../services/audit/core/wal-changes.ts';

describe('a change in the write-ahead log', () => {
  it('shortens the text of a key without halving a character', () => {
    const relations = new Map<number, ChangedRelation>([[7, { name: 'edict.tenant', keyColumns: ['name'] }]]);
    const value = Buffer.from(`${'a'.repeat(199)}😀 and more`, 'utf8');
    const head = Buffer.from([0x44, 0, 0, 0, 7, 0x4b, 0, 1, 0x74, 0, 0, 0, value.length]);
    const message = readWalMessage(Buffer.concat([head, value]), relations);
    if (message.kind !== 'delete') throw new Error(`is ${message.kind}`);
    expect(message.key).toEqual([{ column: 0, value: `${'a'.repeat(199)}😀` }]);
  });
});
