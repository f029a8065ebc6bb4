# METADATA
# title: Prohibitions
# description: |
#   Denials that no grant outweighs: a list in the directory, each entry with actions, domains and whether it holds for
#   every request or only where an agent acts. An entry that cannot be read denies everything until it is mended.
# schemas:
#   - input: schema.input
#   - data.directory: schema.directory
package mesh.prohibition

import data.mesh.resource

# METADATA
# description: One reason for each prohibition that applies.
deny contains reason if {
	some prohibition in data.directory.prohibitions
	input.action.name in prohibition.actions
	is_well_formed(prohibition)
	some domain in resource.domains
	domain in prohibition.domains
	_concerns(prohibition.applies_to)
	reason := {
		"code": "prohibited",
		"rule": prohibition.rule,
		"message": prohibition.message,
	}
}

deny contains reason if {
	not _readable
	reason := {
		"code": "policy_data_invalid",
		"rule": "MESH-PRO-1",
		"message": "The directory's prohibitions cannot be read, so nothing is permitted.",
	}
}

# METADATA
# description: True for a prohibition with every member of its type.
is_well_formed(prohibition) if {
	is_string(prohibition.rule)
	is_string(prohibition.message)
	is_array(prohibition.actions)
	is_array(prohibition.domains)
	_is_scope(prohibition.applies_to)
}

_readable if {
	is_array(data.directory.prohibitions)
	every prohibition in data.directory.prohibitions {
		is_well_formed(prohibition)
	}
}

_is_scope("everyone")

_is_scope("agents")

_concerns("everyone")

_concerns("agents") if input.agent
