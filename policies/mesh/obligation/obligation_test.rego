package mesh.obligation_test

import data.mesh.fixture_test as fixture
import data.mesh.obligation

study := object.union(fixture.request, {"context": {"purpose": "study"}})

columns(value) := object.union(
	json.remove(fixture.directory, ["resources/dataset/hr.salaries/personal_columns"]),
	{"resources": {"dataset": {"hr.salaries": {"personal_columns": value}}}},
)

test_rows_bring_no_obligation if {
	count(obligation.obligations) == 0 with input as fixture.request with data.directory as fixture.directory
	count(obligation.deny) == 0 with input as fixture.request with data.directory as fixture.directory
}

test_an_aggregate_purpose_redacts if {
	expected := {"id": "MESH-OBL-1/0", "type": "redact", "properties": {"columns": ["name"]}}
	obligation.obligations == {expected} with input as study with data.directory as fixture.directory
	count(obligation.deny) == 0 with input as study with data.directory as fixture.directory
}

test_an_aggregate_purpose_without_columns_denies if {
	denied("resource_columns_missing") with input as study
		with data.directory as json.remove(fixture.directory, ["resources/dataset/hr.salaries/personal_columns"])
	every value in [null, -1, true, "name", {}, [null], [1]] {
		denied("resource_columns_missing") with input as study with data.directory as columns(value)
	}
}

test_a_tool_has_no_columns if {
	request := object.union(fixture.tool_call, {"context": {"purpose": "study"}})
	count(obligation.obligations) == 0 with input as request with data.directory as fixture.directory
	count(obligation.deny) == 0 with input as request with data.directory as fixture.directory
}

test_a_rate_limit_becomes_an_obligation if {
	every leg, _ in fixture.entries {
		expected := {
			"id": concat("/", ["MESH-OBL-2", leg]),
			"type": "rate_limit",
			"properties": {"leg": leg, "calls_per_minute": 10},
		}
		obligation.obligations == {expected} with input as fixture.request
			with data.directory as fixture.with_attribute(leg, "calls_per_minute", 10)
	}
}

test_the_lower_rate_limit_wins if {
	every leg, _ in fixture.entries {
		some duty in obligation.obligations with input as fixture.verified(leg, {"calls_per_minute": 3})
			with data.directory as fixture.with_attribute(leg, "calls_per_minute", 10)
		duty.properties.calls_per_minute == 3
	}
}

test_a_null_negative_or_wrongly_typed_rate_limit_denies if {
	every leg, _ in fixture.entries {
		every value in [null, -1, 0, 1.5, true, "10", [], {}] {
			denied_for(leg) with input as fixture.request
				with data.directory as fixture.with_attribute(leg, "calls_per_minute", value)
		}
	}
}

test_a_restricted_resource_is_to_be_logged if {
	restricted := object.union(fixture.directory, {"resources": {"dataset": {"hr.salaries": {"sensitivity": "restricted"}}}})
	count(obligation.advice) == 1 with input as fixture.request with data.directory as restricted
	count(obligation.advice) == 0 with input as fixture.request with data.directory as fixture.directory
}

denied(code) if {
	some reason in obligation.deny
	reason.code == code
}

denied_for(leg) if {
	count(obligation.obligations) == 0
	some reason in obligation.deny
	reason.code == "rate_limit_invalid"
	reason.leg == leg
}
