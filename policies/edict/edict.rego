# METADATA
# title: Edict
# description: |
#   The one entrypoint. A request is allowed when it is well-formed, its resource is described, its purpose permits it,
#   every leg is permitted on its own by every rule, and no rule denies.
# schemas:
#   - input: schema.input
#   - data.directory: schema.directory
package edict

import data.mesh.clearance
import data.mesh.entitlement
import data.mesh.legs
import data.mesh.obligation
import data.mesh.prohibition
import data.mesh.purpose
import data.mesh.region
import data.mesh.request
import data.mesh.resource
import data.mesh.time_window

# METADATA
# title: Decision
# description: The answer to one request, in the form of the published output schema.
# entrypoint: true
# custom:
#   rule_id: EDICT-1
decide := object.union(_answer, {"expires_in_s": reuse_s})

decide := _answer if not reuse_s

default allow := false

# METADATA
# description: True when every rule permits and none denies.
allow if {
	request.well_formed
	resource.described
	purpose.permitted
	count(_denials) == 0
	every permitted in leg_results {
		permitted == true
	}
}

# METADATA
# description: For each leg whether every rule permits it on its own.
leg_results[name] := name in _permitted_legs if some name, _ in legs.parties

# METADATA
# description: How long the answer may be reused, in seconds; undefined where it may not be.
reuse_s := seconds if {
	allow
	some level, seconds in data.directory.reuse_s
	resource.levels[level] == resource.sensitivity
	is_number(seconds)
	seconds > 0
	seconds <= 3600
	count(obligation.obligations) == 0
	every name, _ in leg_results {
		name in time_window.unbounded
	}
}

_permitted_legs := _able_legs - {denial.leg | some denial in _denials}

_able_legs := (((legs.active & entitlement.permitted) & clearance.permitted) & region.permitted) & time_window.permitted

_denials := (((_shape_denials | _leg_denials) | purpose.deny) | prohibition.deny) | obligation.deny

_shape_denials := request.deny | resource.deny

_leg_denials := (((legs.deny | entitlement.deny) | clearance.deny) | region.deny) | time_window.deny

_answer := {
	"version": 1,
	"allow": true,
	"reasons": [{"code": "permitted", "rule": "EDICT-1", "message": "Every party is permitted on its own."}],
	"obligations": sort(obligation.obligations),
	"advice": sort(obligation.advice),
	"legs": leg_results,
} if {
	allow
}

_answer := {
	"version": 1,
	"allow": false,
	"reasons": sort(_denials),
	"obligations": [],
	"advice": [],
	"legs": leg_results,
} if {
	not allow
}
