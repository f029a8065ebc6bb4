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
decide := object.union(
	{
		"version": 1,
		"allow": true,
		"reasons": [{"code": "permitted", "rule": "EDICT-1", "message": "Every party is permitted on its own."}],
		"obligations": sort(obligation.obligations),
		"advice": sort(obligation.advice),
		"legs": leg_results,
	},
	{"expires_in_s": seconds | seconds := reuse_s},
) if {
	allow
}

decide := {
	"version": 1,
	"allow": false,
	"reasons": sort(_denials),
	"obligations": [],
	"advice": [],
	"legs": leg_results,
} if {
	not allow
}

default allow := false

# METADATA
# description: True when every rule permits and none denies.
allow if {
	request.well_formed
	resource.described
	purpose.permitted
	count(_able_legs) == count(legs.parties)
	count(_vetoes) == 0
}

# METADATA
# description: For each leg whether every rule permits it on its own.
leg_results := {name: true | some name in _able_legs} if allow

leg_results := {name: is_able |
	some name, _ in legs.parties
	is_able := name in permitted
} if {
	not allow
	permitted := _able_legs - {denial.leg | some denial in _denials}
}

# METADATA
# description: How long the answer may be reused, in seconds; undefined where it may not be.
reuse_s := seconds if {
	allow
	seconds := data.directory.reuse_s[resource.level_names[resource.sensitivity]]
	is_number(seconds)
	seconds > 0
	seconds <= 3600
	count(obligation.obligations) == 0
	every name, _ in leg_results {
		name in time_window.unbounded
	}
}

# The legs that every rule permits; whether a rule denies them all the same is another question.
_able_legs contains name if {
	levels := resource.levels
	least := resource.sensitivity
	lists := resource.region_lists
	target := input.resource
	action := input.action.name
	windows := data.directory.windows
	ns := input.time.ns
	some name, documents in legs.sources
	legs.is_active(documents)
	entitlement.is_entitled(documents, target, action)
	clearance.is_cleared(documents, levels, least)
	region.is_within(documents, lists)
	time_window.is_in_time(documents, windows, ns)
}

# One set that grows: `|` would make and hash another with each operand. Reasons that cannot be there are not looked for.
_denials contains reason if {
	not request.well_formed
	some reason in request.deny
}

_denials contains reason if {
	not resource.described
	some reason in resource.deny
}

_denials contains reason if {
	count(_able_legs) < count(legs.parties)
	some reasons in [legs.deny, entitlement.deny, clearance.deny, region.deny, time_window.deny]
	some reason in reasons
}

_denials contains reason if {
	not purpose.permitted
	some reason in purpose.deny
}

_denials contains reason if some reason in _vetoes

# Denials of modules that `allow` asks nothing else. The other reasons say which condition of `allow` failed: to look for
# them where none did would cost each allow as much again.
_vetoes contains reason if some reason in prohibition.deny

_vetoes contains reason if some reason in obligation.deny
