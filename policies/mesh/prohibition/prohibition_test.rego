package mesh.prohibition_test

import data.mesh.fixture_test as fixture
import data.mesh.prohibition

entry := {
	"rule": "HR-DATA-9",
	"message": "Nobody reads this now.",
	"actions": ["read"],
	"domains": ["hr"],
	"applies_to": "everyone",
}

with_entries(entries) := object.union(object.remove(fixture.directory, ["prohibitions"]), {"prohibitions": entries})

test_without_prohibitions_nothing_is_denied if {
	count(prohibition.deny) == 0 with input as fixture.request with data.directory as fixture.directory
}

test_a_prohibition_denies_with_its_own_rule_and_message if {
	prohibition.deny == {{"code": "prohibited", "rule": "HR-DATA-9", "message": "Nobody reads this now."}} with input as fixture.request
		with data.directory as with_entries([entry])
}

test_a_prohibition_for_agents_leaves_the_subject_alone if {
	agents := object.union(entry, {"applies_to": "agents"})
	count(prohibition.deny) == 1 with input as fixture.request with data.directory as with_entries([agents])
	count(prohibition.deny) == 0 with input as object.remove(fixture.request, ["agent"])
		with data.directory as with_entries([agents])
}

test_other_actions_and_domains_are_not_concerned if {
	every change in [{"actions": ["export"]}, {"domains": ["sales"]}, {"actions": []}, {"domains": []}] {
		count(prohibition.deny) == 0 with input as fixture.request
			with data.directory as with_entries([object.union(entry, change)])
	}
}

test_an_entry_that_cannot_be_read_denies_everything if {
	every member in ["rule", "message", "actions", "domains", "applies_to"] {
		unreadable with input as fixture.request
			with data.directory as with_entries([object.remove(entry, [member])])
		every value in [null, -1, true, {}] {
			unreadable with input as fixture.request
				with data.directory as with_entries([object.union(object.remove(entry, [member]), {member: value})])
		}
	}
}

test_a_list_that_is_no_list_denies_everything if {
	unreadable with input as fixture.request with data.directory as object.remove(fixture.directory, ["prohibitions"])
	every value in [null, -1, true, "none", {}] {
		unreadable with input as fixture.request with data.directory as with_entries(value)
	}
}

unreadable if {
	some reason in prohibition.deny
	reason.code == "policy_data_invalid"
	reason.rule == "MESH-PRO-1"
}
