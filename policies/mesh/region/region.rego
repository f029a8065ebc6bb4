# METADATA
# title: Region
# description: Each leg must be in a region that may process the resource.
package mesh.region

import data.mesh.legs
import data.mesh.resource

# METADATA
# description: The legs whose region is in every region list of the resource.
permitted contains name if {
	lists := resource.region_lists
	some name, documents in legs.sources
	is_within(documents, lists)
}

# METADATA
# description: True when the documents name a region, and each that does names one that stands in every list.
is_within(documents, lists) if {
	regions := legs.values(documents, "region")
	count(regions) > 0
	every region in regions {
		is_string(region)
		_in_all(region, lists)
	}
}

# METADATA
# description: One reason for each known leg that is elsewhere, or nowhere.
deny contains reason if {
	resource.described
	lists := resource.region_lists
	some name in legs.known
	documents := legs.sources[name]
	not is_within(documents, lists)
	reason := {
		"code": "region_not_permitted",
		"leg": name,
		"rule": "MESH-REG-1",
		"message": "The region of this party may not process the resource.",
	}
}

_in_all(region, lists) if {
	every regions in lists {
		region in regions
	}
}
