# METADATA
# title: Obligations and advice
# description: |
#   What the caller must do with an allow (`redact`, `rate_limit`), and what it should do (`log`). An obligation that
#   cannot be stated in full is a deny.
# schemas:
#   - input: schema.input
#   - data.directory: schema.directory
package mesh.obligation

import data.mesh.legs
import data.mesh.purpose
import data.mesh.resource

# METADATA
# description: What must be carried out, else the caller has to deny.
obligations contains obligation if {
	purpose.entry.detail == "aggregate"
	some i, columns in _column_lists
	obligation := {
		"id": concat("/", ["MESH-OBL-1", format_int(i, 10)]),
		"type": "redact",
		"properties": {"columns": columns},
	}
}

obligations contains obligation if {
	some name, limits in _limits
	every limit in limits {
		_is_limit(limit)
	}
	obligation := {
		"id": concat("/", ["MESH-OBL-2", name]),
		"type": "rate_limit",
		"properties": {"leg": name, "calls_per_minute": min(limits)},
	}
}

# METADATA
# description: What may be ignored.
advice contains {"id": "MESH-ADV-1", "type": "log", "properties": {"level": "full"}} if {
	resource.sensitivity >= resource.levels.restricted
}

# METADATA
# description: Obligations that are due and cannot be stated.
deny contains reason if {
	resource.described
	purpose.entry.detail == "aggregate"
	not _columns_known
	reason := {
		"code": "resource_columns_missing",
		"rule": "MESH-OBL-1",
		"message": "The purpose needs redaction, but the catalogue does not say which columns are about persons.",
	}
}

deny contains reason if {
	some name, limits in _limits
	some limit in limits
	not _is_limit(limit)
	reason := {
		"code": "rate_limit_invalid",
		"leg": name,
		"rule": "MESH-OBL-2",
		"message": "The rate limit of this party is not a whole number above zero.",
	}
}

# A tool has no columns to redact.
_column_lists := [] if input.resource.type == "tool"

_column_lists := legs.values(resource.sources, "personal_columns") if input.resource.type != "tool"

_columns_known if input.resource.type == "tool"

_columns_known if {
	count(_column_lists) > 0
	every columns in _column_lists {
		is_array(columns)
		every column in columns {
			is_string(column)
		}
	}
}

# The rate limits that the sources of each leg name, for the legs that have any.
_limits[name] := limits if {
	some name, documents in legs.sources
	limits := legs.values(documents, "calls_per_minute")
	count(limits) > 0
}

_is_limit(limit) if {
	is_number(limit)
	limit >= 1
	limit == floor(limit)
}
