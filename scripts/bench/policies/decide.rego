# What OPA's server, Cerbos (cerbos.yaml) and the decision point decide alike: grants of roles, then attributes.
package edict

# METADATA
# entrypoint: true
decide := {
	"version": 1,
	"allow": allow,
	"reasons": [],
	"obligations": [],
	"advice": [],
	"legs": {"subject": allow},
}

default allow := false

allow if {
	input.action.name == "read"
	_has_role({"analyst", "manager"})
	input.subject.properties.department == input.resource.properties.department
	input.subject.properties.clearance >= input.resource.properties.sensitivity
}

allow if {
	input.action.name == "approve"
	_has_role({"manager"})
	input.resource.properties.owner != input.subject.id
	input.resource.properties.amount <= data.limits[input.subject.properties.grade]
}

allow if {
	input.action.name == "delete"
	_has_role({"admin"})
	input.resource.properties.state in {"draft", "rejected"}
}

_has_role(roles) if {
	some role in input.subject.properties.roles
	role in roles
}
