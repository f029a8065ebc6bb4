/** `README.md` of every bundle: what somebody needs who has only the file. */
export const EVIDENCE_README = `# Evidence from an Edict ledger

An export of one log, with what proves it. Nothing in it has to be believed but one thing that is not in it: the log's
verifier key, which you should have from somewhere else (the operator's publication, an earlier audit). The copy in
keys/log.vkey proves nothing: whoever forges a bundle forges that too.

    edict audit verify --file BUNDLE.tar --vkey LOG.vkey

or, with Python 3.8 and nothing else, by a program that shares no code with the first:

    python3 verify-ledger.py BUNDLE.tar --vkey LOG.vkey

Both exit with 0 when nothing is wrong, with 1 when a verdict failed, with 2 when they could not begin. "not checked" is
neither good nor bad.

| member                    | holds                                                                                  |
| ------------------------- | -------------------------------------------------------------------------------------- |
| about.json                | who asked for what, of which log; the entry of the ledger that says so (access.begun)   |
| keys/log.vkey             | the log's verifier key, as the ledger says it (C2SP signed-note)                        |
| checkpoint                | the signed size and root of the log (C2SP tlog-checkpoint)                              |
| entries/NNNNNNNN.ndjson   | one entry a line: its bytes, salt, content type and payload in base64                   |
| manifest.json             | counts, the policies that occur, and the SHA-256 of every other member                  |

Scope "range" holds every entry between two checkpoints: the entries lead to the signed root, so none is missing or
altered, and the seals among them count decisions and reasons. Scope "filter" holds the decisions that a filter found,
each with a proof that it is in the log; whether one was left out, only a bundle of the range can show.

The SHA-256 of this whole file stands in the ledger too, in an access entry that was written right behind it: a bundle
of a later range has it.

By hand, for one line: leaf = SHA-256(0x00, entry); the commitment in the entry is
SHA-256("edict/rec/v1\\0", SHA-256("edict/raw/v1\\0", salt, u32 length, content type, u32 length, payload), SHA-256("")).
Every byte is described in docs/ledger.md of Edict, "Evidence bundle".
`;
