import { Command } from 'commander';
import { auditArtifactCommand } from './audit-artifact.ts';
import { auditCheckpointCommand } from './audit-checkpoint.ts';
import { auditDrillCommand } from './audit-drill.ts';
import { auditEmitterCommand } from './audit-emitter.ts';
import { auditEraseCommand } from './audit-erase.ts';
import { auditExportCommand } from './audit-export.ts';
import { auditQueryCommand } from './audit-query.ts';
import { auditRetainCommand } from './audit-retain.ts';
import { auditShowCommand } from './audit-show.ts';
import { auditVerifyCommand } from './audit-verify.ts';
import { auditVerifyProofCommand } from './audit-verify-proof.ts';

const common = (command: Command): Command =>
  command
    .option('-t, --tenant <name>', 'the tenant; the credential’s own when left out')
    .option('--url <url>', 'address of the audit service (default: audit.listen of the settings)')
    .option('--key-file <file>', 'file with the API key of an auditor')
    .option('-c, --config <file>', 'settings file (default: the environment variable EDICT_CONFIG)')
    .option('--json', 'one JSON document');

export const auditCommand = (): Command => {
  const audit = new Command('audit').description('query and verify the decision ledger');
  audit.addCommand(auditQueryCommand(common));
  audit.addCommand(auditExportCommand(common));
  audit.addCommand(auditShowCommand(common));
  audit.addCommand(auditVerifyCommand(common));
  audit.addCommand(auditVerifyProofCommand());
  audit.addCommand(auditCheckpointCommand(common));
  audit.addCommand(auditArtifactCommand(common));
  audit.addCommand(auditDrillCommand());
  audit.addCommand(auditEmitterCommand());
  audit.addCommand(auditEraseCommand(common));
  audit.addCommand(auditRetainCommand());
  return audit;
};
