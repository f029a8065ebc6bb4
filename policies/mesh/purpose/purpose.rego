# METADATA
# title: Purpose
# description: |
#   The task that the subject gave must be a purpose of the directory, and that purpose must permit the action in every
#   domain of the resource, or the tool. A purpose says how much detail it needs: `rows`, or `aggregate` (then columns
#   about persons are redacted).
# schemas:
#   - input: schema.input
#   - data.directory: schema.directory
package mesh.purpose

import data.mesh.entitlement
import data.mesh.resource

default stated := false

# METADATA
# description: True when the request states a purpose.
stated if {
	is_string(input.context.purpose)
	input.context.purpose != ""
}

# METADATA
# description: The directory's entry of the stated purpose.
entry := document if {
	is_string(input.context.purpose)
	input.context.purpose != ""
	document := data.directory.purposes[input.context.purpose]
	is_object(document)
}

default permitted := false

# METADATA
# description: True when the stated purpose permits the action on the resource.
permitted if {
	input.resource.type != "tool"
	document := entry
	_is_detail(document.detail)
	entitlement.covers(document.entitlements, resource.domains, input.action.name)
}

permitted if {
	entitlement.is_tool_call(input.resource, input.action.name)
	document := entry
	_is_detail(document.detail)
	is_array(document.tools)
	input.resource.id in document.tools
}

# METADATA
# description: At most one reason - no purpose, or one that does not permit this.
deny contains reason if {
	not stated
	reason := {
		"code": "purpose_missing",
		"rule": "MESH-PUR-1",
		"message": "The request states no purpose.",
	}
}

deny contains reason if {
	stated
	resource.described
	not permitted
	reason := {
		"code": "purpose_not_permitted",
		"rule": "MESH-PUR-2",
		"message": "The stated purpose does not permit this action on this resource.",
	}
}

_is_detail("rows")

_is_detail("aggregate")
