# METADATA
# title: Request shape
# description: |
#   The members that other rules build on must be there with the right type. A hop list that is not a list, for
#   example, would otherwise drop its hops.
# schemas:
#   - input: schema.input
package mesh.request

default well_formed := false

# METADATA
# description: True when every member that a rule reads to find legs, action, resource and time has its type.
well_formed if {
	input.version == 1
	is_party(input.subject)
	_agent_well_formed(input)
	_is_name(input.action.name)
	_is_name(input.resource.type)
	_is_name(input.resource.id)
	is_number(input.time.ns)
	input.time.ns > 0
}

# METADATA
# description: The only reason of this package.
deny contains reason if {
	not well_formed
	reason := {
		"code": "request_malformed",
		"rule": "MESH-REQ-1",
		"message": "The request lacks a member that every decision needs, or one has the wrong type.",
	}
}

# METADATA
# description: True for a party with a type and an id.
is_party(party) if {
	is_object(party)
	_is_name(party.type)
	_is_name(party.id)
}

_agent_well_formed(request) if not _has_agent(request)

_agent_well_formed(request) if {
	is_party(request.agent)
	is_array(request.agent.chain)
	every hop in request.agent.chain {
		is_party(hop)
	}
}

# Also where the agent is `false` or `null`.
_has_agent(request) if _ := request.agent

_is_name(value) if {
	is_string(value)
	value != ""
}
