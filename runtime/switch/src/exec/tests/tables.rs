//! Tables as the packet path sees them: what follows a hit, defaults, profiles, direct resources.

use crate::sample::{Sample, assign, field, hex, once, param, primitive, send};
use crate::{
    ActionCall, Bits, Config, ControlError, CounterValue, Entry, EntryAction, GroupId, LoadError,
    Match, MemberId, MeterRate, Pipeline, Quirks, TableId,
};
use serde_json::json;

const TABLE: TableId = TableId(0);

/// One exact table on a byte; `to` sends to a port, `nop` does nothing and is the default.
fn sample() -> Sample {
    let mut sample = Sample::new();
    sample.header("h", &[("a", 8)]);
    sample.action("nop", &[], json!([]));
    sample.action("to", &[("port", 9)], json!([send(param(0))]));
    sample.table(0, "t", "exact", &[("exact", ["h", "a"])], &["nop", "to"]);
    sample
}

fn call(switch: &crate::Switch, name: &str, port: Option<u64>) -> ActionCall {
    let action = switch.schema().table_action(TABLE, name).unwrap();
    ActionCall::new(action, port.map(Bits::from))
}

fn insert(switch: &mut crate::Switch, key: u64, port: u64) -> crate::EntryHandle {
    let call = call(switch, "to", Some(port));
    switch
        .table_insert(0, TABLE, Entry::new(vec![Match::exact(key)], 0, call))
        .unwrap()
}

#[test]
fn hit_and_miss_may_go_different_ways() {
    let mut sample = sample();
    sample.action("mark", &[], json!([assign(field("h", "a"), hex(0xee))]));
    sample.table(0, "after", "exact", &[], &["mark"]);
    *sample.at("/pipelines/0/tables/0/next_tables") = json!({"__HIT__": "after", "__MISS__": null});
    let mut switch = sample.switch();
    insert(&mut switch, 1, 5);
    assert_eq!(once(&mut switch, 0, &[1]), vec![(5, vec![0xee])]);
    assert_eq!(once(&mut switch, 0, &[2]), vec![(0, vec![2])]);
}

#[test]
fn the_action_that_ran_may_decide_where_to_go() {
    let mut sample = sample();
    sample.action("mark", &[], json!([assign(field("h", "a"), hex(0xee))]));
    sample.table(0, "after", "exact", &[], &["mark"]);
    *sample.at("/pipelines/0/tables/0/next_tables") = json!({"nop": null, "to": "after"});
    let mut switch = sample.switch();
    insert(&mut switch, 1, 5);
    assert_eq!(once(&mut switch, 0, &[1]), vec![(5, vec![0xee])]);
    assert_eq!(once(&mut switch, 0, &[2]), vec![(0, vec![2])]);
}

#[test]
fn conditions_branch() {
    let mut sample = sample();
    let condition = json!({"name": "node", "id": 0, "true_next": "t", "false_next": null,
        "expression": {"type": "expression", "value": {"op": "and",
            "left": {"type": "expression", "value": {"op": "d2b", "left": null,
                "right": field("h", "$valid$")}},
            "right": {"type": "expression", "value": {"op": "<", "left": field("h", "a"), "right": hex(5)}}}}});
    sample.push("/pipelines/0/conditionals", condition);
    *sample.at("/pipelines/0/init_table") = json!("node");
    let mut switch = sample.switch();
    insert(&mut switch, 1, 7);
    insert(&mut switch, 6, 7);
    assert_eq!(once(&mut switch, 0, &[1])[0].0, 7);
    assert_eq!(once(&mut switch, 0, &[6])[0].0, 0);
    assert_eq!(once(&mut switch, 0, &[])[0].0, 0);
}

#[test]
fn the_default_action_can_be_changed_and_put_back() {
    let mut switch = sample().switch();
    let to = call(&switch, "to", Some(9));
    switch
        .table_set_default(TABLE, Some(to.clone().into()))
        .unwrap();
    assert_eq!(switch.table_default(TABLE), Ok(Some(to.into())));
    assert_eq!(once(&mut switch, 0, &[1])[0].0, 9);
    switch.table_set_default(TABLE, None).unwrap();
    assert_eq!(once(&mut switch, 0, &[1])[0].0, 0);
}

#[test]
fn what_does_not_fit_a_table_is_refused_without_effect() {
    let mut sample = sample();
    *sample.at("/pipelines/0/tables/0/max_size") = json!(1);
    *sample.at("/pipelines/0/tables/0/default_entry/action_const") = json!(true);
    let mut switch = sample.switch();
    let to = call(&switch, "to", Some(9));
    let try_insert = |switch: &mut crate::Switch, key: Vec<Match>, priority, call: ActionCall| {
        switch
            .table_insert(0, TABLE, Entry::new(key, priority, call))
            .unwrap_err()
    };
    let key = || vec![Match::exact(1)];
    let error = try_insert(&mut switch, vec![Match::exact(0x100)], 0, to.clone());
    assert!(
        matches!(&error, ControlError::BadKey { field, .. } if field == "h.a"),
        "{error}"
    );
    let error = try_insert(&mut switch, vec![Match::Any], 0, to.clone());
    assert!(matches!(error, ControlError::BadKey { .. }));
    let error = try_insert(&mut switch, vec![], 0, to.clone());
    assert_eq!(
        error,
        ControlError::BadKeyLength {
            expected: 1,
            found: 0
        }
    );
    let error = try_insert(&mut switch, key(), 3, to.clone());
    assert!(matches!(error, ControlError::BadPriority { given: 3, .. }));
    let wide = call(&switch, "to", Some(512));
    let error = try_insert(&mut switch, key(), 0, wide);
    assert!(matches!(
        error,
        ControlError::ParameterTooWide { width: 9, .. }
    ));
    let none = call(&switch, "to", None);
    let error = try_insert(&mut switch, key(), 0, none);
    assert!(matches!(
        error,
        ControlError::BadParameterCount {
            expected: 1,
            found: 0,
            ..
        }
    ));
    let idle = Entry {
        idle_timeout: 5,
        ..Entry::new(key(), 0, to.clone())
    };
    assert!(matches!(
        switch.table_insert(0, TABLE, idle),
        Err(ControlError::NoTimeout(_))
    ));
    let refused = switch.table_set_default(TABLE, Some(to.clone().into()));
    assert!(matches!(refused, Err(ControlError::ConstDefaultAction(_))));
    assert_eq!(switch.table_len(TABLE), Ok(0));
    insert(&mut switch, 1, 2);
    let error = try_insert(&mut switch, vec![Match::exact(2)], 0, to);
    assert_eq!(
        error,
        ControlError::TableFull {
            name: "t".into(),
            size: 1
        }
    );
}

#[test]
fn entries_of_the_program_are_there_from_the_start_and_low_priorities_win() {
    let mut sample = Sample::new();
    sample.header("h", &[("a", 8)]);
    sample.action("to", &[("port", 9)], json!([send(param(0))]));
    sample.table(0, "t", "ternary", &[("ternary", ["h", "a"])], &["to"]);
    let entry = |key: &str, mask: &str, priority: u32, port: &str| {
        json!({"match_key": [{"match_type": "ternary", "key": key, "mask": mask}],
            "action_entry": {"action_id": 0, "action_data": [port]}, "priority": priority})
    };
    *sample.at("/pipelines/0/tables/0") = {
        let mut table = sample.at("/pipelines/0/tables/0").clone();
        table["entries"] = json!([entry("0x1", "0x1", 2, "0x5"), entry("0x2", "0x2", 1, "0x6")]);
        table
    };
    let mut switch = sample.switch();
    let ports: Vec<u16> = [0, 1, 2, 3]
        .map(|a| once(&mut switch, 0, &[a])[0].0)
        .to_vec();
    assert_eq!(ports, [0, 5, 6, 6]);
    let first = switch.table_entries(TABLE).unwrap()[0];
    assert!(switch.table_get(TABLE, first).unwrap().initial);
    assert!(matches!(
        switch.table_delete(TABLE, first),
        Err(ControlError::ConstTable(_))
    ));
    switch.table_set_const(TABLE, false).unwrap();
    assert_eq!(switch.table_delete(TABLE, first), Ok(()));
    // The same key twice cannot be.
    let doubled = json!([entry("0x1", "0x1", 2, "0x5"), entry("0x1", "0x1", 2, "0x5")]);
    sample.at("/pipelines/0/tables/0")["entries"] = doubled;
    let error = Pipeline::parse(&sample.text()).unwrap_err();
    assert!(
        matches!(&error, LoadError::Invalid { at, .. } if at == "/pipelines/0/tables/0/entries/1"),
        "{error}"
    );
}

#[test]
fn fields_of_an_invalid_header_match_as_zero() {
    let mut sample = sample();
    let remove = primitive("remove_header", json!([{"type": "header", "value": "h"}]));
    sample.action("gone", &[], json!([remove]));
    sample.table(0, "first", "exact", &[], &["gone"]);
    // Run `first` before `t`.
    *sample.at("/pipelines/0/init_table") = json!("first");
    *sample.at("/pipelines/0/tables/1/next_tables/gone") = json!("t");
    *sample.at("/pipelines/0/tables/0/next_tables") = json!({"nop": null, "to": null});
    *sample.at("/pipelines/0/tables/0/base_default_next") = json!(null);
    let mut switch = sample.switch();
    insert(&mut switch, 0, 8);
    insert(&mut switch, 5, 9);
    assert_eq!(once(&mut switch, 0, &[5, 1]), vec![(8, vec![1])]);
}

#[test]
fn a_direct_counter_counts_hits_and_survives_modify_but_not_delete() {
    let mut sample = sample();
    sample.push(
        "/counter_arrays",
        json!({"name": "c", "id": 0, "is_direct": true, "binding": "t"}),
    );
    let mut switch = sample.switch();
    let handle = insert(&mut switch, 1, 2);
    once(&mut switch, 0, &[1, 2, 3]);
    once(&mut switch, 0, &[9]);
    let to = call(&switch, "to", Some(7));
    switch
        .table_modify(0, TABLE, handle, to.into(), 0, vec![1])
        .unwrap();
    once(&mut switch, 0, &[1]);
    let view = switch.table_get(TABLE, handle).unwrap();
    assert_eq!(
        view.counter,
        Some(CounterValue {
            packets: 2,
            bytes: 4
        })
    );
    assert_eq!(view.entry.metadata, [1]);
    assert_eq!(
        switch.default_counter(TABLE),
        Ok(CounterValue {
            packets: 1,
            bytes: 1
        })
    );
    switch.table_delete(TABLE, handle).unwrap();
    let handle = insert(&mut switch, 1, 2);
    assert_eq!(
        switch.table_get(TABLE, handle).unwrap().counter,
        Some(CounterValue::default())
    );
}

#[test]
fn a_direct_meter_writes_its_colour_before_the_action_runs() {
    let mut sample = sample();
    sample.scalar("color", 8);
    sample.push(
        "/meter_arrays",
        json!({"name": "m", "id": 0, "is_direct": true, "rate_count": 2,
        "type": "bytes", "result_target": ["scalars", "color"], "binding": "t"}),
    );
    sample.run(
        0,
        json!([assign(field("h", "a"), field("scalars", "color"))]),
    );
    let mut switch = sample.switch();
    let handle = insert(&mut switch, 1, 2);
    let rate = |burst| MeterRate {
        per_micro: 0.0,
        burst,
    };
    switch
        .entry_meter_set(TABLE, handle, Some([rate(2), rate(3)]))
        .unwrap();
    let colors: Vec<u8> = (0..4).map(|_| once(&mut switch, 0, &[1])[0].1[0]).collect();
    assert_eq!(colors, [0, 0, 1, 2]);
}

#[test]
fn idle_entries_are_reported_again_after_every_further_timeout() {
    let mut sample = sample();
    *sample.at("/pipelines/0/tables/0/support_timeout") = json!(true);
    for quirk in [false, true] {
        let quirks = Quirks {
            idle_sweep_each_second: quirk,
            ..Quirks::default()
        };
        let mut switch = sample.switch_with(Config {
            quirks,
            ..Config::default()
        });
        let to = call(&switch, "to", Some(1));
        let entry = Entry {
            idle_timeout: 2_000_000,
            ..Entry::new(vec![Match::exact(1)], 0, to)
        };
        let handle = switch.table_insert(0, TABLE, entry).unwrap();
        let mut seen = Vec::new();
        for tenth in 0..100u64 {
            let now = tenth * 100_000;
            let mut out = crate::Output::new();
            if tenth == 15 {
                switch.step(now, 0, &[1], &mut out);
            }
            let mut notices = Vec::new();
            switch.idle_sweep(now, &mut notices);
            assert!(
                notices
                    .iter()
                    .all(|n| n.entry == handle && n.table == TABLE)
            );
            seen.extend(notices.iter().map(|_| tenth));
        }
        assert_eq!(switch.table_get(TABLE, handle).unwrap().last_hit, 1_500_000);
        let expected: &[u64] = if quirk {
            &[40, 60, 80]
        } else {
            &[35, 55, 75, 95]
        };
        assert_eq!(seen, expected);
    }
}

#[test]
fn whoever_was_modified_deleted_or_inserted_again_is_reported_by_its_new_timeout() {
    let mut sample = sample();
    *sample.at("/pipelines/0/tables/0/support_timeout") = json!(true);
    let mut switch = sample.switch();
    let place = |switch: &mut crate::Switch, now, key, timeout| {
        let to = call(switch, "to", Some(1));
        let entry = Entry {
            idle_timeout: timeout,
            ..Entry::new(vec![Match::exact(key)], 0, to)
        };
        switch.table_insert(now, TABLE, entry).unwrap()
    };
    let sweep = |switch: &mut crate::Switch, now| {
        let mut notices = Vec::new();
        switch.idle_sweep(now, &mut notices);
        notices.iter().map(|n| n.entry).collect::<Vec<_>>()
    };
    let modify = |switch: &mut crate::Switch, now, handle, timeout| {
        let to = call(switch, "to", Some(2)).into();
        switch
            .table_modify(now, TABLE, handle, to, timeout, Vec::new())
            .unwrap();
    };
    let [sooner, never, later] =
        [(1u64, 100), (2, 100), (3, 100)].map(|(key, t)| place(&mut switch, 0, key, t));
    modify(&mut switch, 10, sooner, 50);
    modify(&mut switch, 10, never, 0);
    modify(&mut switch, 10, later, 200);
    let gone = place(&mut switch, 0, 4, 100);
    switch.table_delete(TABLE, gone).unwrap();
    let again = place(&mut switch, 20, 4, 60);
    assert_eq!(sweep(&mut switch, 59), []);
    assert_eq!(sweep(&mut switch, 60), [sooner]);
    assert_eq!(sweep(&mut switch, 100), [again]);
    // One sweep tells of each entry once, in the table's order, however late it comes.
    assert_eq!(sweep(&mut switch, 1_000), [sooner, later, again]);
    assert_eq!(sweep(&mut switch, 1_000), []);
}

/// The table of `sample`, with an action selector over the byte after the key.
fn selector() -> Sample {
    let mut sample = sample();
    sample.header("s", &[("b", 8)]);
    let table = sample.at("/pipelines/0/tables/0");
    table["type"] = json!("indirect_ws");
    table["action_profile"] = json!("ap");
    table.as_object_mut().unwrap().remove("default_entry");
    sample.push(
        "/pipelines/0/action_profiles",
        json!({"name": "ap", "id": 0, "max_size": 3,
        "selector": {"algo": "identity", "input": [field("s", "b")]}}),
    );
    sample
}

#[test]
fn groups_choose_members_by_hash_and_weight() {
    let mut switch = selector().switch();
    let profile = switch.schema().action_profile("ap").unwrap();
    for (id, port) in [(7, 17), (3, 13)] {
        let to = call(&switch, "to", Some(port));
        switch.member_create(profile, MemberId(id), to).unwrap();
    }
    let members = [(MemberId(7), 1), (MemberId(3), 2)];
    switch.group_create(profile, GroupId(1), &members).unwrap();
    let entry = |key, action| Entry::new(vec![Match::exact(key)], 0, action);
    switch
        .table_insert(0, TABLE, entry(1, EntryAction::Group(GroupId(1))))
        .unwrap();
    switch
        .table_insert(0, TABLE, entry(2, EntryAction::Member(MemberId(7))))
        .unwrap();
    let port = |switch: &mut crate::Switch, a, b| once(switch, 0, &[a, b])[0].0;
    assert_eq!(
        [0, 1, 2, 3].map(|b| port(&mut switch, 1, b)),
        [13, 13, 17, 13]
    );
    assert_eq!(port(&mut switch, 2, 9), 17);
    assert_eq!(
        port(&mut switch, 3, 9),
        0,
        "a miss without default does nothing"
    );
    assert_eq!(
        switch.member_delete(profile, MemberId(3)),
        Err(ControlError::InUse)
    );
    assert_eq!(
        switch.group_delete(profile, GroupId(1)),
        Err(ControlError::InUse)
    );
    let missing = switch.table_insert(0, TABLE, entry(4, EntryAction::Member(MemberId(9))));
    assert_eq!(missing, Err(ControlError::NoSuchMember(MemberId(9))));
    let to = call(&switch, "to", Some(1));
    let direct = switch.table_insert(0, TABLE, entry(4, to.clone().into()));
    assert!(matches!(direct, Err(ControlError::WrongEntryKind { .. })));
    switch
        .member_modify(profile, MemberId(7), call(&switch, "to", Some(27)))
        .unwrap();
    assert_eq!(port(&mut switch, 2, 9), 27);
    switch.group_modify(profile, GroupId(1), &[]).unwrap();
    assert_eq!(port(&mut switch, 1, 0), 0, "an empty group does nothing");
}
