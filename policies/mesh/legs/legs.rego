# METADATA
# title: Legs
# description: |
#   The parties whose own rights are tested, and where their attributes come from: the directory in `data`, and the
#   request's `properties` where the party is verified. An attribute that two sources name must permit in both, so a
#   second source narrows; an attribute that no source names permits nothing.
# schemas:
#   - input: schema.input
#   - data.directory: schema.directory
package mesh.legs

# METADATA
# description: Every leg of the request by name (`subject`, `agent`, `chain/0` …), as it came in.
parties["subject"] := input.subject

parties["agent"] := input.agent

parties[name] := hop if {
	some i, hop in input.agent.chain
	name := concat("/", ["chain", format_int(i, 10)])
}

# METADATA
# description: The attribute documents that speak for a leg; empty for a leg that nobody knows.
sources[name] := _documents(name, party) if some name, party in parties

# METADATA
# description: The legs that at least one source speaks for.
known contains name if {
	some name, documents in sources
	count(documents) > 0
}

# METADATA
# description: The legs that may act at all - known, and `active` in every source that names a status.
active contains name if {
	some name, documents in sources
	is_active(documents)
}

# METADATA
# description: True when the documents name a status, and each that does says `active`.
is_active(documents) if {
	statuses := values(documents, "status")
	count(statuses) > 0
	every status in statuses {
		status == "active"
	}
}

# METADATA
# description: One reason for each leg that is known and not active.
deny contains reason if {
	some name, documents in sources
	count(documents) > 0
	not is_active(documents)
	reason := {
		"code": "leg_not_active",
		"leg": name,
		"rule": "MESH-LEG-1",
		"message": "This party is not active in the directory.",
	}
}

# METADATA
# description: What the documents say of one attribute, `null` and `false` included.
values(documents, attribute) := [value |
	some document in documents
	value := document[attribute]
]

_documents(name, party) := array.concat(_directory_entry(name, party), [party.properties]) if _speaks(party)

else := _directory_entry(name, party)

_directory_entry(name, party) := [entry] if {
	is_object(party)
	entry := data.directory[_folder(name)][party.type][party.id]
	is_object(entry)
}

else := []

# The request speaks for a party that the caller vouches for.
_speaks(party) if {
	is_object(party)
	party.verified == true
	is_object(party.properties)
	count(party.properties) > 0
}

_folder(name) := "subjects" if name == "subject"

else := "agents"
