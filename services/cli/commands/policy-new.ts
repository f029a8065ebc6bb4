import { mkdir, readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { AppError, errorCode, errorMessage } from '../../shared/contracts/errors.ts';
import { isObject } from '../../shared/contracts/json.ts';

const PACKAGE = /^[a-z][a-z0-9_]*(\/[a-z][a-z0-9_]*)*$/;

/** Keywords of Rego v1, which no path may hold, and the two documents that an import of such a name would hide. */
const RESERVED: ReadonlySet<string> = new Set(
  'as contains default else every false if import in not null package some true with data input'.split(' '),
);

const moduleText = (packageName: string, ruleId: string): string => `# METADATA
# title: ${packageName}
# description: Denies every request that does not state a reason of its own; say here what this rule is for.
# schemas:
#   - input: schema.input
package ${packageName}

default permitted := false

# METADATA
# description: True when the request may pass this rule. A missing or wrongly typed member leaves it false.
permitted if {
	is_string(input.context.reason)
	input.context.reason != ""
}

# METADATA
# description: At most one reason.
deny contains reason if {
	not permitted
	reason := {
		"code": "reason_missing",
		"rule": "${ruleId}",
		"message": "The request states no reason.",
	}
}
`;

const testText = (packageName: string): string => {
  const name = packageName.split('.').at(-1) ?? packageName;
  return `package ${packageName}_test

import data.${packageName}

test_a_request_with_a_reason_passes if {
	count(${name}.deny) == 0 with input as {"context": {"reason": "audit"}}
}

test_a_missing_empty_or_wrongly_typed_reason_denies if {
	every context in [{}, {"reason": ""}, {"reason": null}, {"reason": -1}, {"reason": ["audit"]}] {
		count(${name}.deny) == 1 with input as {"context": context}
	}
}
`;
};

/** Roots that hold all data: pushed data has no place beside such a bundle. */
export const notesOfRoots = (roots: readonly string[], policiesFolder: string): readonly string[] =>
  roots.includes('')
    ? [`${path.join(policiesFolder, '.manifest')} names no roots: the bundle owns all data, and none can be pushed`]
    : [];

/** The roots of the folder's `.manifest`: what its bundle may hold. Without one there is one root, the empty path. */
export const rootsOf = async (policiesFolder: string): Promise<readonly string[]> => {
  const file = path.join(policiesFolder, '.manifest');
  try {
    const manifest: unknown = JSON.parse(await readFile(file, 'utf8'));
    const roots = isObject(manifest) ? manifest['roots'] : undefined;
    return Array.isArray(roots) ? roots.map(String) : [''];
  } catch (cause) {
    if (errorCode(cause) === 'ENOENT') return [''];
    throw new AppError('usage', `${file} cannot be read (${errorCode(cause) ?? errorMessage(cause)})`, { cause });
  }
};

const isBelow = (packagePath: string, root: string): boolean =>
  root === '' || packagePath === root || packagePath.startsWith(`${root}/`);

/**
 * Writes a rule module and its tests for the package `mesh/approval` (say) below the policies folder. Gives the files.
 * Throws `usage` when the name is no package path or lies outside the manifest's roots, or one of the files exists.
 */
export const createModule = async (policiesFolder: string, packagePath: string): Promise<readonly string[]> => {
  if (!PACKAGE.test(packagePath)) {
    throw new AppError('usage', `${packagePath} is no package path such as mesh/approval (lower case, digits, _)`);
  }
  const parts = packagePath.split('/');
  const reserved = parts.find((part) => RESERVED.has(part));
  if (reserved !== undefined) throw new AppError('usage', `${packagePath}: ${reserved} is reserved by Rego`);
  const roots = await rootsOf(policiesFolder);
  if (!roots.some((root) => isBelow(packagePath, root))) {
    const message = `${packagePath} lies in no root of ${path.join(policiesFolder, '.manifest')} (${roots.join(', ')})`;
    throw new AppError('usage', `${message}: a bundle with it could not be built`);
  }
  const packageName = parts.join('.');
  const stem = path.join(policiesFolder, ...parts, parts.at(-1) ?? '');
  const ruleId = `${parts.join('-').replaceAll('_', '-').toUpperCase()}-1`;
  const files = [
    [`${stem}.rego`, moduleText(packageName, ruleId)],
    [`${stem}_test.rego`, testText(packageName)],
  ] as const;
  await mkdir(path.dirname(stem), { recursive: true });
  for (const [file, text] of files) {
    try {
      await writeFile(file, text, { flag: 'wx' });
    } catch (cause) {
      if (errorCode(cause) === 'EEXIST') throw new AppError('usage', `${file} exists; nothing was changed`, { cause });
      throw new AppError('usage', `cannot write ${file}`, { cause });
    }
  }
  return files.map(([file]) => file);
};
