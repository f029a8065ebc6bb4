package mesh.request_test

import data.mesh.fixture_test as fixture
import data.mesh.request

wrong_names := [null, -1, 0, true, false, "", [], ["ann"], {}]

members := [
	["subject", "type"], ["subject", "id"],
	["agent", "type"], ["agent", "id"],
	["action", "name"],
	["resource", "type"], ["resource", "id"],
]

test_the_fixture_is_well_formed if {
	request.well_formed with input as fixture.request
	count(request.deny) == 0 with input as fixture.request
}

test_an_agent_may_be_absent if {
	request.well_formed with input as json.remove(fixture.request, ["agent"])
}

test_an_absent_member_denies if {
	every member in ["version", "subject", "action", "resource", "time"] {
		denied with input as object.remove(fixture.request, [member])
	}
	every path in members {
		denied with input as json.remove(fixture.request, [concat("/", path)])
	}
	denied with input as json.remove(fixture.request, ["agent/chain"])
	denied with input as json.remove(fixture.request, ["agent/chain/0/id"])
	denied with input as json.remove(fixture.request, ["time/ns"])
}

test_a_null_negative_or_wrongly_typed_member_denies if {
	every path in members {
		every value in wrong_names {
			denied with input as object.union(fixture.request, {path[0]: {path[1]: value}})
		}
	}
}

test_a_party_that_is_no_object_denies if {
	every value in [null, false, true, 0, -1, "", "ann", [], ["ann"]] {
		denied with input as object.union(fixture.request, {"subject": value})
		denied with input as object.union(fixture.request, {"agent": value})
		denied with input as object.union(fixture.request, {"agent": {"chain": [value]}})
	}
}

test_a_chain_that_is_no_list_denies if {
	every value in [null, false, true, -1, "scheduler", {}, {"0": {"type": "agent", "id": "scheduler"}}] {
		denied with input as object.union(fixture.request, {"agent": {"chain": value}})
	}
}

test_a_hop_with_a_wrong_name_denies if {
	every member in ["type", "id"] {
		every value in wrong_names {
			hop := object.union({"type": "agent", "id": "scheduler"}, {member: value})
			denied with input as object.union(fixture.request, {"agent": {"chain": [hop]}})
		}
	}
}

test_a_wrong_time_or_version_denies if {
	every value in [null, -1, 0, "1767268800000000000", true, [], {}] {
		denied with input as object.union(fixture.request, {"time": {"ns": value}})
	}
	every value in [null, 0, 2, "1", true, [], {}] {
		denied with input as object.union(fixture.request, {"version": value})
	}
}

test_an_input_that_is_no_object_denies if {
	every value in [null, false, 0, "", []] {
		denied with input as value
	}
}

denied if {
	not request.well_formed
	some reason in request.deny
	reason.code == "request_malformed"
	reason.rule == "MESH-REQ-1"
}
