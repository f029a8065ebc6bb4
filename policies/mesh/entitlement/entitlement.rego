# METADATA
# title: Entitlements
# description: |
#   What each leg may do. For a tool: the leg's `tools` names it. For everything else: the leg's `entitlements` give the
#   action in every domain of the resource.
# schemas:
#   - input: schema.input
package mesh.entitlement

import data.mesh.legs
import data.mesh.resource

# METADATA
# description: The legs that may do this action on this resource.
permitted contains name if {
	target := input.resource
	action := input.action.name
	some name, documents in legs.sources
	is_entitled(documents, target, action)
}

# METADATA
# description: |
#   True when the documents grant something, and each that does grants the action - in every domain, or for a tool by
#   the tool's name.
is_entitled(documents, target, action) if {
	target.type != "tool"
	domains := resource.domains
	granted := legs.values(documents, "entitlements")
	count(granted) > 0
	every entitlements in granted {
		covers(entitlements, domains, action)
	}
}

is_entitled(documents, target, action) if {
	is_tool_call(target, action)
	granted := legs.values(documents, "tools")
	count(granted) > 0
	every tools in granted {
		is_array(tools)
		target.id in tools
	}
}

# METADATA
# description: One reason for each leg that is not entitled.
deny contains reason if {
	resource.described
	able := permitted
	some name, _ in legs.parties
	not name in able
	reason := _reason(name)
}

# METADATA
# description: True when the entitlements give the action in each of the domains.
covers(entitlements, domains, action) if {
	is_object(entitlements)
	every domain in domains {
		is_array(entitlements[domain])
		action in entitlements[domain]
	}
}

# METADATA
# description: True when the action calls a tool - `call`, or the tool's own name.
is_tool_call(target, action) if {
	target.type == "tool"
	action in {"call", target.id}
}

_reason(name) := {
	"code": "subject_not_entitled",
	"leg": name,
	"rule": "MESH-ENT-1",
	"message": "The subject has no entitlement for this action on this resource.",
} if {
	name == "subject"
}

_reason(name) := {
	"code": "agent_not_entitled",
	"leg": name,
	"rule": "MESH-ENT-2",
	"message": "The agent has no entitlement of its own for this action on this resource.",
} if {
	name == "agent"
}

_reason(name) := {
	"code": "chain_not_entitled",
	"leg": name,
	"rule": "MESH-ENT-3",
	"message": "An earlier actor has no entitlement of its own for this action on this resource.",
} if {
	startswith(name, "chain/")
}
