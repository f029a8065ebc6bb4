package mesh.legs_test

import data.mesh.fixture_test as fixture
import data.mesh.legs

test_each_party_is_a_leg if {
	{name | some name, _ in legs.parties} == {"subject", "agent", "chain/0"} with input as fixture.request
}

test_without_agent_the_subject_is_the_only_leg if {
	alone := json.remove(fixture.request, ["agent"])
	{name | some name, _ in legs.parties} == {"subject"} with input as alone
}

test_a_hop_beyond_the_first_is_a_leg_of_its_own if {
	hop := {"type": "agent", "id": "scheduler", "properties": {}, "verified": false}
	long := object.union(fixture.request, {"agent": {"chain": [hop, hop, hop]}})
	legs.active == {"subject", "agent", "chain/0", "chain/1", "chain/2"} with input as long
		with data.directory as fixture.directory
}

test_active_parties_are_active if {
	legs.active == {"subject", "agent", "chain/0"} with input as fixture.request
		with data.directory as fixture.directory
	count(legs.deny) == 0 with input as fixture.request with data.directory as fixture.directory
}

test_absent_status_is_not_active if {
	every leg, _ in fixture.entries {
		denied_for(leg) with input as fixture.request
			with data.directory as fixture.without_attribute(leg, "status")
	}
}

test_null_negative_or_wrongly_typed_status_is_not_active if {
	every leg, _ in fixture.entries {
		every value in fixture.wrong_values {
			denied_for(leg) with input as fixture.request
				with data.directory as fixture.with_attribute(leg, "status", value)
		}
	}
}

test_a_leg_that_nobody_knows_is_neither_known_nor_active if {
	request := object.union(fixture.request, {"agent": {"id": "stranger"}})
	not "agent" in legs.known with input as request with data.directory as fixture.directory
	not "agent" in legs.active with input as request with data.directory as fixture.directory
}

test_an_entry_of_another_type_does_not_speak if {
	request := object.union(fixture.request, {"subject": {"type": "service"}})
	not "subject" in legs.known with input as request with data.directory as fixture.directory
}

test_an_agent_does_not_borrow_the_entry_of_a_subject if {
	request := object.union(fixture.request, {"agent": {"type": "user", "id": "ann"}})
	not "agent" in legs.known with input as request with data.directory as fixture.directory
}

test_properties_count_only_where_verified_is_true if {
	every value in [false, null, 1, "true", [], {}] {
		party := {"type": "user", "id": "new", "properties": fixture.party, "verified": value}
		request := object.union(json.remove(fixture.request, ["subject"]), {"subject": party})
		not "subject" in legs.known with input as request with data.directory as fixture.directory
	}
}

test_verified_properties_speak_for_a_party_outside_the_directory if {
	party := {"type": "user", "id": "new", "properties": fixture.party, "verified": true}
	request := object.union(fixture.request, {"subject": party})
	"subject" in legs.active with input as request with data.directory as fixture.directory
}

test_verified_properties_narrow if {
	every leg, _ in fixture.entries {
		denied_for(leg) with input as fixture.verified(leg, {"status": "suspended"})
			with data.directory as fixture.directory
	}
}

test_properties_that_are_no_object_do_not_speak if {
	every value in [null, -1, "active", true, ["active"]] {
		party := {"type": "user", "id": "new", "properties": value, "verified": true}
		request := object.union(json.remove(fixture.request, ["subject"]), {"subject": party})
		not "subject" in legs.known with input as request with data.directory as fixture.directory
	}
}

test_a_party_that_is_no_object_has_no_source if {
	every value in [null, -1, "ann", true, ["ann"]] {
		request := object.union(json.remove(fixture.request, ["subject"]), {"subject": value})
		not "subject" in legs.known with input as request with data.directory as fixture.directory
	}
}

test_an_entry_that_is_no_object_does_not_speak if {
	every value in [null, -1, "active", true, ["active"]] {
		directory := object.union(fixture.directory, {"subjects": {"user": {"ann": value}}})
		not "subject" in legs.known with input as fixture.request with data.directory as directory
	}
}

denied_for(leg) if {
	not leg in legs.active
	some reason in legs.deny
	reason.leg == leg
	reason.code == "leg_not_active"
	reason.rule == "MESH-LEG-1"
}
