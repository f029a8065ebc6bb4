package edict.edict_test

import data.edict
import data.mesh.fixture_test as fixture

# The tests beside each rule try more of them.
wrong_values := [null, -1, true, []]

attributes := ["status", "clearance", "region", "window", "entitlements"]

test_the_fixture_is_allowed if {
	edict.decide == {
		"version": 1,
		"allow": true,
		"reasons": [{"code": "permitted", "rule": "EDICT-1", "message": "Every party is permitted on its own."}],
		"obligations": [],
		"advice": [],
		"legs": {"subject": true, "agent": true, "chain/0": true},
		"expires_in_s": 5,
	} with input as fixture.request with data.directory as fixture.directory
}

test_a_tool_call_is_allowed if {
	edict.allow with input as fixture.tool_call with data.directory as fixture.directory
}

test_every_leg_must_be_permitted_on_its_own if {
	every leg, _ in fixture.entries {
		every attribute in attributes {
			denied_by_leg(leg) with input as fixture.request
				with data.directory as fixture.without_attribute(leg, attribute)
			every value in wrong_values {
				denied_by_leg(leg) with input as fixture.request
					with data.directory as replaced(leg, attribute, value)
				denied_by_leg(leg) with input as fixture.verified(leg, {attribute: value})
					with data.directory as fixture.directory
			}
		}
	}
}

test_no_hop_makes_up_for_another if {
	rich := object.union(fixture.party, {"clearance": "restricted", "entitlements": {"hr": ["read", "export"]}})
	others := {"agent": {"verified": true, "properties": rich}}
	request := object.union(fixture.request, others)
	denied_by_leg("subject") with input as request
		with data.directory as fixture.without_attribute("subject", "entitlements")
}

test_a_further_hop_only_narrows if {
	hop := {"type": "agent", "id": "stranger", "properties": {}, "verified": false}
	request := object.union(fixture.request, {"agent": {"chain": [fixture.request.agent.chain[0], hop]}})
	denied_by_leg("chain/1") with input as request with data.directory as fixture.directory
}

test_a_malformed_request_is_denied if {
	every request in [{}, null, [], object.remove(fixture.request, ["time"]), object.union(fixture.request, {"agent": null})] {
		decision := edict.decide with input as request with data.directory as fixture.directory
		decision.allow == false
		some reason in decision.reasons
		reason.code == "request_malformed"
	}
}

test_without_a_directory_nothing_is_allowed if {
	every directory in [{}, null, [], "none", -1] {
		decision := edict.decide with input as fixture.request with data.directory as directory
		decision.allow == false
		count(decision.reasons) > 0
	}
}

test_an_unknown_resource_leaves_no_leg_permitted if {
	request := object.union(fixture.request, {"resource": {"id": "hr.new"}})
	decision := edict.decide with input as request with data.directory as fixture.directory
	decision.allow == false
	decision.legs == {"subject": false, "agent": false, "chain/0": false}
	[reason.code | some reason in decision.reasons] == ["resource_unknown"]
}

test_a_prohibition_outweighs_every_grant if {
	prohibition := {
		"rule": "HR-DATA-9",
		"message": "Nobody reads this now.",
		"actions": ["read"],
		"domains": ["hr"],
		"applies_to": "everyone",
	}
	directory := object.union(fixture.directory, {"prohibitions": [prohibition]})
	decision := edict.decide with input as fixture.request with data.directory as directory
	decision.allow == false
	decision.legs == {"subject": true, "agent": true, "chain/0": true}
	[reason.rule | some reason in decision.reasons] == ["HR-DATA-9"]
}

test_a_request_without_a_purpose_is_denied_though_every_leg_is_permitted if {
	decision := edict.decide with input as object.remove(fixture.request, ["context"])
		with data.directory as fixture.directory
	decision.allow == false
	decision.legs == {"subject": true, "agent": true, "chain/0": true}
	[reason.code | some reason in decision.reasons] == ["purpose_missing"]
}

test_a_leg_that_every_rule_permits_is_denied_by_its_rate_limit if {
	decision := edict.decide with input as fixture.request
		with data.directory as fixture.with_attribute("agent", "calls_per_minute", 0)
	decision.allow == false
	decision.legs == {"subject": true, "agent": false, "chain/0": true}
	[reason.code | some reason in decision.reasons] == ["rate_limit_invalid"]
}

test_obligations_come_with_an_allow_and_forbid_reuse if {
	request := object.union(fixture.request, {"context": {"purpose": "study"}})
	decision := edict.decide with input as request with data.directory as fixture.directory
	decision.allow == true
	[duty.type | some duty in decision.obligations] == ["redact"]
	not decision.expires_in_s
}

test_a_denial_has_neither_obligations_nor_advice_nor_reuse if {
	request := object.union(fixture.request, {"context": {"purpose": "study"}})
	decision := edict.decide with input as request
		with data.directory as fixture.without_attribute("agent", "status")
	decision.allow == false
	decision.obligations == []
	decision.advice == []
	not decision.expires_in_s
}

test_an_answer_is_not_reused_past_a_window if {
	decision := edict.decide with input as fixture.request
		with data.directory as fixture.with_attribute("chain/0", "window", "office")
	decision.allow == true
	not decision.expires_in_s
}

test_a_wrong_reuse_time_means_none if {
	every value in [null, -1, 0, 3601, true, "5", [], {}] {
		decision := edict.decide with input as fixture.request
			with data.directory as object.union(fixture.directory, {"reuse_s": {"confidential": value}})
		decision.allow == true
		not decision.expires_in_s
	}
}

replaced(leg, attribute, value) := object.union(
	fixture.without_attribute(leg, attribute),
	fixture.nested(fixture.entries[leg], {attribute: value}),
)

denied_by_leg(leg) if {
	decision := edict.decide
	decision.allow == false
	decision.legs[leg] == false
	others := {other | some other, permitted in decision.legs; other != leg; permitted == false}
	count(others) == 0
	legs := {reason.leg | some reason in decision.reasons}
	legs == {leg}
}
