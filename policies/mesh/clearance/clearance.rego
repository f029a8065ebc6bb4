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
	able := permitted
	some name in legs.known
	not name in able
	reason := {
		"code": "clearance_too_low",
		"leg": name,
		"rule": "MESH-CLR-1",
		"message": "The clearance of this party does not reach the sensitivity of the resource.",
	}
}
