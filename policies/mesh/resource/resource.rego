# METADATA
# title: Resource
# description: |
#   What the resource is: its domains, its sensitivity level and the regions that may process it. The catalogue in
#   `data` speaks first. What the request says of a resource counts only for a caller with `believe_unverified`, and
#   then it narrows: the stricter sensitivity wins, every named domain must be permitted, every region list must hold.
# schemas:
#   - input: schema.input
#   - data.directory: schema.directory
package mesh.resource

import data.mesh.legs

# METADATA
# description: Sensitivity and clearance levels, lowest first.
levels := {"public": 0, "internal": 1, "confidential": 2, "restricted": 3}

# METADATA
# description: The names of the levels, by level.
level_names := ["public", "internal", "confidential", "restricted"]

# METADATA
# description: The documents that speak for the resource.
sources := array.concat(_entries(input), [input.resource.properties]) if {
	input.caller.properties.believe_unverified == true
	is_object(input.resource.properties)
	count(input.resource.properties) > 0
} else := _entries(input)

# METADATA
# description: Every domain that the resource belongs to; undefined when a source names something else than a domain.
domains := named if {
	named := legs.values(sources, "domain")
	count(named) > 0
	every domain in named {
		is_string(domain)
		domain != ""
	}
}

# METADATA
# description: The strictest level that a source names; undefined when one names no level of ours.
sensitivity := max(named_levels) if {
	named := legs.values(sources, "sensitivity")
	count(named) > 0
	named_levels := [level |
		some name in named
		level := levels[name]
	]
	count(named_levels) == count(named)
}

# METADATA
# description: Every list of regions that a source names; undefined when one of them is no list.
region_lists := named if {
	named := legs.values(sources, "regions")
	count(named) > 0
	every regions in named {
		is_array(regions)
	}
}

default described := false

# METADATA
# description: True when the resource is known with everything that the rules need.
described if {
	domains
	sensitivity >= 0
	region_lists
}

# METADATA
# description: Why the resource is not known well enough.
deny contains reason if {
	count(sources) == 0
	reason := {
		"code": "resource_unknown",
		"rule": "MESH-RES-1",
		"message": "The catalogue has no such resource.",
	}
}

deny contains reason if {
	count(sources) > 0
	not domains
	reason := {
		"code": "resource_domain_missing",
		"rule": "MESH-RES-2",
		"message": "The resource has no usable domain.",
	}
}

deny contains reason if {
	count(sources) > 0
	not sensitivity
	reason := {
		"code": "resource_sensitivity_missing",
		"rule": "MESH-RES-3",
		"message": "The resource has no usable sensitivity.",
	}
}

deny contains reason if {
	count(sources) > 0
	not region_lists
	reason := {
		"code": "resource_regions_missing",
		"rule": "MESH-RES-4",
		"message": "The resource does not say which regions may process it.",
	}
}

_entries(request) := [document] if {
	document := data.directory.resources[request.resource.type][request.resource.id]
	is_object(document)
}

else := []
