# METADATA
# title: Clearance
# description: The clearance of each leg must reach the sensitivity of the resource.
package mesh.clearance

import data.mesh.legs
import data.mesh.resource

# METADATA
# description: The legs that are cleared for the resource.
permitted contains name if {
	levels := resource.levels
	least := resource.sensitivity
	some name, documents in legs.sources
	is_cleared(documents, levels, least)
}

# METADATA
# description: True when the documents name a clearance, and each that does reaches the level `least`.
is_cleared(documents, levels, least) if {
	clearances := legs.values(documents, "clearance")
	count(clearances) > 0
	every clearance in clearances {
		levels[clearance] >= least
	}
}

# METADATA
# description: One reason for each known leg whose clearance is missing, unknown or too low.
deny contains reason if {
	resource.described
	levels := resource.levels
	least := resource.sensitivity
	some name in legs.known
	documents := legs.sources[name]
	not is_cleared(documents, levels, least)
	reason := {
		"code": "clearance_too_low",
		"leg": name,
		"rule": "MESH-CLR-1",
		"message": "The clearance of this party does not reach the sensitivity of the resource.",
	}
}
